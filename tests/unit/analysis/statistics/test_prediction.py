"""The prediction interval, against scipy's own noncentral t and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_mooncake.analysis.statistics.prediction import (
    Noise,
    catch_rate,
    holm,
    mean_and_noise,
    p_worse,
    smallest_caught,
    upper_bound,
)

SIGMAS = (0.01, 0.02, 0.03, 0.05, 0.10)


@pytest.mark.parametrize(
    ("runs", "percent"),
    [
        (10, (5.1, 10.4, 16.0, 28.1, 64.1)),
        (20, (4.5, 9.2, 14.1, 24.6, 55.1)),
        (30, (4.3, 8.8, 13.6, 23.6, 52.8)),
    ],
)
def test_the_smallest_slowdown_caught_is_the_published_one(runs: int, percent: tuple[float, ...]) -> None:
    for sigma, expected in zip(SIGMAS, percent, strict=True):
        found = smallest_caught(Noise(deviation=sigma, df=runs - 1), runs, level=0.01)
        assert found is not None
        assert 100 * math.expm1(found) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.06, 0.10])
def test_without_a_least_effect_the_power_is_that_of_the_noncentral_t(shift: float) -> None:
    found = catch_rate(shift, Noise(deviation=0.02, df=19), 20, level=0.01)
    centre = shift / (0.02 * math.sqrt(1 + 1 / 20))
    assert found == pytest.approx(stats.nct.sf(stats.t.ppf(0.99, 19), 19, centre), abs=2e-4)


def test_the_least_effect_lowers_the_power_as_simulated() -> None:
    generator = np.random.default_rng(1)
    past = generator.normal(0, 0.02, (100_000, 20))
    new = generator.normal(math.log(1.08), 0.02, 100_000)
    estimate = new - past.mean(axis=1)
    needed = stats.t.ppf(0.99, 19) * past.std(axis=1, ddof=1) * math.sqrt(1.05)
    seen = np.mean(estimate > np.maximum(needed, math.log(1.05)))
    found = catch_rate(math.log(1.08), Noise(deviation=0.02, df=19), 20, level=0.01, least=math.log(1.05))
    assert found == pytest.approx(seen, abs=0.005)


def test_p_value_and_bound_are_two_sides_of_one_interval() -> None:
    noise = Noise(deviation=0.02, df=19)
    bound = upper_bound(noise, 20, 0.01)
    assert p_worse(bound, noise, 20) == pytest.approx(0.01)
    assert p_worse(bound, noise, 20) == pytest.approx(stats.t.sf(bound / (0.02 * math.sqrt(1.05)), 19))


def test_mean_and_noise_are_numpys() -> None:
    logs = [0.1, 0.25, 0.2, 0.4]
    mean, noise = mean_and_noise(logs)
    assert mean == pytest.approx(np.mean(logs))
    assert noise.deviation == pytest.approx(np.std(logs, ddof=1))
    assert noise.df == 3


def test_runs_that_never_differed_make_every_worsening_certain() -> None:
    still = Noise(deviation=0.0, df=19)
    assert (p_worse(0.1, still, 20), p_worse(0.0, still, 20), p_worse(-0.1, still, 20)) == (0.0, 1.0, 1.0)
    assert catch_rate(0.06, still, 20, level=0.01, least=0.05) == 1.0
    assert catch_rate(0.04, still, 20, level=0.01, least=0.05) == 0.0
    assert smallest_caught(still, 20, level=0.01, least=0.05) == pytest.approx(0.05)


def test_a_figure_that_fell_to_nothing_is_certain_too() -> None:
    noise = Noise(deviation=0.02, df=19)
    assert p_worse(math.inf, noise, 20) == 0.0
    assert p_worse(-math.inf, noise, 20) == 1.0


def test_where_noise_drowns_everything_there_is_no_smallest_slowdown() -> None:
    assert smallest_caught(Noise(deviation=10.0, df=9), 10, level=0.01) is None


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_adjusts_as_scipys_definition_of_a_closed_test(p_values: list[float]) -> None:
    """Rejection at any level is the step-down rule, written out anew."""
    adjusted = holm(p_values)
    assert len(adjusted) == len(p_values)
    for alpha in (0.01, 0.05, 0.2):
        rejected, count = set(), len(p_values)
        for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
            if p_values[index] * (count - rank) > alpha:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
