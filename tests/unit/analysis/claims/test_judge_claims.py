"""Verdicts on claims: interval and word agree, looks are kept, "stable" is not "improved"."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.statistics.levels import TABLE, nominal_level
from pytest_mooncake.analysis.statistics.looks import Look, settling_trials, verdict_of
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.targets.models import Target
from pytest_mooncake.records import Claim, Round, Verdict
from tests.support.made_rounds import LOOKS, a_round, chain, noisy, request
from tests.support.spec_figures import SPEC, TPOT, TTFT


def judged(
    rounds: tuple[Round, ...], trials: int, *, looks: tuple[int, ...] = LOOKS, quick: bool = False
) -> dict[str, Claim]:
    return {claim.id: claim for claim in judge_claims(SPEC, rounds, looks=looks, trials=trials, quick=quick)}


def test_a_clear_gain_is_met_at_the_first_look() -> None:
    claim = judged(noisy(3, 0.3), 3)["ttft_mean"]

    assert claim.verdict is Verdict.PASS
    assert claim.estimate_ratio == pytest.approx(0.3, rel=0.05)
    assert claim.ci_ratio is not None
    assert claim.ci_ratio[1] < 0.40
    assert claim.confidence == pytest.approx(0.90)
    assert claim.change_percent == pytest.approx(((claim.estimate_ratio or 0) - 1) * 100)
    assert claim.trials == 3
    assert "asked (-60 %): met" in claim.reason
    assert "3 trials" in claim.reason
    assert "达到" in claim.details["reason_zh"]


def test_the_level_is_the_stored_one_not_simulated_again() -> None:
    assert judged(noisy(3, 0.3), 3)["ttft_mean"].details["level"] == TABLE[LOOKS]


def test_a_gain_that_is_too_small_is_missed() -> None:
    claim = judged(noisy(3, 0.6), 3)["ttft_mean"]
    assert claim.verdict is Verdict.FAIL
    assert claim.ci_ratio is not None
    assert claim.ci_ratio[0] > 0.40
    assert "missed" in claim.reason


def test_a_gain_at_the_target_stays_undecided_and_says_what_comes_next() -> None:
    claim = judged(noisy(3, 0.4), 3)["ttft_mean"]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "the next look comes after 4 trials" in claim.reason
    assert "下一次判定在 4 次试验之后" in claim.details["reason_zh"]


def test_after_the_last_look_the_reason_says_how_many_trials_would_settle_it() -> None:
    claim = judged(noisy(3, 0.385, sigma=0.05, seed=3), 3, looks=(3,))["ttft_mean"]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert f"about {claim.details['settling_trials']} trials would settle it" in claim.reason
    assert claim.details["settling_trials"] > 3
    assert f"约需 {claim.details['settling_trials']} 次试验" in claim.details["reason_zh"]


def test_an_estimate_on_the_target_itself_is_not_promised_a_settlement() -> None:
    assert settling_trials(3, (0.2, 0.8), "lower", 0.5) is None
    assert settling_trials(3, (0.2, 0.8), "lower", 0.3) == 7


def test_an_equivalence_settles_at_its_nearer_side() -> None:
    assert settling_trials(3, (-0.15, 0.05), "equivalent", 0.1) == settling_trials(3, (-0.05, 0.15), "equivalent", 0.1)
    assert settling_trials(3, (-0.15, 0.05), "equivalent", 0.1) == 12


def test_before_the_first_look_nothing_is_tested() -> None:
    claim = judged(noisy(2, 0.1), 2)["ttft_mean"]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert claim.ci_ratio is None
    assert "first look comes after 3 trials" in claim.reason


def test_between_looks_the_rounds_up_to_the_last_look_are_judged() -> None:
    seven, six = judged(noisy(7, 0.395), 7), judged(noisy(7, 0.395)[:13], 6)
    assert seven["ttft_mean"].ci_ratio == six["ttft_mean"].ci_ratio
    assert seven["ttft_mean"].trials == 6


def test_one_trial_describes() -> None:
    claim = judged(noisy(1, 0.3), 1, looks=(1,))["ttft_mean"]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "one trial" in claim.reason
    assert "只有一次试验" in claim.details["reason_zh"]
    assert claim.estimate_ratio == pytest.approx(0.3, rel=0.1)


def test_a_quick_run_is_never_more_than_inconclusive() -> None:
    claims = judged(noisy(3, 0.1), 3, quick=True)
    assert {claim.verdict for claim in claims.values()} == {Verdict.INCONCLUSIVE}
    assert "quick" in claims["ttft_mean"].reason


def test_constant_rounds_are_inconclusive_in_words() -> None:
    claim = judged(chain([(1200, 15)] * 4, [(300, 15)] * 3), 3)["ttft_mean"]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "do not differ" in claim.reason
    assert claim.estimate_ratio == pytest.approx(0.25)


def test_a_claim_without_data_is_invalid() -> None:
    rounds = tuple(a_round([request(tokens=1)], number=i, kind=one.kind) for i, one in enumerate(noisy(3, 0.3)))
    claim = judged(rounds, 3)["tpot_mean"]
    assert claim.verdict is Verdict.INVALID
    assert claim.estimate_ratio is None
    assert "no figure" in claim.reason
    assert "没有该指标的数据" in claim.details["reason_zh"]
    assert claim.details["trial_ratios"] == (None, None, None)


def test_no_rounds_at_all_leave_every_claim_invalid() -> None:
    assert {claim.verdict for claim in judged((), 0).values()} == {Verdict.INVALID}


def test_an_improved_tpot_meets_its_target_but_is_not_called_stable() -> None:
    claim = judged(noisy(3, 0.3, tpot=0.42), 3)["tpot_mean"]
    assert claim.verdict is Verdict.PASS
    assert "improved (−5" in claim.reason
    assert "not 'stable'" in claim.reason
    assert "no foreign prefill: cold 1" in claim.reason


def test_a_stable_tpot_is_not_called_improved() -> None:
    claim = judged(noisy(3, 0.3, tpot=0.97), 3)["tpot_mean"]
    assert claim.verdict is Verdict.PASS
    assert "improved" not in claim.reason
    assert "(4/4)" not in claim.reason
    assert "(16/16)" in claim.reason


def test_equivalence_refuses_an_improvement_beyond_its_margin() -> None:
    both_sides = TPOT.model_copy(update={"direction": "equivalent"})
    targets = SPEC.model_copy(update={"claims": (both_sides,)})
    better, same = (
        judge_claims(targets, noisy(4, 0.3, tpot=tpot), looks=LOOKS, trials=4, quick=False)[0] for tpot in (0.6, 1.0)
    )
    assert (better.verdict, same.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert "between ×0.909 and ×1.1 asked (stable)" in same.reason
    assert "目标 ×0.909 至 ×1.1（稳定）" in same.details["reason_zh"]
    assert "improved" in better.reason


def test_gating_is_the_targets_choice_and_a_dash_is_not_quoted() -> None:
    claims = judged(noisy(3, 0.3), 3)
    assert [claim.gating for claim in claims.values()] == [True, True, True, False]
    assert "at most ×0.4 asked: no interval: 12 requests in 3 rounds" in claims["ttft_p90"].reason


def test_an_unknown_metric_is_refused_with_the_nearest_ones() -> None:
    wrong = SPEC.model_copy(update={"claims": (TTFT.model_copy(update={"metric": "ttft_maen"}),)})
    with pytest.raises(PlanError, match="did you mean ttft_mean"):
        judge_claims(wrong, (), looks=LOOKS, trials=0, quick=False)


@settings(max_examples=60)
@given(st.floats(0.2, 0.8), st.floats(0.005, 0.3), st.integers(3, 6), st.integers(0, 10**6))
def test_interval_and_verdict_never_disagree(ratio: float, sigma: float, trials: int, seed: int) -> None:
    claims = judged(noisy(trials, ratio, sigma=sigma, seed=seed), trials)
    assert claims.pop("ttft_p90").ci_ratio is None  # four requests a round bear none
    for claim in claims.values():
        assert claim.ci_ratio is not None
        assert claim.target_ratio is not None
        low, high = claim.ci_ratio
        target = claim.target_ratio
        good = low > target if claim.details["direction"] == "higher" else high < target
        bad = high < target if claim.details["direction"] == "higher" else low > target
        assert claim.verdict is (Verdict.PASS if good else Verdict.FAIL if bad else Verdict.INCONCLUSIVE)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1))
def test_lower_and_higher_mirror_each_other(middle: float, half: float, target: float) -> None:
    interval, mirrored = (middle - half, middle + half), (-middle - half, -middle + half)
    assert verdict_of(interval, "lower", target) is verdict_of(mirrored, "higher", -target)
    assert verdict_of(interval, "equivalent", target) is verdict_of(mirrored, "equivalent", -target)


def test_looks_below_two_trials_and_repeated_ones_do_not_count() -> None:
    look = Look.after(3, (5, 3, 1, 3), 0.05)
    assert (look.at, look.next) == (3, 5)
    assert look.level == nominal_level((3, 5))


def test_the_estimate_is_that_of_the_geometric_means_in_a_whole_chain() -> None:
    claim = judged(noisy(3, 0.35), 3)["request_throughput"]
    assert claim.estimate_ratio == pytest.approx(claim.details["warm"] / claim.details["cold"])
    assert math.prod(r for r in claim.details["trial_ratios"]) ** (1 / 3) == pytest.approx(
        claim.estimate_ratio, rel=0.02
    )


def test_two_trials_are_the_fewest_that_test_anything() -> None:
    assert Look.after(2, (1, 2, 5), 0.05).at == 2
    assert Look.after(1, (1, 2, 5), 0.05).at is None
    assert Look.after(5, (2, 5), 0.05).next is None


def test_an_interval_that_touches_its_target_needs_one_trial_more() -> None:
    assert settling_trials(3, (0.0, 1.0), "lower", 0.0) == 4


def test_advice_ends_at_a_thousand_trials() -> None:
    """250 trials with a half-width of twice the distance: four times as many, 1000, would settle it."""
    assert settling_trials(250, (-0.5, 0.5), "lower", 0.25) == 1000
    assert settling_trials(250, (-0.5, 0.5), "higher", 0.2499) is None


@pytest.mark.parametrize(
    ("target", "told"), [("down 10 %", False), ("stable", True), ("<= 1x", True), ("within 10 %", True)]
)
def test_only_a_tpot_that_was_to_stay_is_told_to_have_improved(target: str, told: bool) -> None:
    targets = SPEC.model_copy(update={"claims": (Target(metric="tpot_mean", target=target),)})
    claim = judge_claims(targets, noisy(4, 0.3, tpot=0.5), looks=LOOKS, trials=4, quick=False)[0]
    assert ("not 'stable'" in claim.reason) is told


def test_a_reported_tpot_shows_its_calm_decode_and_no_outcome() -> None:
    targets = SPEC.model_copy(update={"claims": (Target(metric="tpot_mean", gating=False),)})
    claim = judge_claims(targets, noisy(4, 0.3), looks=LOOKS, trials=4, quick=False)[0]
    assert "reported, nothing is asked of it; TPOT of requests whose decode met no foreign prefill" in claim.reason
    assert "仅报告，未设目标；解码未遇到" in claim.details["reason_zh"]
    assert (claim.verdict, claim.target_ratio, claim.details["settling_trials"]) == (Verdict.INCONCLUSIVE, None, None)
    assert claim.ci_ratio is not None
