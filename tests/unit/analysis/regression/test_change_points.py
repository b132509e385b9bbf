"""Dating a shift: bounds as published, t as scipy's, shifts found where they were put."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_mooncake.analysis.regression.change_points import (
    ChangePoint,
    Margins,
    change_points,
    largest_t,
    simulated_bound,
)


def series(*levels: tuple[float, int], sigma: float = 0.02, seed: int = 0) -> tuple[list[float], list[str]]:
    generator = np.random.default_rng(seed)
    means = [level for level, count in levels for _ in range(count)]
    values = [level * math.exp(generator.normal(0, sigma)) for level in means]
    return values, [f"v{i}" for i in range(len(values))]


def shifts(*levels: tuple[float, int], seed: int = 0) -> tuple[ChangePoint, ...]:
    return change_points(*series(*levels, seed=seed))


@pytest.mark.parametrize(
    ("n", "at_5", "at_1"),
    [(10, 3.13, 4.34), (15, 2.95, 3.91), (21, 2.90, 3.74), (30, 2.87, 3.63), (50, 2.87, 3.53)],
)
def test_the_bounds_are_the_published_ones(n: int, at_5: float, at_1: float) -> None:
    """Slowdowns only, over all splits."""
    everywhere = Margins(before=1, after=1)
    assert simulated_bound(n, level=0.05, margins=everywhere, two_sided=False) == pytest.approx(at_5, abs=0.05)
    assert simulated_bound(n, level=0.01, margins=everywhere, two_sided=False) == pytest.approx(at_1, abs=0.12)


def test_the_largest_t_is_that_of_scipys_test_at_that_split() -> None:
    values, _ = series((100, 14), (106, 5), seed=4)
    logs = [math.log(one) for one in values]
    found = {k: stats.ttest_ind(logs[k:], logs[:k]).statistic for k in range(10, 18)}
    best = max(found, key=lambda k: abs(found[k]))
    t, split = largest_t(logs)
    assert split == best
    assert t == pytest.approx(found[best])


def over_bound(found: ChangePoint) -> float:
    """The statistic over its bound."""
    assert found.t is not None
    assert found.bound is not None
    assert found.bound > 0
    return found.t / found.bound


def test_a_shift_is_dated_and_named_by_its_release() -> None:
    (found,) = shifts((100, 20), (112, 4))
    assert (found.index, found.release, found.runs_before, found.runs_after) == (20, "v20", 20, 4)
    assert found.ratio == pytest.approx(1.12, rel=0.03)
    assert over_bound(found) > 1
    assert found.words.endswith("% since v20 (20 runs before, 4 from it on)")


def test_an_improvement_is_found_as_well() -> None:
    (found,) = shifts((100, 20), (80, 3))
    assert found.ratio == pytest.approx(0.8, rel=0.03)
    assert over_bound(found) < -1


def test_two_shifts_are_told_apart_oldest_first() -> None:
    assert [one.index for one in shifts((100, 15), (120, 14), (150, 5))] == [15, 29]


def test_a_single_spike_at_the_end_is_no_change_point() -> None:
    values, names = series((100, 20))
    assert change_points([*values, 250.0], [*names, "spike"]) == ()


def test_a_spike_between_does_not_hide_the_shift_after_it() -> None:
    values, names = series((100, 24), (115, 6))
    values[15] = 130.0
    assert [one.index for one in change_points(values, names)] == [24]


def test_fewer_than_ten_runs_before_a_shift_are_no_level() -> None:
    assert shifts((100, 4), (150, 7)) == ()


def test_a_series_that_never_moves_has_no_shift_and_one_that_jumps_has() -> None:
    assert change_points([5.0] * 30, ["v"] * 30) == ()
    (found,) = change_points([5.0] * 20 + [6.0] * 3, [f"v{i}" for i in range(23)])
    assert (found.index, math.isinf(over_bound(found))) == (20, True)


def test_series_without_a_shift_show_one_in_about_one_of_a_hundred() -> None:
    shown = sum(bool(shifts((100, 30), seed=seed)) for seed in range(400))
    assert shown <= 11  # 99.5 % point of Binomial(400, 0.0125)


@pytest.mark.parametrize("values", [[1.0, 0.0], [1.0, math.nan], [1.0, math.inf], [1.0]])
def test_what_is_no_series_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values must be positive"):
        change_points(values, ["a", "b"])


def test_a_series_too_short_for_its_margins_has_no_largest_t() -> None:
    with pytest.raises(ValueError, match="11 runs; 12 are needed"):
        largest_t([0.0] * 11)
