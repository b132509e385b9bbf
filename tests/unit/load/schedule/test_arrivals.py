"""Arrival schedules: pure, seeded, absolute, with the statistics they promise."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.load.schedule.arrivals import (
    constant_offsets,
    gamma_offsets,
    ramp_offsets,
)

RATES = st.floats(min_value=0.01, max_value=10_000)
SCHEDULES: list[Callable[[int], tuple[int, ...]]] = [
    lambda count: constant_offsets(count, rate_per_s=3.0),
    lambda count: gamma_offsets(count, rate_per_s=3.0, burstiness=1.0, seed=5),
    lambda count: gamma_offsets(count, rate_per_s=3.0, burstiness=0.3, seed=5),
    lambda count: ramp_offsets(count, from_per_s=1.0, to_per_s=9.0),
]


def gaps_s(offsets: tuple[int, ...]) -> list[float]:
    return [(later - earlier) / 1e9 for earlier, later in itertools.pairwise(offsets)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_begin_at_zero_ascend_and_repeat(schedule: Callable[[int], tuple[int, ...]]) -> None:
    offsets = schedule(50)
    assert offsets[0] == 0
    assert list(offsets) == sorted(offsets)
    assert offsets == schedule(50)
    assert schedule(0) == ()


@given(st.integers(min_value=2, max_value=2000), RATES)
def test_a_constant_rate_does_not_drift(count: int, rate: float) -> None:
    offsets = constant_offsets(count, rate_per_s=rate)
    assert offsets[-1] == pytest.approx((count - 1) / rate * 1e9, abs=1)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_mean_and_variation_they_promise(burstiness: float) -> None:
    gaps = gaps_s(gamma_offsets(40_000, rate_per_s=20, burstiness=burstiness, seed=3))
    assert statistics.fmean(gaps) == pytest.approx(1 / 20, rel=0.05)
    assert statistics.stdev(gaps) / statistics.fmean(gaps) == pytest.approx(1 / math.sqrt(burstiness), rel=0.05)


def test_gaps_of_shape_one_are_exponential() -> None:
    from scipy.stats import kstest

    gaps = gaps_s(gamma_offsets(5000, rate_per_s=50, burstiness=1.0, seed=1))
    assert kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.001


@given(st.integers(min_value=2, max_value=500), RATES, RATES)
def test_a_ramp_reaches_its_rates(count: int, begin: float, end: float) -> None:
    offsets = ramp_offsets(count, from_per_s=begin, to_per_s=end)
    duration_s = 2 * count / (begin + end)
    assert list(offsets) == sorted(offsets)
    for index in (0, count // 2, count - 1):
        at_s = offsets[index] / 1e9
        arrived = begin * at_s + (end - begin) * at_s**2 / (2 * duration_s)
        assert arrived == pytest.approx(index, abs=1e-3 + 1e-8 * max(begin, end))


def test_a_level_ramp_is_a_constant_rate() -> None:
    assert ramp_offsets(20, from_per_s=4, to_per_s=4) == constant_offsets(20, rate_per_s=4)


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_rates_must_be_positive_numbers(rate: float) -> None:
    with pytest.raises(ValueError, match=r"rate_per_s must be a positive number, got"):
        constant_offsets(3, rate_per_s=rate)
    with pytest.raises(ValueError, match="burstiness"):
        gamma_offsets(3, rate_per_s=1, burstiness=rate, seed=0)


def test_a_count_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        constant_offsets(-1, rate_per_s=1)
