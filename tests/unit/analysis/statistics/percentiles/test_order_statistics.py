"""Percentile claims: order-statistic limits of pooled requests, rounds as clusters."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.verdicts.requests import LOOKS, Sampled, percentile_after, percentile_before, share_verdicts
from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.figures.columns import columns_of
from pytest_mooncake.analysis.figures.summary import summarise
from pytest_mooncake.analysis.statistics.observed import observe
from pytest_mooncake.analysis.statistics.percentiles.clustered import (
    design_effect,
    effective_requests,
    highest_rate_of_rounds,
    rate_limits,
)
from pytest_mooncake.analysis.statistics.percentiles.order_statistics import (
    Sample,
    percentile_limits,
    pooled_percentile,
    sample_of,
)
from pytest_mooncake.plan.targets.models import Target, TargetsPlan
from pytest_mooncake.plan.targets.sample_sizes import percentile_level
from pytest_mooncake.records import Claim, Kind, Round, Verdict
from tests.support.made_rounds import a_round, request

LEVEL = percentile_level(LOOKS, 0.05)


def scattered(
    trials: int, requests: int, *, warm: float = 300.0, between: float = 0.0, failed: int = 0, seed: int = 0
) -> tuple[Round, ...]:
    """C W C …, lognormal TTFTs (s = 0.3) about 1200 and `warm` ms, and a random effect of each round."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(2 * trials + 1):
        middle = (warm if number % 2 else 1200.0) * math.exp(between * generator.standard_normal())
        values = middle * np.exp(0.3 * generator.standard_normal(requests))
        held = [request(i, sent_ms=i, ttft_ms=float(one)) for i, one in enumerate(values)]
        held[:failed] = [request(i, error="refused") for i in range(failed)]
        made.append(a_round(held, number=number, kind=Kind.WARM if number % 2 else Kind.COLD))
    return tuple(made)


def judged(
    metric: str,
    target: str,
    rounds: tuple[Round, ...],
    trials: int,
    *,
    looks: tuple[int, ...] = LOOKS,
    quick: bool = False,
) -> Claim:
    plan = TargetsPlan(name="t", claims=(Target(metric=metric, target=target),))
    return judge_claims(plan, rounds, looks=looks, trials=trials, quick=quick)[0]


def sample(values: list[float], lost: int = 0) -> Sample:
    return Sample(values=np.sort(np.array(values, dtype=float)), weights=None, lost=lost)


@pytest.mark.parametrize(
    ("quantile", "requests", "rho"),
    [(0.9, 30, 0.0), (0.9, 30, 0.3), (0.9, 100, 0.1), (0.9, 300, 0.3), (0.99, 100, 0.0), (0.99, 300, 0.3)],
)
def test_on_its_bound_a_percentile_passes_falsely_in_at_most_five_percent(
    quantile: float, requests: int, rho: float
) -> None:
    of = Sampled(quantile=quantile, requests=requests, rho=rho)
    runs = 1_500
    assert percentile_after(of, runs, seed=2) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


def test_the_t_test_of_the_rounds_own_percentiles_did_not_keep_to_it() -> None:
    assert percentile_before(Sampled(quantile=0.99, requests=100, rho=0.0), 1_500) > 0.25


def test_a_percentile_well_below_its_bound_is_met() -> None:
    assert percentile_after(Sampled(quantile=0.9, requests=30, rho=0.0, below=1 / 1.3), 500) > 0.9


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9, 0.99]), st.floats(0, 0.3), st.floats(-0.3, 0.9))
def test_what_is_judged_to_be_met_is_met_in_the_simulation(
    seed: int, quantile: float, between: float, edge: float
) -> None:
    """So the simulated rate of false PASSes is no lower than that of the test that judges."""
    generator = np.random.default_rng(seed)
    logs = 0.3 * generator.standard_normal((5, 40)) + between * generator.standard_normal((5, 1)) - edge
    found = percentile_limits([sample(list(np.exp(one))) for one in logs], quantile, LEVEL)
    met, missed = share_verdicts(logs[None], quantile, LEVEL)
    if found.high is not None and found.high <= 1:
        assert met[0]
    if found.low is not None and found.low > 1:
        assert missed[0]


def test_without_differences_between_rounds_the_simulation_judges_alike() -> None:
    """Nearly always: the design effect at the limit itself, which only the real test looks at, can be the worse one."""
    alike = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        logs = 0.3 * generator.standard_normal((5, 40)) - generator.uniform(-0.3, 0.9)
        found = percentile_limits([sample(list(np.exp(one))) for one in logs], 0.9, LEVEL)
        met, _ = share_verdicts(logs[None], 0.9, LEVEL)
        alike += bool(met[0] == (found.high is not None and found.high <= 1))
    assert alike >= 190


