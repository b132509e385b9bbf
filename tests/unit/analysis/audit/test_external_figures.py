"""Figures from elsewhere: read strictly, judged with no more confidence than they carry."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mooncake.analysis.audit.external_figures import figures_from_mapping, round_figures
from pytest_mooncake.analysis.claims.point_estimates import figure_of, judge_figures, limits_of_figures
from pytest_mooncake.analysis.figures.summary import summarise
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.models import Target, TargetsPlan
from pytest_mooncake.plan.targets.thresholds import Threshold
from pytest_mooncake.records import Verdict
from tests.support.made_rounds import a_round, request, serial
from tests.support.spec_figures import P90, QWEN_72B, RATE, SPEC, SPEC_TABLE, TPOT, TTFT

HARMLESS = {key: value for key, value in SPEC_TABLE.items() if key in ("requests", "cold", "warm")}


def test_the_reports_table_is_invalid_and_shows_its_point_estimates() -> None:
    judgement = judge_figures(figures_from_mapping(SPEC_TABLE), SPEC)
    changes = {claim.id: claim.change_percent for claim in judgement.claims}

    assert judgement.verdict is Verdict.INVALID
    assert [reason.split(":")[1].strip() for reason in judgement.reasons] == [
        "little.warm", "compute", "closed_loop", "bytes",
    ]  # fmt: skip
    assert changes["ttft_mean"] == pytest.approx(-66.7, abs=0.05)
    assert changes["request_throughput"] == pytest.approx(196.0, abs=0.05)
    assert all(claim.ci_ratio is None and claim.confidence is None for claim in judgement.claims)


def test_a_threshold_needs_records_of_requests_and_says_so_of_figures() -> None:
    limited = SPEC.model_copy(update={"thresholds": (Threshold(metric="warm.ttft", threshold="p(99)<2s"),)})
    claim = next(c for c in judge_figures(figures_from_mapping(HARMLESS), limited).claims if c.id.startswith("warm."))
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert claim.reason == "warm.ttft: p(99)<2s: no warm round has a sample of it"


def test_figures_without_a_broken_law_are_at_best_inconclusive() -> None:
    judgement = judge_figures(figures_from_mapping(HARMLESS), SPEC)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "1200 → 400 ms, −66.7 % (×0.333); the point estimate meets ×0.4, but one pair" in judgement.reasons[0]
    assert {claim.verdict for claim in judgement.claims} == {Verdict.INCONCLUSIVE}


def test_an_estimate_that_misses_says_so() -> None:
    weak = HARMLESS | {"warm": HARMLESS["warm"] | {"request_throughput": 3.0}}
    judgement = judge_figures(figures_from_mapping(weak), SPEC)
    claim = {one.id: one for one in judgement.claims}["request_throughput"]
    assert (claim.verdict, claim.details["met_by_estimate"]) == (Verdict.INCONCLUSIVE, False)
    assert "misses" in claim.reason


def test_a_gating_claim_without_a_figure_makes_the_judgement_invalid() -> None:
    bare = {"cold": {"ttft_ms": {"mean": 5}}, "warm": {"ttft_ms": {"mean": 1}}}
    assert judge_figures(figures_from_mapping(bare), SPEC).verdict is Verdict.INVALID
    only_ttft = TargetsPlan(name="t", claims=(TTFT, P90))
    assert judge_figures(figures_from_mapping(bare), only_ttft).verdict is Verdict.INCONCLUSIVE


def test_failed_requests_fail_whatever_else_is_wrong() -> None:
    failed = SPEC_TABLE | {"warm": SPEC_TABLE["warm"] | {"failed": 2}}
    judgement = judge_figures(figures_from_mapping(failed), SPEC)
    assert judgement.verdict is Verdict.FAIL
    assert "2 of 60 requests failed" in judgement.reasons[0]


@pytest.mark.parametrize(("ratio", "met"), [(0.95, True), (0.85, False), (1.2, False)])
def test_equivalence_is_two_sided_for_given_figures_too(ratio: float, met: bool) -> None:
    targets = TargetsPlan(name="t", claims=(TPOT.model_copy(update={"direction": "equivalent"}),))
    given = {"cold": {"tpot_ms": {"mean": 10}}, "warm": {"tpot_ms": {"mean": 10 * ratio}}}
    claim = judge_figures(figures_from_mapping(given), targets).claims[0]
    assert claim.details["met_by_estimate"] is met


def test_metrics_find_their_figures_by_name() -> None:
    cold = figures_from_mapping(SPEC_TABLE).cold
    assert [figure_of(cold, name) for name in ("ttft_p90", "output_token_throughput", "itl_mean")] == [1350, 320, None]
    assert RATE.metric == "request_throughput"


def test_figures_of_a_summary_add_latencies_up() -> None:
    figures = round_figures(summarise([a_round([*serial(100, 10, 3), request(9, error="refused")])]))
    assert figures.latency_sum_s == pytest.approx(0.42)
    assert (figures.requests, figures.failed, figures.output_tokens) == (4, 1, 15)
    assert round_figures(summarise([])).latency_sum_s is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cold": None}, "cold: missing"),
        ({"cold": {"ttft": 5}}, "cold.ttft: unknown; known here are requests"),
        ({"cold": {"ttft_ms": {"avg": 5}}}, "cold.ttft_ms.avg: unknown; known here are mean"),
        ({"cold": {"ttft_ms": 5}}, "cold.ttft_ms: 5 is no mapping"),
        ({"concurrency": 2.5}, "concurrency: 2.5; a whole number of at least 0 is needed"),
        ({"requests": "many"}, "requests: 'many'; a whole number"),
        ({"network_gbps": -1}, "network_gbps: -1; a number of at least 0"),
        ({"requests": True}, "requests: True"),
        ({"model": {"config": "config.json"}}, "model.config: 'config.json' was not read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as refusal:
        figures_from_mapping(SPEC_TABLE | change)
    assert str(refusal.value).startswith(message)


def test_given_values_outrank_what_a_config_tells() -> None:
    model = figures_from_mapping(SPEC_TABLE | {"model": {"config": QWEN_72B, "kv_bytes_per_token": 5}}).model
    assert model.kv_bytes_per_token == 5
    assert model.attention_layers == 80


def test_absent_figures_are_none_never_zero() -> None:
    figures = figures_from_mapping({"cold": {"request_throughput": None}, "warm": {}})
    assert figures.cold.request_throughput is None
    assert figures.hardware.network_gbps is None


def test_a_target_with_an_unknown_metric_is_refused() -> None:
    odd = TTFT.model_copy(update={"metric": "speed"})
    with pytest.raises(PlanError, match="no metric is called 'speed'"):
        judge_figures(
            figures_from_mapping(SPEC_TABLE),
            TargetsPlan(name="t", claims=(TTFT,)).model_copy(update={"claims": (odd,)}),
        )


def test_a_metric_of_which_nothing_is_asked_is_told_and_meets_nothing() -> None:
    reported = Target(metric="ttft_p90", gating=False)
    claim = judge_figures(figures_from_mapping(SPEC_TABLE), TargetsPlan(name="t", claims=(TTFT, reported))).claims[1]
    assert (claim.verdict, claim.target_ratio, claim.details["met_by_estimate"]) == (Verdict.INCONCLUSIVE, None, None)
    assert claim.reason == "P90 TTFT 1350 → 450 ms, −66.7 % (×0.333); reported, nothing is asked of it"
    assert "仅报告" in claim.details["reason_zh"]


@pytest.mark.parametrize(
    ("target", "verdict", "met", "words"),
    [
        (
            "<= 450 ms",
            Verdict.INCONCLUSIVE,
            True,
            "P90 TTFT 450 ms; the point estimate meets at most 450, but one pair",
        ),
        ("<= 449 ms", Verdict.INCONCLUSIVE, False, "misses at most 449"),
        ("<= 1350 ms cold", Verdict.INCONCLUSIVE, True, "P90 TTFT 1350 ms"),
    ],
)
def test_a_bound_is_held_against_the_point_estimate(target: str, verdict: Verdict, met: bool, words: str) -> None:
    asked = TargetsPlan(name="t", claims=(Target(metric="ttft_p90", target=target),))
    claim = judge_figures(figures_from_mapping(SPEC_TABLE), asked).claims[0]
    assert (claim.verdict, claim.details["met_by_estimate"]) == (verdict, met)
    assert words in claim.reason
    assert claim.estimate_ratio is claim.target_ratio is claim.change_percent is None


def test_a_bound_without_its_figure_is_invalid() -> None:
    asked = TargetsPlan(name="t", claims=(Target(metric="ttft_p99", target="<= 450 ms"),))
    assert judge_figures(figures_from_mapping(SPEC_TABLE), asked).verdict is Verdict.INVALID


def test_makespan_and_cached_share_are_figures_too() -> None:
    warm = {"makespan_s": 4, "prompt_tokens": 200, "cached_tokens": 150}
    figures = figures_from_mapping({"cold": {}, "warm": warm})
    assert (figure_of(figures.warm, "makespan"), figure_of(figures.warm, "cached_share")) == (4, 0.75)
    assert figure_of(figures.cold, "cached_share") is None


def test_handed_in_figures_are_held_against_what_physics_allows() -> None:
    """327,680 B × 16,384 over 400 Gb/s is 107 ms; 1200 ms of TTFT may fall to 0.089 of it, throughput rise to ×1.59."""
    found = limits_of_figures(figures_from_mapping(SPEC_TABLE))
    assert found is not None
    assert found.load_floor_s == pytest.approx(0.1074, abs=1e-4)
    assert found.best_ttft_ratio == pytest.approx(0.0895, abs=1e-4)
    assert found.ttft_cut_reached_share == pytest.approx((2 / 3) / (1 - 0.0895), abs=1e-3)
    assert found.best_throughput_ratio == pytest.approx((1200 + 127 * 15) / (107.4 + 127 * 14.5), abs=1e-3)
    assert found.throughput_reached_share == pytest.approx(2.96 / 1.5933, abs=1e-3)


def test_without_a_prompt_length_there_is_nothing_to_hold_figures_against() -> None:
    assert limits_of_figures(figures_from_mapping(HARMLESS)) is None
    bare = limits_of_figures(figures_from_mapping(HARMLESS | {"prompt_tokens": 100}))
    assert bare is not None
    assert set(bare.to_json().values()) == {None}
