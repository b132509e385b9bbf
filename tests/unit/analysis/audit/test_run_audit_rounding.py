"""Figures stand for everything that is rounded to them; laws break only where nothing of that obeys them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.analysis.audit.external_figures import figures_from_mapping, half_a_unit
from pytest_mooncake.analysis.audit.laws.printed import Printed
from pytest_mooncake.analysis.audit.run_audit import audit, audit_rounds
from pytest_mooncake.plan.sources.figures import read_figures
from pytest_mooncake.records import AuditFinding, Kind
from tests.support.made_rounds import a_round, request


def law(name: str, cold: dict[str, Any] | None = None, warm: dict[str, Any] | None = None, **rest: Any) -> AuditFinding:
    figures = figures_from_mapping({"cold": cold or {}, "warm": warm or {}, **rest})
    return {one.law: one for one in audit(figures)}[name]


@pytest.mark.parametrize(
    ("written", "half"),
    [
        ("14.5", 0.05), ("14.50", 0.005), ("1200", 0.5), ("7.0e10", 0.5e9), ("1.2e+03", 50.0), (14.5, 0.05),
        (1200, 0.5), ("1_200", 0.5), ("nan", 0.0), ("no number", 0.0), (None, 0.0), (True, 0.0), ("1e999999", 0.0),
    ],
)  # fmt: skip
def test_half_a_unit_of_the_last_digit_is_read_from_how_a_number_is_written(written: object, half: float) -> None:
    assert half_a_unit(written) == pytest.approx(half)


def test_bounds_of_sums_products_and_quotients_hold_every_rounding() -> None:
    two, three = Printed.rounded(2, 0.5), Printed.rounded(3, 0.5)
    assert two + three == Printed(5, 4, 6)
    assert two * three == Printed(6, 3.75, 8.75)
    assert (three / two).low == pytest.approx(1)
    assert (three / two).high == pytest.approx(3.5 / 1.5)
    assert Printed.exactly(1) / Printed.rounded(0, 0.5) == Printed(float("inf"), 2, float("inf"))
    assert Printed.exactly(0) / Printed.exactly(0) == Printed.exactly(0)
    assert Printed.rounded(0.2, 0.5).minus(1) == Printed.exactly(0)


def test_digits_are_read_from_the_text_of_a_file(tmp_path: Path) -> None:
    yaml_file, table = tmp_path / "figures.yaml", tmp_path / "figures.csv"
    yaml_file.write_text(
        "requests: 30\ncold: {ttft_ms: {mean: 14.50}, output_tokens: 3840}\nwarm: {}\n", encoding="utf-8"
    )
    table.write_text("metric,cold,warm\nttft_ms.mean,14.50,7.0\nrequest_throughput,2.5,3\n", encoding="utf-8")
    halves = [figures_from_mapping(read_figures(path, tmp_path)[1]).halves for path in (yaml_file, table)]
    assert halves[0] == {"cold.ttft_ms.mean": 0.005}
    assert halves[1] == {
        "cold.ttft_ms.mean": 0.005, "warm.ttft_ms.mean": 0.05, "cold.request_throughput": 0.05,
        "warm.request_throughput": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(("p90", "status"), [(9.9, "held"), (9.8, "broken")])
def test_percentiles_that_rounding_may_have_swapped_are_in_order(p90: float, status: str) -> None:
    assert law("order.cold", {"ttft_ms": {"p50": 10.0, "p90": p90}}).status == status


def test_every_pair_that_is_out_of_order_is_told() -> None:
    found = law("order.warm", warm={"ttft_ms": {"p50": 50.0, "p90": 40.0, "mean": 10.0}, "e2e_ms": {"p90": 30.0}})
    assert found.detail == (
        "TTFT P50 50 ms exceeds TTFT P90 40 ms; TTFT P90 40 ms exceeds E2E P90 30 ms; "
        "TTFT P50 50 ms exceeds 2 × TTFT mean 20.4 ms"
    )


@pytest.mark.parametrize(("rung", "most"), [("p50", 2), ("p90", 10), ("p95", 20), ("p99", 100)])
def test_a_percentile_is_at_most_so_many_means(rung: str, most: int) -> None:
    for times, status in ((most, "held"), (most * 1.05, "broken")):
        side = {"ttft_ms": {"mean": 100.0, rung: 100.0 * times, "min": 1.0}}
        assert law("order.cold", side).status == status
    assert law("order.cold", side | {"failed": 3}).status == "held", "failures rank last"


@pytest.mark.parametrize(("rate", "status"), [(2.0, "held"), (2.6, "warning"), (3.2, "broken")])
def test_a_latency_put_together_from_means_only_warns(rate: float, status: str) -> None:
    """100 + 100 × 20 ms are 2.1 s; 4 at a time are 1.9 a second."""
    side = {"ttft_ms": {"mean": 100.0}, "tpot_ms": {"mean": 20.0}, "request_throughput": rate}
    found = law("little.cold", side, concurrency=4, output_tokens=101)
    assert found.status == status


def test_a_ttft_that_alone_is_too_much_for_the_slots_is_broken_whatever_the_rest() -> None:
    side = {"ttft_ms": {"mean": 2000.0}, "tpot_ms": {"mean": 1.0}, "request_throughput": 2.2}
    assert law("little.cold", side, concurrency=4, output_tokens=101).status == "broken"
    assert law("little.cold", side, concurrency=4, output_tokens=1).status == "broken"


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({"failed": 0}, "broken"), ({}, "warning"), ({"failed": 6}, "held"), ({"makespan_s": 60.0}, "broken"),
        ({"makespan_s": 3.0}, "broken"),
    ],
)  # fmt: skip
def test_throughput_is_requests_over_makespan_unless_requests_may_have_failed(
    counts: dict[str, Any], status: str
) -> None:
    side = {"request_throughput": 2.40, "makespan_s": 10.0, "requests": 30, **counts}
    assert law("rate.cold", side).status == status


def test_totals_are_requests_times_tokens_unless_requests_may_have_failed() -> None:
    side = {"output_tokens": 3000, "prompt_tokens": 30_000, "requests": 30}
    rest: dict[str, Any] = {"output_tokens": 128, "prompt_tokens": 1000}
    assert law("totals_output.cold", side, **rest).status == "warning"
    assert law("totals_output.cold", side | {"failed": 0}, **rest).status == "broken"
    assert law("totals_prompt.cold", side, **rest).status == "held"


@pytest.mark.parametrize(("total", "status"), [(30 * 128, "held"), (30 * 150, "warning"), (30 * 200, "broken")])
def test_a_chat_template_may_add_to_each_prompt(total: int, status: str) -> None:
    assert law("totals_prompt.cold", {"prompt_tokens": total, "requests": 30}, prompt_tokens=128).status == status


@pytest.mark.parametrize(
    ("side", "cached", "status"),
    [
        ("cold", 0, "held"), ("cold", 6000, "warning"), ("cold", 9500, "broken"), ("warm", 9500, "held"),
        ("warm", 10_100, "broken"),
    ],
)  # fmt: skip
def test_no_more_is_cached_than_there_is_and_hardly_anything_cold(side: str, cached: int, status: str) -> None:
    figures = {side: {"cached_tokens": cached, "prompt_tokens": 10_000}}
    assert law(f"cached.{side}", **figures).status == status
    each = {side: {"cached_tokens": cached, "requests": 10}}
    assert law(f"cached.{side}", **each, prompt_tokens=1000).status == status


@pytest.mark.parametrize(("makespan_s", "status"), [(9.0, "held"), (7.8, "broken")])
def test_no_request_outlasts_them_all(makespan_s: float, status: str) -> None:
    side = {"e2e_ms": {"mean": 5000.0, "p95": 8200.0}, "makespan_s": makespan_s}
    assert law("longest.cold", side).status == status
    rate = {"e2e_ms": {"mean": 5000.0, "p95": 8200.0}, "request_throughput": 100 / makespan_s}
    assert law("longest.cold", rate, requests=100).status == {"held": "not_applicable", "broken": "warning"}[status]


@pytest.mark.parametrize(
    ("model", "tpot", "status"),
    [
        ({"parameters": 1e9}, 2.1, "held"),
        ({"parameters": 1e9}, 1.0, "warning"),
        ({"parameters": 1e9}, 0.3, "broken"),
        ({"parameters": 1e9, "weight_bytes": 2e9}, 1.5, "broken"),
        ({"parameters": 1e9, "weight_bytes": 0.5e9}, 0.6, "held"),
    ],
)
def test_no_step_of_decoding_beats_reading_the_weights(model: dict[str, Any], tpot: float, status: str) -> None:
    """Two GPUs of 500 GB/s read the 2 GB of 10⁹ weights in 16 bits in 2 ms, in 4 bits in 0.5 ms."""
    hardware = {"gpus": 2, "hbm_gb_per_s_per_gpu": 500}
    found = law("decode.warm", warm={"tpot_ms": {"mean": tpot}}, model=model, hardware=hardware)
    assert found.status == status
    spoken = law(
        "decode.warm", warm={"tpot_ms": {"mean": tpot}, "step_ms": 4 * tpot + 2}, model=model, hardware=hardware
    )
    assert spoken.status == "held", "several tokens a step"


def test_measured_rounds_are_left_to_their_records_and_to_evidence() -> None:
    rounds = [
        a_round([request(i) for i in range(3)], number=n, kind=kind) for n, kind in enumerate((Kind.COLD, Kind.WARM))
    ]
    found = {one.law: one for one in audit_rounds(rounds, 3)}
    for name in ("latency.cold", "totals_prompt.warm", "cached.cold"):
        assert found[name].status == "not_applicable"
    assert found["rate.cold"].status == "held"
