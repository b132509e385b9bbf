"""Targets files: what follows from a metric and its target, and what does not fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pytest_mooncake.analysis.figures.metrics import METRICS
from pytest_mooncake.errors import PlanError, UsageError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import targets_of
from pytest_mooncake.plan.sources.lookup import packed_fixtures
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.plan.targets.metrics import NAMED
from pytest_mooncake.plan.targets.models import Target, TargetsPlan
from pytest_mooncake.plan.targets.slo import Limit, parse_goodput


def read(tmp_path: Path, text: str) -> TargetsPlan:
    path = tmp_path / "targets.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, TargetsPlan, name="mine")


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(PlanError) as refused:
        read(tmp_path, text)
    return str(refused.value).removeprefix(f"{tmp_path}/targets.yaml:")


def test_the_packed_targets_are_the_reports_three_and_two_of_which_nothing_is_asked() -> None:
    plan = load(packed_fixtures() / "targets" / "default.yaml", TargetsPlan, name="default")
    asked = [(c.metric, c.direction, c.ratio, c.stated, c.gating) for c in plan.claims if c.is_asked]
    assert asked == [
        ("ttft_mean", "lower", 0.4, "-60 %", True),
        ("request_throughput", "higher", 2.5, "+150 %", True),
        ("tpot_mean", "lower", 1.1, "stable", True),
    ]
    rest = [(c.metric, c.ratio, c.bound, c.gating) for c in plan.claims if not c.is_asked]
    assert rest == [("ttft_p90", None, None, False), ("output_token_throughput", None, None, False)]
    assert (plan.confidence, plan.warm_hit_share) == (0.95, 0.99)


def test_titles_and_the_good_side_follow_from_the_metric() -> None:
    assert Target(metric="ttft_p90", target="down 60 %").title == "P90 TTFT"
    assert Target(metric="ttft_p90", target="<= 450 ms").title == "P90 TTFT (warm)"
    assert Target(metric="request_throughput", ratio=2.0).direction == "higher"
    assert Target(metric="ttft_mean", ratio=0.5).direction == "lower"
    assert Target(metric="ttft_mean", ratio=0.5, title="mine").title == "mine"


def test_claims_on_bounds_have_a_name_of_their_own() -> None:
    assert Target(metric="ttft_mean", target="down 60 %").claim_id == "ttft_mean"
    assert Target(metric="ttft_mean", target="<= 450 ms").claim_id == "ttft_mean_warm"
    assert Target(metric="ttft_mean", target="<= 2 s cold").claim_id == "ttft_mean_cold"


@pytest.mark.parametrize("target", ["down >= 60 %", "<= 450 ms", "<= 2 s cold", "within 10 %", "stable"])
def test_a_plan_that_was_written_down_reads_back_the_same(target: str) -> None:
    plan = TargetsPlan(
        name="t", goodput=parse_goodput("ttft_ms<=5"), claims=(Target(metric="ttft_mean", target=target),)
    )
    assert TargetsPlan.model_validate(plan.model_dump(mode="json")) == plan


def test_every_metric_can_be_read_from_a_round() -> None:
    assert set(METRICS) == set(NAMED)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{metric: ttft_maen, gating: false}", "2: claims.0.metric: no metric is called 'ttft_maen'; did you mean"),
        ("{metric: ttft_mean, target: '60'}", "2: claims.0.target: '60' is no target; write 'down >= 60 %'"),
        ("{metric: ttft_mean}", "2: claims.0: nothing is asked of it; give a target, or gating: false"),
        ("{metric: ttft_mean, ratio: 0.4, bound: 5}", "2: claims.0: a ratio and a bound were given"),
        ("{metric: ttft_mean, target: down 60 %, ratio: 0.5}", "2: claims.0: target 'down 60 %' means ratio 0.4, and"),
        ("{metric: ttft_mean, ratio: 0.4, margin: 0.1}", "2: claims.0: the key 'margin' belongs to a target like"),
        ("{metric: stall_share, ratio: 0.4}", "2: claims.0: a share of stalled requests has no ratio"),
        ("{metric: goodput, target: '>= 5 req/s'}", "1: a claim on goodput needs its service level: add a line like"),
        ("{metric: ttft_mean, target: down 6 %, confidence: 0.3}", "2: value 0.3 of 'claims.0.confidence'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    assert refusal(tmp_path, f"claims:\n  - {line}\n").startswith(message)


def test_a_claim_made_twice_is_refused_but_a_ratio_and_a_bound_are_two(tmp_path: Path) -> None:
    first = "claims:\n  - {metric: ttft_mean, target: down 60 %}\n"
    both = read(tmp_path, f"{first}  - {{metric: ttft_mean, target: <= 450 ms}}\n".replace("<= 450 ms", "'<= 450 ms'"))
    assert [claim.claim_id for claim in both.claims] == ["ttft_mean", "ttft_mean_warm"]
    assert "ttft_mean is claimed twice" in refusal(tmp_path, f"{first}  - {{metric: ttft_mean, target: down 50 %}}\n")


def test_a_claims_own_confidence_outranks_the_files() -> None:
    strict = Target(metric="ttft_mean", ratio=0.4, confidence=0.99)
    plan = TargetsPlan(name="t", confidence=0.9, claims=(strict, Target(metric="tpot_mean", ratio=1.1)))
    assert [plan.confidence_of(claim) for claim in plan.claims] == [0.99, 0.9]


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("ttft_ms<=500", [("ttft", "each", 500)]),
        ("ttft_p90_ms<=500,tpot_mean_ms<=20", [("ttft", "p90", 500), ("tpot", "mean", 20)]),
        (" ttft_p99_ms ≤ 1.5 , e2e_p50_ms<=9 ", [("ttft", "p99", 1.5), ("e2e", "p50", 9)]),
    ],
)
def test_a_service_level_is_a_list_of_limits(text: str, limits: list[tuple[str, str, float]]) -> None:
    assert [(one.latency, one.part, one.most_ms) for one in parse_goodput(text)] == limits


def test_a_limit_reads_as_it_was_written() -> None:
    assert ",".join(map(str, parse_goodput("ttft_p90_ms<=500, tpot_ms<=20"))) == "ttft_p90_ms<=500,tpot_ms<=20"


@pytest.mark.parametrize("text", ["", "ttft<=5", "ttft_ms>=5", "ttft_p95_ms<=5", "ttft_ms<=0", "ttft_ms<=5,", "x"])
def test_a_limit_that_cannot_be_read_shows_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="write ttft_ms<=500"):
        parse_goodput(text)


def test_a_limit_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="ttft is limited twice"):
        parse_goodput("ttft_ms<=5,ttft_ms<=6")
    assert len(parse_goodput("ttft_ms<=5,ttft_p90_ms<=6")) == 2


def test_the_goodput_option_adds_a_claim_that_is_reported_only(tmp_path: Path) -> None:
    plan = targets_of(Options(goodput="ttft_ms<=500"), tmp_path)
    assert plan.goodput == (Limit(latency="ttft", most_ms=500),)
    assert [c.metric for c in plan.claims if not c.gating][-1] == "goodput"
    again = plan.with_goodput(parse_goodput("tpot_ms<=5"))
    assert [c.metric for c in again.claims].count("goodput") == 1
    assert again.goodput[0].latency == "tpot"


def test_the_goodput_option_names_itself_when_it_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--mooncake-goodput: 'ttft<5' is no limit"):
        targets_of(Options(goodput="ttft<5"), tmp_path)


def test_a_targets_file_may_hold_the_service_level_as_text(tmp_path: Path) -> None:
    plan = read(tmp_path, "goodput: ttft_p90_ms<=500\nclaims:\n  - {metric: goodput, target: up 100 %}\n")
    assert plan.goodput[0].most_ms == 500
    assert refusal(tmp_path, "goodput: fast\nclaims: []\n").startswith("1: goodput: 'fast' is no limit")


def test_numbers_of_a_target_are_frozen() -> None:
    with pytest.raises(ValidationError):
        setattr(Target(metric="ttft_mean", ratio=0.4), "ratio", 0.5)  # noqa: B010 - mypy knows that it is frozen