def test_alike_rounds_give_the_exact_order_statistic() -> None:
    """Requests dealt to rounds in turn have no variance between rounds, so all of them count."""
    values = [float(one) for one in range(1, 201)]
    found = percentile_limits([sample(values[start::5]) for start in range(5)], 0.9, LEVEL)
    assert found.estimate == 180
    ranks = np.arange(1, 201)
    assert found.high == ranks[stats.binom.cdf(ranks - 1, 200, 0.9) >= 1 - LEVEL][0]
    assert found.low is not None
    assert found.high is not None
    assert found.low < 180 < found.high
    assert found.effective == 200


def test_what_differs_between_rounds_widens_the_interval() -> None:
    generator = np.random.default_rng(0)
    noise = np.exp(0.3 * generator.standard_normal((8, 100)))
    shifts = np.exp(0.2 * generator.standard_normal((8, 1)))
    alike, apart = (percentile_limits([sample(list(one)) for one in of], 0.9, LEVEL) for of in (noise, noise * shifts))
    assert alike.effective > 2 * apart.effective
    assert alike.high is not None
    assert alike.low is not None
    assert apart.low is not None
    assert math.log(alike.high / alike.low) < math.log((apart.high or math.inf) / apart.low)


def test_a_round_that_is_slow_as_a_whole_makes_the_sample_worth_a_few_requests() -> None:
    rounds = [sample([1.0 + i / 1e3 for i in range(100)]) for _ in range(4)]
    slow = sample([9.0 + i / 1e3 for i in range(100)])
    found = percentile_limits([*rounds, slow], 0.9, LEVEL)
    assert found.effective < 5
    assert found.high is None


def test_failed_requests_rank_last() -> None:
    fine = [sample([1.0 + i / 1e3 for i in range(100)], lost=5) for _ in range(5)]
    found = percentile_limits(fine, 0.99, LEVEL)
    assert found.estimate is None
    assert found.high is None
    assert found.low == pytest.approx(1.099)


def test_many_values_are_searched_on_a_grid_that_errs_to_the_safe_side() -> None:
    generator = np.random.default_rng(1)
    values = [np.exp(0.3 * generator.standard_normal(4_000)) for _ in range(5)]
    found = percentile_limits([sample(list(one)) for one in values], 0.9, LEVEL)
    pooled = np.sort(np.concatenate(values))
    assert found.low is not None
    assert found.high is not None
    assert found.low < np.quantile(pooled, 0.9) < found.high
    assert found.high / found.low < 1.1


@pytest.mark.parametrize("name", ["ttft", "tpot", "itl", "e2e"])
def test_a_sample_counts_as_the_summary_does(name: str) -> None:
    rounds = scattered(1, 20, failed=1)
    columns = columns_of(one for held in rounds for one in held.requests)
    summary = getattr(summarise(rounds), f"{name}_ms")
    samples = [sample_of(columns_of(held.requests), name) for held in rounds]
    assert sample_of(columns, name).total == sum(one.total for one in samples)
    for part, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        expected = getattr(summary, part)
        assert pooled_percentile(samples, quantile) == (None if expected is None else pytest.approx(expected))


def test_a_bound_is_met_or_missed_by_its_limits() -> None:
    rounds = scattered(10, 100)
    met, missed, open_ = (judged("ttft_p90", f"<= {ms} ms", rounds, 10) for ms in (600, 300, 440))
    assert [one.verdict for one in (met, missed, open_)] == [Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE]
    low, high = met.details["interval"]
    assert low < met.details["estimate"] < high < 600
    assert met.details["level"] == LEVEL
    assert "met, the whole interval lies on the good side" in met.reason
    assert "undecided, the interval holds the bound" in open_.reason


def test_a_lower_limit_meets_a_bound_from_below() -> None:
    rounds = scattered(10, 100)
    assert judged("ttft_p90", ">= 1 s cold", rounds, 10).verdict is Verdict.PASS
    assert judged("ttft_p90", ">= 3 s cold", rounds, 10).verdict is Verdict.FAIL


def test_a_sample_that_bears_no_limit_says_what_it_is_worth() -> None:
    claim = judged("ttft_p99", "<= 9 s", scattered(3, 30), 3)
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "undecided, 90 requests in 3 rounds count as about" in claim.reason
    assert "a limit on P99 takes 477; the next look comes after 4 trials" in claim.reason
    assert "P99 的界限需要 477 个" in claim.details["reason_zh"]
    last = judged("ttft_p99", "<= 9 s", scattered(3, 30), 3, looks=(3,))
    assert "send more requests a round (--mooncake-requests)" in last.reason


def test_before_the_first_look_and_in_a_quick_run_a_percentile_waits() -> None:
    assert "the first look comes after 3 trials" in judged("ttft_p90", "<= 9 s", scattered(2, 30), 2).reason
    assert "no look was reached" in judged("ttft_p90", "<= 9 s", scattered(3, 30), 3, quick=True).reason
    ratio = judged("ttft_p90", "down 60 %", scattered(3, 30), 3, quick=True)
    assert (ratio.verdict, ratio.ci_ratio) == (Verdict.INCONCLUSIVE, None)
    assert "no look was reached" in ratio.reason


