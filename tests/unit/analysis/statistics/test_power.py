"""Power of the sequential design against the reference's table, fixed-sample theory and its own definition."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import special, stats

from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.outlook.forecast import assumed_of, forecast, outlook, sigma_range
from pytest_mooncake.analysis.statistics.levels import nominal_level
from pytest_mooncake.analysis.statistics.power import Assumed, Design, least_distance, least_effect, simulate
from pytest_mooncake.records import Verdict
from tests.support.made_rounds import LOOKS, noisy
from tests.support.spec_figures import SPEC

DESIGN = Design(looks=LOOKS, level=nominal_level(LOOKS))


def ttft(ratio: float, sigma: float) -> Assumed:
    return Assumed(id="ttft_mean", ratio=ratio, target_ratio=0.40, direction="lower", sigma_w=sigma, sigma_c=sigma)


def rate(ratio: float, sigma: float) -> Assumed:
    return Assumed(
        id="request_throughput", ratio=ratio, target_ratio=2.5, direction="higher", sigma_w=sigma, sigma_c=sigma
    )


def tpot(ratio: float, sigma: float) -> Assumed:
    return Assumed(id="tpot_mean", ratio=ratio, target_ratio=1.10, direction="lower", sigma_w=sigma, sigma_c=sigma)


@pytest.mark.parametrize(
    ("ratio", "sigma", "power", "trials"),
    [(0.33, 0.04, 1.00, 3.1), (0.33, 0.08, 0.998, 4.3), (0.35, 0.08, 0.92, 5.9), (0.25, 0.08, 1.0, 3.05)],
)
def test_one_claims_power_is_that_of_the_reference(ratio: float, sigma: float, power: float, trials: float) -> None:
    outcome = simulate(DESIGN, [ttft(ratio, sigma)], runs=3000)
    assert outcome.passes == pytest.approx(power, abs=0.015)
    assert outcome.mean_trials == pytest.approx(trials, abs=0.15)
    assert outcome.binding == "ttft_mean"


@pytest.mark.parametrize(("sigma", "ratio", "power", "trials"), [(0.04, 1.0, 0.998, 4.4), (0.06, 1.03, 0.59, 8.1)])
def test_jointly_tpot_binds_as_in_the_reference(sigma: float, ratio: float, power: float, trials: float) -> None:
    outcome = simulate(DESIGN, [ttft(1 / 3, sigma), rate(2.96, sigma), tpot(ratio, sigma)], runs=3000)
    assert outcome.passes == pytest.approx(power, abs=0.03)
    assert outcome.mean_trials == pytest.approx(trials, abs=0.2)
    assert outcome.binding == "tpot_mean"
    assert outcome.passes <= min(outcome.alone.values())


def test_exactly_on_the_target_a_run_passes_in_at_most_five_percent() -> None:
    outcome = simulate(DESIGN, [ttft(0.40, 0.05)], runs=6000)
    assert outcome.passes < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 6000)
    assert outcome.passes + outcome.fails + outcome.undecided == pytest.approx(1)


def test_a_hopeless_claim_ends_the_run_early_with_fail() -> None:
    outcome = simulate(DESIGN, [ttft(0.33, 0.02), tpot(1.5, 0.02)], runs=500)
    assert outcome.fails == pytest.approx(1, abs=0.01)
    assert outcome.trials == (3, 3)


def test_equivalence_fails_on_either_side() -> None:
    both = Assumed(id="tpot_mean", ratio=0.6, target_ratio=1.1, direction="equivalent", sigma_w=0.02, sigma_c=0.02)
    assert simulate(DESIGN, [both], runs=300).fails > 0.99


def test_a_single_late_look_agrees_with_the_noncentral_t() -> None:
    look, sigma, distance = 10, 0.1, 0.12
    design = Design(looks=(look,), level=0.05)
    found = simulate(design, [ttft(0.40 * math.exp(-distance), sigma)], runs=6000).passes
    df, se = 2 * look - 2, sigma * math.sqrt(1 / look + 1 / (look + 1))
    expected = stats.nct.sf(stats.t.isf(0.05, df), df, distance / se)
    assert found == pytest.approx(expected, abs=0.025)


def test_the_least_distance_is_resolved_with_the_power_asked_for() -> None:
    distance = least_distance(DESIGN, sigma_w=0.08, sigma_c=0.08, runs=3000)
    power = simulate(DESIGN, [ttft(0.40 * math.exp(-distance), 0.08)], runs=3000, seed=5).passes
    assert power == pytest.approx(0.8, abs=0.03)


def test_the_least_effect_lies_on_the_good_side() -> None:
    assert least_effect(DESIGN, ttft(0.3, 0.05), runs=500) < 0.40
    assert least_effect(DESIGN, rate(3.0, 0.05), runs=500) > 2.5


def test_a_forecast_without_history_is_a_wide_range_and_narrows_with_data() -> None:
    claims = [ttft(1 / 3, 0.04), tpot(1.0, 0.04)]
    blind = forecast(DESIGN, claims, trial_s=60, runs=500)
    informed = forecast(DESIGN, claims, df=40, trial_s=60, runs=500)

    assert blind.trials[0] == 3
    assert blind.trials[1] == 10
    assert blind.minutes == pytest.approx((3.5, 10.5))
    assert informed.trials[1] - informed.trials[0] < blind.trials[1] - blind.trials[0]
    assert blind.binding == "tpot_mean"
    assert blind.sentence.startswith("a verdict after 3 to 10 trials, in 4 to 10 min; PASS in ")
    assert "tpot_mean binds" in blind.sentence
    assert "瓶颈为 tpot_mean" in blind.sentence_zh
    assert blind.alone["ttft_mean"][1] == 1.0


def test_after_a_look_the_forecast_counts_only_what_is_left() -> None:
    ahead = forecast(DESIGN, [ttft(0.37, 0.05)], df=4, trial_s=60, done=5, runs=300)
    assert ahead.trials[0] >= 6
    assert ahead.minutes is not None
    assert ahead.minutes[0] == pytest.approx(ahead.trials[0] - 5)
    assert "min" not in forecast(DESIGN, [ttft(0.37, 0.05)], df=4, done=10, runs=100).sentence.split(";")[0]


def test_the_outlook_of_judged_claims_uses_their_estimates() -> None:
    claims = judge_claims(SPEC, noisy(3, 0.385, sigma=0.03), looks=LOOKS, trials=3, quick=False)
    assumed = assumed_of(claims)
    seen = outlook(DESIGN, claims, done=3, runs=300)

    assert [one.id for one in assumed] == ["ttft_mean", "request_throughput", "tpot_mean"]
    assert assumed[0].sigma_w > 0
    assert seen is not None
    assert seen.trials[0] >= 4
    assert {claim.verdict for claim in claims} <= set(Verdict)


def test_before_a_test_there_is_no_outlook() -> None:
    claims = judge_claims(SPEC, noisy(1, 0.3), looks=LOOKS, trials=1, quick=False)
    assert outlook(DESIGN, claims, done=1) is None


def test_sigma_from_few_rounds_is_a_wide_range() -> None:
    low, high = sigma_range(1.0, 4)
    assert low == pytest.approx(math.sqrt(4 / 7.779), abs=1e-3)
    assert high == pytest.approx(math.sqrt(4 / 1.064), abs=1e-3)


def test_chi_square_and_normal_quantiles_agree_with_closed_forms() -> None:
    assert special.chdtri(2, 0.1) == pytest.approx(-2 * math.log(0.1))
    assert special.ndtri(0.95) == pytest.approx(NormalDist().inv_cdf(0.95))


def test_chi_square_quantiles_agree_with_simulation() -> None:
    drawn = (np.random.default_rng(3).standard_normal((40_000, 5)) ** 2).sum(axis=1)
    assert (drawn > special.chdtri(5, 0.1)).mean() == pytest.approx(0.1, abs=0.006)
