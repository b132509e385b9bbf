"""The level of a look set holds its promise by simulation, at every ratio of warm to cold noise."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_mooncake.analysis.statistics.levels import (
    CONTINUED,
    RATIOS,
    TABLE,
    nominal_level,
    planned_levels,
    simulated_continuation,
    simulated_level,
    smallest_p,
)

DEFAULT = (3, 4, 5, 6, 8, 10)


def test_the_default_looks_have_the_level_of_the_reference() -> None:
    assert nominal_level(DEFAULT) == pytest.approx(0.0121, abs=0.0002)


def test_the_table_can_be_computed_again() -> None:
    assert simulated_level(DEFAULT, runs=50_000, seed=1) == pytest.approx(TABLE[DEFAULT], rel=0.03)


@pytest.mark.parametrize("looks", [DEFAULT, (3, 5, 10), (3,)])
def test_false_pass_stays_below_five_percent_at_every_noise_ratio(looks: tuple[int, ...]) -> None:
    ratios = (0.1, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0)
    runs = 20_000
    smallest = smallest_p(np.random.default_rng(7), runs, looks, ratios)
    rates = [float((p <= nominal_level(looks)).mean()) for p in smallest]
    error = 3 * np.sqrt(0.05 * 0.95 / (2 * runs))

    assert max(rates) <= 0.05 + error
    assert rates[2] < rates[4] + error


def test_a_look_set_that_is_not_stored_is_computed_and_remembered() -> None:
    looks = (4, 7)
    assert looks not in TABLE
    level = nominal_level(looks)
    hits = simulated_level.cache_info().hits

    assert 0.02 < level < 0.05
    assert nominal_level(looks) == level
    assert simulated_level.cache_info().hits == hits + 1


def test_more_looks_cost_a_stricter_level() -> None:
    assert TABLE[(2, 3, 4, 5, 6, 8, 10)] < TABLE[DEFAULT] < TABLE[(3, 5, 10)] < TABLE[(5, 10)]


def test_another_confidence_has_a_level_of_its_own() -> None:
    strict = simulated_level((3,), alpha=0.01, runs=50_000)
    assert strict < simulated_level((3,), alpha=0.05, runs=50_000) / 3
    assert max(RATIOS) >= 30


def test_no_level_exceeds_the_rate_of_false_pass_that_is_allowed() -> None:
    assert simulated_level((60,), runs=4_000) <= 0.05


def test_a_run_that_may_be_taken_up_again_keeps_to_five_percent_with_its_continuation() -> None:
    levels = planned_levels(DEFAULT)
    assert levels == {**dict.fromkeys(DEFAULT, 0.01), **dict.fromkeys(CONTINUED, 0.0062)}
    allowed = simulated_continuation(DEFAULT, level=0.01, runs=60_000, seed=3)
    assert 0.0062 < allowed < 0.0072
    assert simulated_continuation(DEFAULT, level=nominal_level(DEFAULT), runs=20_000) < 0.002


def test_what_was_not_planned_has_no_levels_to_go_on() -> None:
    assert planned_levels((3, 5, 10)) is planned_levels(DEFAULT, 0.1) is None