def test_a_percentile_without_data_is_invalid() -> None:
    rounds = tuple(a_round([request(tokens=1)], number=i, kind=one.kind) for i, one in enumerate(scattered(3, 1)))
    assert judged("tpot_p90", "<= 9 ms", rounds, 3).verdict is Verdict.INVALID
    assert "3 warm rounds have no figure" in judged("tpot_p90", "<= 9 ms", rounds, 3).reason
    assert judged("tpot_p90", "stable", rounds, 3).verdict is Verdict.INVALID
    assert judged("tpot_p90", "stable", (), 0).verdict is Verdict.INVALID


def test_a_ratio_of_percentiles_has_the_limits_of_both_sides() -> None:
    rounds = scattered(10, 100)
    claim = judged("ttft_p90", "down >= 60 %", rounds, 10)
    assert claim.verdict is Verdict.PASS
    assert claim.ci_ratio is not None
    level = percentile_level(LOOKS, 0.025)
    sides = {
        kind: percentile_limits([observe(one).samples["ttft"] for one in rounds if one.kind is kind], 0.9, level)
        for kind in Kind
    }
    warm, cold = sides[Kind.WARM], sides[Kind.COLD]
    assert claim.ci_ratio == pytest.approx(((warm.low or 0) / (cold.high or 0), (warm.high or 0) / (cold.low or 1)))
    assert (claim.details["warm"], claim.details["cold"]) == (warm.estimate, cold.estimate)
    assert claim.estimate_ratio == pytest.approx((warm.estimate or 0) / (cold.estimate or 1))
    assert "s_w" not in claim.details
    assert judged("ttft_p90", "down >= 90 %", rounds, 10).verdict is Verdict.FAIL


def test_warm_tails_that_are_heavier_than_cold_ones_do_not_pass_a_ratio_by_their_maxima() -> None:
    """Warm rounds are faster but for 2 % of requests that take ten times as long: P99 rises, and P99 of 30 hides it."""
    generator = np.random.default_rng(5)
    made = []
    for number in range(21):
        slow = number % 2 and generator.random(30) < 0.02
        values = (300 if number % 2 else 1000) * np.exp(0.1 * generator.standard_normal(30)) * np.where(slow, 10, 1)
        made.append(
            a_round(
                [request(i, sent_ms=i, ttft_ms=float(one)) for i, one in enumerate(values)],
                number=number,
                kind=Kind.WARM if number % 2 else Kind.COLD,
            )
        )
    assert judged("ttft_p99", "down >= 10 %", tuple(made), 10).verdict is not Verdict.PASS


def test_rounds_that_are_alike_count_all_and_one_that_differs_counts_once() -> None:
    sizes = np.array([30.0, 30.0, 30.0])
    effects = design_effect(np.array([[3, 9, 0, 30], [3, 0, 0, 30], [3, 0, 0, 30]]), sizes)
    assert effects[0] == 0
    assert effects[1] == pytest.approx(stats.describe([9, 0, 0]).variance / 30 / (0.1 * 0.9))
    assert list(effects[2:]) == [1, 1]
    worth = [float(effective_requests(90, np.array([one]), 3, LEVEL)[0]) for one in (0.0, 1.0, 10.0)]
    assert worth[0] == 90
    assert worth[1] == pytest.approx(90 / (stats.t.isf(LEVEL, 2) / stats.norm.isf(LEVEL)) ** 2)
    assert worth[2] == pytest.approx(worth[1] / 10)


def test_limits_of_whole_requests_are_clopper_and_pearsons() -> None:
    found = rate_limits(np.array([0.0, 0.05, 1.0]), np.array([60.0, 60.0, 60.0]), 0.01)
    exact = stats.binomtest(3, 60).proportion_ci(0.98, method="exact")
    assert (found.low[1], found.high[1]) == pytest.approx((exact.low, exact.high))
    assert (found.low[0], found.high[2]) == (0, 1)


def test_the_rate_of_rounds_falls_with_their_number_and_holds_for_rounds_struck_as_a_whole() -> None:
    falling = [highest_rate_of_rounds(0.0, rounds, 0.05) for rounds in (3, 10, 59)]
    assert falling == pytest.approx([1 - 0.05 ** (1 / rounds) for rounds in (3, 10, 59)])
    assert all(one > other for one, other in pairwise(falling))
    assert highest_rate_of_rounds(1.0, 5, 0.05) == 1
    for struck in range(11):
        limit = highest_rate_of_rounds(struck / 10, 10, 0.05)
        assert stats.binom.cdf(struck, 10, min(limit + 1e-9, 1)) <= 0.05 + 1e-9 or struck == 10
