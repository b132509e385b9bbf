"""What stands beside a verdict: outlook, settlement, feasibility; plain values with a sentence in both languages."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.outlook.guidance import (
    design_of,
    feasibility_of,
    outlook_of,
    settlement_of,
    trial_seconds,
)
from pytest_mooncake.analysis.statistics.levels import TABLE
from pytest_mooncake.plan.targets.models import Target, TargetsPlan
from pytest_mooncake.records import Claim, Settle, Verdict
from tests.support.made_rounds import LOOKS, chain, noisy
from tests.support.spec_figures import SPEC, TTFT


def undecided(metric: str, settling: int | None, *, gating: bool = True) -> Claim:
    return Claim(
        id=metric, title=metric.upper(), gating=gating, verdict=Verdict.INCONCLUSIVE, reason="", ci_ratio=(1.0, 2.0),
        details={"settling_trials": settling, "title_zh": "指标"},
    )  # fmt: skip


def test_the_design_is_that_of_the_looks_that_can_test_at_the_files_confidence() -> None:
    design = design_of(SPEC, (1, *LOOKS))
    assert design is not None
    assert (design.looks, design.level) == (LOOKS, TABLE[LOOKS])
    assert design_of(SPEC, (1,)) is None
    strict = design_of(SPEC.model_copy(update={"confidence": 0.99}), (3,))
    assert strict is not None
    assert strict.level < 0.01


@pytest.mark.parametrize(("trials", "there"), [(2, False), (3, True), (9, True), (10, False)])
def test_an_outlook_is_given_from_the_first_look_to_the_last(trials: int, there: bool) -> None:
    claims = judge_claims(SPEC, noisy(3, 0.39, sigma=0.03), looks=LOOKS, trials=3, quick=False)
    seen = outlook_of(SPEC, LOOKS, claims, noisy(3, 0.39), trials)
    assert (seen is not None) is there
    if seen is not None:
        assert orjson.loads(orjson.dumps(seen))["binding"] == seen["binding"]
        assert "a verdict after" in seen["text"]
        assert "后可判定" in seen["text_zh"]


def test_a_trial_lasts_one_warm_and_one_cold_round_with_their_settling() -> None:
    rounds = [replace(one, started_ns=0, ended_ns=(2 if one.kind == "cold" else 1) * 10**9) for one in noisy(2, 0.3)]
    assert trial_seconds(rounds) == pytest.approx(3.0)
    settle = Settle(seconds=1.5, settled=True, how="")
    assert trial_seconds([replace(one, settle=settle) for one in rounds]) == pytest.approx(6.0)
    assert trial_seconds(rounds[:1]) is None


def test_what_settles_a_run_is_the_claim_that_needs_most() -> None:
    found = settlement_of([undecided("a", 12), undecided("b", 30), undecided("c", 99, gating=False)], 60.0)
    assert found is not None
    assert (found["trials"], found["minutes"], found["binding"]) == (30, 30, "b")
    planned = "about 30 trials (30 min) in one run planned for them would settle it: B needs the most; a run repeated"
    assert found["text"].startswith(planned)
    assert found["text"].endswith("with three reruns it is 12 to 17 %")
    assert "--mooncake-trials" not in found["text"] + found["text_zh"]  # no invitation to rerun until it passes
    assert "约 30 次试验（30 分钟）" in found["text_zh"]
    untimed = settlement_of([undecided("a", 12)], None)
    assert untimed is not None
    assert "about 12 trials in one run planned for them would settle it" in untimed["text"]


def test_an_estimate_on_its_target_is_promised_nothing() -> None:
    found = settlement_of([undecided("a", 12), undecided("b", None)], 60.0)
    assert found is not None
    assert (found["trials"], found["minutes"], found["binding"]) == (None, None, "b")
    assert "hardly settle it: B lies on its target" in found["text"]


def test_decided_and_untested_claims_need_no_settlement() -> None:
    passed = replace(undecided("a", 5), verdict=Verdict.PASS)
    waiting = replace(undecided("b", 5), ci_ratio=None)
    assert settlement_of([passed, waiting, replace(undecided("c", 5), details={})], 60.0) is None
    bounded = replace(waiting, details={**waiting.details, "interval": (1.0, 2.0)})
    assert settlement_of([passed, bounded], 60.0) is not None


def test_feasibility_is_measured_by_the_rounds_themselves() -> None:
    found = feasibility_of(SPEC, chain([(1000, 250), (1000, 250)], [(400, 250)]))
    assert found is not None
    assert (found["k"], found["rho"], found["ttft_cut"]) == pytest.approx((1.0, 1.0, 0.6))
    assert found["ratio_at_cut"] == pytest.approx(2 / 1.4)
    assert found["limit_ratio"] == pytest.approx(2.0)
    assert found["feasible"] is False
    assert "cannot be met together, not even with TTFT at zero (×2.00)" in found["text"]
    assert "无法同时达到" in found["text_zh"]


def test_feasibility_needs_a_throughput_that_is_asked_for_and_both_kinds() -> None:
    rounds = chain([(1000, 250), (1000, 250)], [(400, 250)])
    assert feasibility_of(TargetsPlan(name="t", claims=(TTFT,)), rounds) is None
    assert feasibility_of(SPEC, rounds[:1]) is None
    reported = TargetsPlan(name="t", claims=(Target(metric="request_throughput", ratio=2.5, gating=False),))
    assert feasibility_of(reported, rounds) is None
    bounded = TargetsPlan(name="t", claims=(Target(metric="request_throughput", target=">= 5 req/s"),))
    assert feasibility_of(bounded, rounds) is None


def test_feasibility_holds_no_infinity() -> None:
    found = feasibility_of(SPEC, chain([(1000, 250), (1000, 250)], [(400, 0.0)]))
    assert found is not None
    assert orjson.loads(orjson.dumps(found))["rho"] == 0
    assert found["limit_ratio"] is None


def test_seconds_of_a_trial_are_those_of_its_own_kinds() -> None:
    rounds = [
        replace(one, started_ns=5 * 10**9, ended_ns=(9 if one.kind == "cold" else 6) * 10**9) for one in noisy(2, 0.3)
    ]
    assert trial_seconds([one for one in rounds if one.round != 4]) == pytest.approx(5.0)
