"""Claims in a metric's own unit: tested levels, shares of every round, a bounded rate of stalls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_mooncake.analysis.claims.bounds import judge_bound
from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.statistics.levels import (
    BOUND_TABLE,
    nominal_level,
    one_sample_level,
    simulated_one_sample_level,
)
from pytest_mooncake.analysis.statistics.looks import Look
from pytest_mooncake.analysis.statistics.observed import Observed, observe
from pytest_mooncake.plan.targets.models import Target, TargetsPlan
from pytest_mooncake.records import Claim, Kind, Round, Verdict
from tests.support.made_rounds import LOOKS, a_round, chain, noisy, request, serial


def observed(rounds: tuple[Round, ...]) -> tuple[Observed, ...]:
    return tuple(observe(one) for one in rounds)


def judged(target: str, rounds: tuple[Round, ...], trials: int = 3, *, metric: str = "ttft_mean") -> Claim:
    plan = TargetsPlan(name="t", claims=(Target(metric=metric, target=target),))
    return judge_claims(plan, rounds, looks=LOOKS, trials=trials, quick=False)[0]


def warm_rounds(shares: list[int], *, of: int = 20, stalled: list[int] | None = None) -> tuple[Round, ...]:
    """C W C W …, each warm round with so many of 20 requests failed or, slow tenfold, stalled."""
    made = []
    for number, (failed, slow) in enumerate(zip(shares, stalled or [0] * len(shares), strict=True)):
        requests = serial(100, 10, of)
        requests[:failed] = [request(i, error="refused") for i in range(failed)]
        late = [request(i, sent_ms=i, ttft_ms=1000) for i in range(slow)]
        requests[:slow] = late or requests[:slow]
        made += [
            a_round(serial(100, 10, of), number=2 * number),
            a_round(requests, number=2 * number + 1, kind=Kind.WARM),
        ]
    made.append(a_round(serial(100, 10, of), number=2 * len(shares)))
    return tuple(made)


@pytest.mark.parametrize(
    ("target", "verdict", "word"),
    [
        ("<= 450 ms", Verdict.PASS, "met, the whole interval lies on the good side"),
        ("<= 300 ms", Verdict.FAIL, "missed"),
        ("<= 361 ms", Verdict.INCONCLUSIVE, "undecided, the interval holds the bound; the next look comes after 4 tri"),
        (">= 1000 ms cold", Verdict.PASS, "met"),
        ("<= 1 s cold", Verdict.FAIL, "missed"),
    ],
)
def test_a_level_is_judged_by_where_its_interval_lies(target: str, verdict: Verdict, word: str) -> None:
    claim = judged(target, noisy(3, 0.3))
    low, high = claim.details["interval"]
    assert claim.verdict is verdict
    assert word in claim.reason
    assert low < claim.details["estimate"] < high
    assert claim.details["bound"] in (450, 300, 361, 1000)
    ratios = (claim.target_ratio, claim.estimate_ratio, claim.ci_ratio, claim.change_percent)
    assert ratios == (None, None, None, None)
    assert claim.confidence == pytest.approx(0.90)
    assert (claim.trials, claim.details["look"], claim.details["unit"]) == (3, 3, "ms")


def test_the_reason_tells_figure_interval_rounds_and_bound_in_both_languages() -> None:
    claim = judged("<= 450 ms", noisy(3, 0.3))
    assert claim.reason.startswith("mean TTFT 351.3 ms (90 %")
    assert "3 warm rounds); at most 450 ms asked: met" in claim.reason
    assert "3 个有缓存轮次）；目标不高于 450 ms：达到" in claim.details["reason_zh"]
    cold = judged("<= 1 s cold", noisy(3, 0.3))
    assert "4 cold rounds); at most 1000 ms asked: missed" in cold.reason
    assert "4 个无缓存轮次）" in cold.details["reason_zh"]


def test_the_interval_is_that_of_a_t_test_at_the_looks_level() -> None:
    rounds = noisy(4, 0.3)
    logs = np.log([one.summary.ttft_ms.mean or 0 for one in observed(rounds) if one.kind is Kind.WARM])
    low, high = stats.t.interval(1 - 2 * BOUND_TABLE[LOOKS], 3, loc=logs.mean(), scale=stats.sem(logs))
    claim = judged("<= 450 ms", rounds, 4)
    assert claim.details["interval"] == pytest.approx((math.exp(low), math.exp(high)))
    assert claim.details["level"] == BOUND_TABLE[LOOKS]


def test_before_the_first_look_a_bound_waits() -> None:
    claim = judged("<= 450 ms", noisy(2, 0.3), 2)
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "not tested yet: the first look comes after 3 trials" in claim.reason
    assert claim.details["interval"] is claim.confidence is None


def test_a_quick_run_judges_no_bound() -> None:
    plan = TargetsPlan(name="t", claims=(Target(metric="ttft_mean", target="<= 450 ms"),))
    claim = judge_claims(plan, noisy(3, 0.3), looks=LOOKS, trials=3, quick=True)[0]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "no look was reached" in claim.reason


def test_constant_rounds_test_no_bound() -> None:
    claim = judged("<= 450 ms", chain([(1200, 15)] * 4, [(300, 15)] * 3))
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "do not differ at all" in claim.reason
    assert claim.details["estimate"] == pytest.approx(300)


def test_a_bound_without_data_is_invalid() -> None:
    none = judged("<= 450 ms", ())
    assert none.verdict is Verdict.INVALID
    assert "no warm round" in none.reason
    rounds = tuple(a_round([request(tokens=1)], number=i, kind=one.kind) for i, one in enumerate(noisy(3, 0.3)))
    assert "3 warm rounds have no figure" in judged("<= 5 ms", rounds, metric="tpot_mean").reason


def goodput_claim(target: str, rounds: tuple[Round, ...], *, limits: str = "ttft_ms<=1", trials: int = 3) -> Claim:
    plan = TargetsPlan.model_validate(
        {"name": "t", "goodput": limits, "claims": [{"metric": "goodput", "target": target}]}
    )
    return judge_claims(plan, rounds, looks=LOOKS, trials=trials, quick=False)[0]


def test_a_goodput_of_zero_in_every_round_misses_its_bound() -> None:
    claim = goodput_claim(">= 5 req/s", noisy(3, 0.3))
    assert (claim.verdict, claim.details["estimate"], claim.confidence) == (Verdict.FAIL, 0.0, None)
    assert "missed, 3 of 3 rounds read 0" in claim.reason
    assert "3 轮中有 3 轮为 0" in claim.details["reason_zh"]
    assert goodput_claim(">= 5 req/s", noisy(2, 0.3), trials=2).verdict is Verdict.INCONCLUSIVE


def test_a_goodput_that_is_gone_in_every_warm_round_misses_a_ratio_too() -> None:
    slow = chain([(300, 15)] * 4, [(1200, 15), (1210, 15), (1190, 15)])
    for target, verdict in (("up >= 10 %", Verdict.FAIL), ("stable", Verdict.FAIL), ("within 10 %", Verdict.FAIL)):
        assert goodput_claim(target, slow, limits="ttft_ms<=600").verdict is verdict
    fast = chain([(1200, 15)] * 4, [(300, 15)] * 3)
    assert goodput_claim("up >= 10 %", fast, limits="ttft_ms<=600").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("failed", "verdict", "worst"),
    [([0, 0, 0], Verdict.PASS, "100.00 %"), ([0, 1, 0], Verdict.PASS, "95.00 %"), ([0, 2, 0], Verdict.FAIL, "90.00 %")],
)
def test_a_share_is_held_to_its_bound_in_every_round_without_a_test(
    failed: list[int], verdict: Verdict, worst: str
) -> None:
    claim = judged(">= 95 %", warm_rounds(failed), metric="success_share")
    assert claim.verdict is verdict
    assert f"the worst round has {worst}" in claim.reason
    assert claim.confidence is None
    assert claim.details["values"] == tuple(1 - n / 20 for n in failed)


def test_a_share_that_may_not_exceed_its_bound_looks_at_the_largest() -> None:
    look = Look.after(3, LOOKS, 0.05)
    target = Target(metric="success_share", direction="lower", bound=0.97)
    assert judge_bound(target, observed(warm_rounds([1, 1, 1])), look).verdict is Verdict.PASS
    assert judge_bound(target, observed(warm_rounds([1, 0, 1])), look).verdict is Verdict.FAIL


def test_shares_wait_for_the_look_too() -> None:
    claim = judged(">= 95 %", warm_rounds([5, 5]), 2, metric="success_share")
    assert (claim.verdict, claim.details["estimate"]) == (Verdict.INCONCLUSIVE, 0.75)


def stalls_at(looks: tuple[int, ...], target: Target, rounds: tuple[Round, ...]) -> Claim:
    return judge_bound(target, observed(rounds), Look.after(len(rounds) // 2, looks, 0.05))


def test_rounds_without_a_stall_bound_its_rate_as_rounds_however_many_requests_they_hold() -> None:
    bound = 1 - (0.05 / 1) ** (1 / 3)
    for requests in (20, 200):
        rounds = warm_rounds([0, 0, 0], of=requests)
        passed = Target(metric="stall_share", target=f"<= {bound * 100 + 0.01:.2f} %")
        open_ = Target(metric="stall_share", target=f"<= {bound * 100 - 0.01:.2f} %")
        assert stalls_at((3,), passed, rounds).verdict is Verdict.PASS
        claim = stalls_at((3,), open_, rounds)
        assert claim.verdict is Verdict.INCONCLUSIVE
        assert "rounds count, not requests: 4 rounds without one would settle it" in claim.reason
        assert f"0 of {3 * requests} requests stalled" in claim.reason


def test_before_the_last_look_the_advice_is_the_next_one() -> None:
    claim = judged("<= 5 %", warm_rounds([0, 0, 0]), metric="stall_share")
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "the next look comes after 4 trials" in claim.reason


def test_a_rate_of_stalls_fails_when_even_its_lower_limit_is_too_high() -> None:
    claim = judged("<= 5 %", warm_rounds([0, 0, 0], stalled=[6, 6, 6]), metric="stall_share")
    low, high = claim.details["interval"]
    assert claim.verdict is Verdict.FAIL
    assert 0.05 < low < 0.3 < high
    assert claim.details["estimate"] == pytest.approx(0.3)


def test_stalls_that_come_together_count_as_fewer() -> None:
    """18 stalls in one round of three may be chance; six in each of them are not."""
    together = judged("<= 5 %", warm_rounds([0, 0, 0], stalled=[9, 0, 0]), metric="stall_share")
    spread = judged("<= 5 %", warm_rounds([0, 0, 0], stalled=[3, 3, 3]), metric="stall_share")
    assert together.details["interval"][0] < spread.details["interval"][0]


def test_at_least_so_many_stalls_of_cold_rounds_may_be_asked_for() -> None:
    target = Target(metric="stall_share", direction="higher", bound=0.01, rounds="cold")
    look = Look.after(3, (3,), 0.05)
    assert judge_bound(target, observed(warm_rounds([0, 0, 0])), look).verdict is Verdict.INCONCLUSIVE


def test_stalls_wait_for_the_look_too() -> None:
    claim = judged("<= 5 %", warm_rounds([0], stalled=[6]), 1, metric="stall_share")
    assert (claim.verdict, claim.details["estimate"]) == (Verdict.INCONCLUSIVE, 0.3)


@pytest.mark.parametrize("looks", sorted(BOUND_TABLE))
def test_stored_levels_are_those_of_a_simulation(looks: tuple[int, ...]) -> None:
    assert simulated_one_sample_level(looks, runs=40_000, seed=9) == pytest.approx(BOUND_TABLE[looks], rel=0.06)


def test_one_look_needs_no_correction_and_other_levels_are_simulated() -> None:
    assert one_sample_level((7,), 0.03) == 0.03
    assert one_sample_level(LOOKS, 0.10) == simulated_one_sample_level(LOOKS, alpha=0.10)
    assert BOUND_TABLE[LOOKS] < one_sample_level(LOOKS, 0.10) < 0.10


def test_on_its_bound_a_level_passes_falsely_in_at_most_five_percent() -> None:
    generator, level = np.random.default_rng(4), BOUND_TABLE[LOOKS]
    noise = generator.standard_normal((40_000, max(LOOKS)))
    passed = np.zeros(len(noise), dtype=bool)
    for look in LOOKS:
        first = noise[:, :look]
        half = stats.t.isf(level, look - 1) * first.std(axis=1, ddof=1) / math.sqrt(look)
        passed |= first.mean(axis=1) + half < 0
    assert passed.mean() == pytest.approx(0.05, abs=0.004)


def test_cold_rounds_of_which_there_is_one_more_are_tested_no_less_strictly() -> None:
    more = tuple(look + 1 for look in LOOKS)
    assert simulated_one_sample_level(more, runs=60_000) >= 0.98 * BOUND_TABLE[LOOKS]


def test_a_claims_own_confidence_sets_its_own_level() -> None:
    strict = Target(metric="ttft_mean", target="down 60 %", confidence=0.9)
    plan = TargetsPlan(name="t", claims=(strict, Target(metric="tpot_mean", target="stable")))
    own, files = judge_claims(plan, noisy(3, 0.3), looks=(3,), trials=3, quick=False)
    assert own.confidence == pytest.approx(0.8)
    assert own.details["level"] == nominal_level((3,), 0.1) > files.details["level"]
    assert files.confidence == pytest.approx(0.9)


def test_figures_below_one_are_tested_like_any_other() -> None:
    rounds = noisy(3, 0.3)
    assert max(one.summary.request_throughput or 9 for one in observed(rounds) if one.kind is Kind.COLD) < 1
    claim = judged(">= 0.5 req/s cold", rounds, metric="request_throughput")
    assert claim.verdict is Verdict.PASS


def test_one_round_without_a_figure_or_with_a_zero_is_enough_to_test_nothing() -> None:
    mute = list(noisy(3, 0.3))
    mute[3] = a_round([request(tokens=1)], number=3, kind=Kind.WARM)
    assert "1 warm rounds have no figure" in judged("<= 5 ms", tuple(mute), metric="tpot_mean").reason
    plan = TargetsPlan.model_validate(
        {"name": "t", "goodput": "ttft_mean_ms<=400", "claims": [{"metric": "goodput", "target": ">= 0.1 req/s"}]}
    )
    slow = list(noisy(3, 0.3))
    slow[3] = a_round(serial(900, 10, 4), number=3, kind=Kind.WARM)
    claim = judge_claims(plan, slow, looks=LOOKS, trials=3, quick=False)[0]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "not tested: a round reads 0" in claim.reason


def test_two_rounds_are_enough_at_a_look_of_two() -> None:
    plan = TargetsPlan(name="t", claims=(Target(metric="ttft_mean", target="<= 9 s"),))
    claim = judge_claims(plan, noisy(2, 0.3), looks=(2, 5), trials=2, quick=False)[0]
    assert (claim.verdict, claim.details["look"]) == (Verdict.PASS, 2)


def test_a_share_that_just_keeps_its_bound_keeps_it_on_either_side() -> None:
    look = Look.after(3, LOOKS, 0.05)
    half = observed(warm_rounds([10, 10, 10]))
    for direction in ("lower", "higher"):
        target = Target(metric="success_share", direction=direction, bound=0.5)
        assert judge_bound(target, half, look).verdict is Verdict.PASS


def test_a_bound_that_allows_every_request_to_stall_is_kept() -> None:
    assert judged("<= 100 %", warm_rounds([0, 0, 0]), metric="stall_share").verdict is Verdict.PASS
