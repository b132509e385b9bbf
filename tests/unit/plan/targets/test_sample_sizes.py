"""Claims that no outcome of the run could show are refused before it, with what it would take."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.targets.metrics import quantile_of
from pytest_mooncake.plan.targets.models import Target, TargetsPlan
from pytest_mooncake.plan.targets.sample_sizes import (
    percentile_level,
    refuse_hopeless_claims,
    requests_needed,
    rounds_spread,
    stall_level,
)

LOOKS = (3, 4, 5, 6, 8, 10)


def refusal(requests: int, metric: str, target: str, looks: tuple[int, ...] = LOOKS, **more: object) -> str | None:
    claim = Target.model_validate({"metric": metric, "target": target, **more})
    try:
        refuse_hopeless_claims(TargetsPlan(name="mine", claims=(claim,)), requests, looks)
    except PlanError as error:
        return str(error)
    return None


def test_the_least_sample_of_a_percentile_is_known_beforehand() -> None:
    assert [requests_needed(one, 0.05) for one in (0.5, 0.9, 0.99)] == [5, 29, 299]
    assert requests_needed(0.99, 0.01) == 459


def test_a_p99_of_thirty_requests_is_refused_in_one_line_with_what_bears_it() -> None:
    said = refusal(30, "ttft_p99", "<= 450 ms")
    assert said == (
        "targets mine: ttft_p99_warm: 30 requests a round are 90 in the 3 warm rounds of the first look, and P99 "
        "takes at least 299 independent ones there; give --mooncake-requests 100 or more, a lower percentile, "
        "or gating: false"
    )
    assert refusal(99, "ttft_p99", "<= 450 ms") is not None
    assert refusal(100, "ttft_p99", "<= 450 ms") is None


def test_a_p90_of_thirty_requests_may_be_asked_and_of_nine_not() -> None:
    assert refusal(30, "ttft_p90", "<= 450 ms") is None
    assert refusal(10, "ttft_p90", "<= 450 ms") is None
    said = refusal(9, "ttft_p90", "<= 450 ms")
    assert said is not None
    assert "27 in the 3 warm rounds" in said
    assert "--mooncake-requests 10 or more" in said


def test_what_is_asked_for_bears_the_claim() -> None:
    for looks in (LOOKS, (3,), (5, 10), (2, 3), (10,)):
        for metric, target in (("ttft_p99", "<= 450 ms"), ("e2e_p90", "down 20 %"), ("itl_p50", "<= 2 s cold")):
            said = refusal(1, metric, target, looks)
            assert said is not None
            enough = int(said.split("--mooncake-requests ")[1].split()[0])
            assert refusal(enough, metric, target, looks) is None
            assert refusal(enough - 1, metric, target, looks) is not None


def test_few_rounds_take_more_requests_as_what_differs_between_them_is_hardly_known() -> None:
    said = refusal(30, "ttft_p90", "<= 450 ms", (3,))
    assert said is not None
    assert "90 in the 3 warm rounds of the last look" in said
    assert rounds_spread(3, 0.05 / 6) > 5 * rounds_spread(10, 0.05 / 6) > 5


def test_a_ratio_shares_its_error_between_both_sides() -> None:
    assert refusal(10, "ttft_p90", "<= 450 ms") is None
    assert refusal(11, "ttft_p90", "down 60 %") is not None
    assert refusal(12, "ttft_p90", "down 60 %") is None


def test_a_stricter_claim_takes_more() -> None:
    assert refusal(100, "ttft_p99", "<= 450 ms", confidence=0.99) is not None
    assert refusal(153, "ttft_p99", "<= 450 ms", confidence=0.99) is None


@pytest.mark.parametrize("metric", ["ttft_mean", "request_throughput", "makespan"])
def test_other_claims_are_never_refused_for_their_sample(metric: str) -> None:
    assert refusal(1, metric, "stable") is None


def test_what_gates_nothing_and_what_judges_nothing_is_not_refused() -> None:
    assert refusal(30, "ttft_p99", "<= 450 ms", gating=False) is None
    assert refusal(30, "ttft_p99", "<= 450 ms", (1,)) is None


def test_a_rate_of_stalls_takes_rounds() -> None:
    said = refusal(1000, "stall_share", "<= 5 %")
    assert said is not None
    assert said.startswith(
        "targets mine: stall_share_warm: 10 warm rounds without a stall bound its rate only at 38.0 %"
    )
    assert "5 % takes 59 rounds: give --mooncake-trials 59 (one look)" in said
    assert refusal(30, "stall_share", "<= 5 %", (59,)) is None
    assert refusal(30, "stall_share", "<= 5 %", (58,)) is not None
    assert refusal(30, "stall_share", "<= 39 %") is None
    assert "no run is long enough" in (refusal(30, "stall_share", "<= 1 %") or "")
    assert refusal(30, "stall_share", "<= 100 %") is None
    assert stall_level((59,), 0.05) == 0.05


def test_looks_share_the_error_and_a_single_look_does_not_get_all_of_it() -> None:
    assert percentile_level(LOOKS, 0.06) == pytest.approx(0.01)
    assert percentile_level((10,), 0.06) == pytest.approx(0.01)
    assert percentile_level(tuple(range(2, 14)), 0.06) == pytest.approx(0.005)


def test_only_percentiles_have_a_quantile() -> None:
    assert [quantile_of(one) for one in ("ttft_p50", "itl_p99", "ttft_mean", "makespan", "x_p90")] == [
        0.5, 0.99, None, None, None,
    ]  # fmt: skip


def test_the_plan_refuses_before_anything_is_started_and_a_quick_run_asks_nothing(tmp_path: Path) -> None:
    (tmp_path / "tail.yaml").write_text("claims:\n  - {metric: ttft_p99, target: '<= 2 s'}\n", encoding="utf-8")
    with pytest.raises(PlanError, match="--mooncake-requests 100 or more"):
        resolve(Options(targets="tail.yaml"), tmp_path)
    assert resolve(Options(targets="tail.yaml", quick=True), tmp_path).quick
    assert resolve(Options(targets="tail.yaml", requests="100"), tmp_path).workload.requests == 100
