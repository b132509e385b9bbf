"""The contrast of a chain against closed forms, least squares and its own vectorised twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from pytest_mooncake.analysis.statistics.chain_simulation import own_squares, statistics, sums
from pytest_mooncake.analysis.statistics.contrast import (
    Contrast,
    Point,
    Untestable,
    contrast,
    t_quantile,
)
from pytest_mooncake.records import Kind


def points(values: list[float], segment: int = 0) -> list[Point]:
    return [
        Point(kind=Kind.WARM if i % 2 else Kind.COLD, position=i, value=value, segment=segment)
        for i, value in enumerate(values)
    ]


def contrasted(of: list[Point]) -> Contrast:
    found = contrast(of)
    assert isinstance(found, Contrast)
    return found


chains = st.integers(2, 8).flatmap(
    lambda n: st.lists(st.floats(-0.5, 0.5).map(lambda v: round(v, 4)), min_size=2 * n + 1, max_size=2 * n + 1)
)


@given(chains)
def test_a_whole_chain_follows_the_closed_form(logs: list[float]) -> None:
    found = contrast(points([math.exp(v) for v in logs]))
    n = len(logs) // 2
    closed = statistics(sums(np.array([logs]), n))
    if isinstance(found, Untestable):
        assert closed.se[0] < 1e-8
        return
    assert found.effect == pytest.approx(closed.effect[0], abs=1e-12)
    assert found.se == pytest.approx(closed.se[0], rel=1e-6, abs=1e-9)
    assert found.df == pytest.approx(closed.df[0], rel=1e-3)


def test_own_degrees_of_freedom_are_rounds_less_one_less_the_share_of_the_trend() -> None:
    k_w, k_c = own_squares(3)
    logs = np.random.default_rng(1).normal(size=7)
    found = contrasted(points(np.exp(logs).tolist()))
    v_w, v_c = found.s_w**2 / 3, found.s_c**2 / 4
    expected = (v_w + v_c) ** 2 / (v_w**2 / (3 - 1 - 8 / 28) + v_c**2 / (4 - 1 - 20 / 28))

    assert (k_w, k_c) == (8, 20)
    assert found.se == pytest.approx(math.sqrt(v_w + v_c))
    assert found.df == pytest.approx(expected)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_linear_drift_of_any_size_cancels(drift: float, effect: float) -> None:
    noise = np.random.default_rng(5).normal(scale=0.05, size=9)
    warm = np.arange(9) % 2
    still = contrasted(points(np.exp(noise).tolist()))
    moved = contrasted(points(np.exp(noise + drift * np.arange(9) + effect * warm).tolist()))

    assert moved.effect - effect == pytest.approx(still.effect, abs=1e-9)
    assert moved.se == pytest.approx(still.se, rel=1e-6)
    assert moved.drift - drift == pytest.approx(still.drift, abs=1e-9)


def test_an_incomplete_chain_agrees_with_least_squares() -> None:
    logs = np.random.default_rng(2).normal(scale=0.1, size=11)
    kept = [p for p in points(np.exp(logs).tolist()) if p.position not in (3, 6)]
    k = np.array([p.position for p in kept], dtype=float)
    warm = np.array([p.kind is Kind.WARM for p in kept])
    design = np.column_stack([np.ones(len(kept)), k, warm])
    solution, *_ = np.linalg.lstsq(design, logs[k.astype(int)], rcond=None)
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    found = contrasted(kept)

    assert found.effect == pytest.approx(solution[2])
    assert found.drift == pytest.approx(solution[1])
    residuals = logs[k.astype(int)] - design @ solution
    s_w = math.sqrt((residuals[warm] ** 2).sum() / (1 - np.diag(hat)[warm]).sum())
    assert found.s_w == pytest.approx(s_w)


def test_a_shift_between_segments_does_not_touch_the_effect() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.normal(scale=0.05, size=5), generator.normal(scale=0.05, size=5)
    same = contrasted([*points(np.exp(first).tolist()), *points(np.exp(second).tolist(), 1)])
    moved = contrasted([*points(np.exp(first).tolist()), *points(np.exp(second + 3).tolist(), 1)])

    assert moved.effect == pytest.approx(same.effect)
    assert moved.se == pytest.approx(same.se)


def test_a_lone_cold_round_that_opens_a_segment_changes_nothing() -> None:
    logs = np.exp(np.random.default_rng(4).normal(scale=0.1, size=7)).tolist()
    alone = contrasted(points(logs))
    with_lone = contrasted([*points(logs), Point(kind=Kind.COLD, position=0, value=55.0, segment=1)])

    assert with_lone.effect == pytest.approx(alone.effect)
    assert with_lone.df == pytest.approx(alone.df)


def test_the_order_of_the_points_does_not_matter() -> None:
    made = points([10, 4, 11, 4.2, 9.5, 4.1, 10.2])
    assert contrasted(made[::-1]).effect == pytest.approx(contrasted(made).effect)


def test_one_trial_describes_and_tests_nothing() -> None:
    found = contrast(points([10, 4, 10]))
    assert isinstance(found, Untestable)
    assert "one trial" in found.reason
    assert found.ratio == pytest.approx(0.4)


def test_two_trials_are_tested_with_what_little_freedom_they_have() -> None:
    found = contrasted(points([10, 4, 10.2, 4.1, 9.9]))
    assert 0.7 < found.df < 2.1
    assert found.ratio == pytest.approx(0.404, abs=0.01)


def test_constant_rounds_are_said_to_be_constant() -> None:
    found = contrast(points([10, 4, 10, 4, 10, 4, 10]))
    assert isinstance(found, Untestable)
    assert "do not differ" in found.reason
    assert found.ratio == pytest.approx(0.4)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_round_without_a_figure_is_named(value: float | None) -> None:
    made = [*points([10, 4, 10, 4.1]), Point(kind=Kind.COLD, position=4, value=value)]
    found = contrast(made)
    assert isinstance(found, Untestable)
    assert "cold round at position 4 has no figure" in found.reason
    assert found.effect is None
    assert found.ratio is None


def test_a_metric_that_reads_zero_allows_no_ratio() -> None:
    found = contrast(points([10, 0, 10]))
    assert isinstance(found, Untestable)
    assert "more than 0" in found.reason


def test_rounds_of_one_kind_allow_no_ratio() -> None:
    found = contrast([Point(kind=Kind.COLD, position=0, value=1.0)])
    assert isinstance(found, Untestable)
    assert "needs both kinds" in found.reason


def test_kinds_that_share_no_segment_cannot_be_compared() -> None:
    made = [Point(kind=Kind.COLD, position=i, value=10 + i) for i in range(3)]
    made += [Point(kind=Kind.WARM, position=i, value=4 + i, segment=1) for i in range(3)]
    found = contrast(made)
    assert isinstance(found, Untestable)
    assert "no segment" in found.reason


def test_t_quantiles_agree_with_closed_forms() -> None:
    assert t_quantile(0.975, 1) == pytest.approx(math.tan(math.pi * 0.475))
    p = 0.99
    assert t_quantile(p, 2) == pytest.approx((2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p))))


@pytest.mark.parametrize("df", [0.8, 1.7, 2.3, 5.5, 11.2])
def test_t_with_fractional_freedom_agrees_with_its_integral(df: float) -> None:
    scale = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    tail, _ = integrate.quad(lambda x: scale * (1 + x * x / df) ** (-(df + 1) / 2), 2.0, math.inf)

    assert special.stdtr(df, -2.0) == pytest.approx(tail, rel=1e-6)
    assert t_quantile(1 - tail, df) == pytest.approx(2.0, rel=1e-6)


def test_rounds_of_each_kind_are_counted_and_told() -> None:
    found = contrasted(points([10.0, 4.0, 11.0, 4.2, 10.5]))
    assert (found.n_warm, found.n_cold) == (2, 3)
    lonely = contrast([Point(kind=Kind.COLD, position=0, value=5.0)])
    assert isinstance(lonely, Untestable)
    assert (lonely.n_warm, lonely.n_cold, lonely.measured) == (0, 1, False)
    assert lonely.reason.startswith("0 warm and 1 cold rounds")


def test_one_kind_without_spread_is_enough_to_test_nothing() -> None:
    """One warm round among many cold ones is fitted exactly: nothing tells how much it would have varied."""
    one_warm = [Point(kind=Kind.COLD, position=i, value=v) for i, v in ((0, 10.0), (2, 11.0), (4, 10.4), (6, 10.9))]
    found = contrast([*one_warm, Point(kind=Kind.WARM, position=1, value=4.0)])
    assert isinstance(found, Untestable)
    assert found.reason.startswith("one trial: no spread")
    assert found.effect is not None
    one_cold = [Point(kind=Kind.WARM, position=i, value=v) for i, v in ((1, 4.0), (3, 4.1), (5, 4.4), (7, 4.0))]
    other = contrast([*one_cold, Point(kind=Kind.COLD, position=0, value=10.0)])
    assert isinstance(other, Untestable)
    assert other.reason.startswith("4 warm and 1 cold rounds: no spread")


def test_kinds_in_segments_of_their_own_show_an_effect_that_cannot_be_told_from_drift() -> None:
    apart = [*points([10.0])[:1], Point(kind=Kind.WARM, position=0, value=5.0, segment=1)]
    found = contrast(apart)
    assert isinstance(found, Untestable)
    assert found.ratio == pytest.approx(0.5)
    assert "no segment of the chain holds a warm round beside a cold one" in found.reason


def test_a_zero_is_a_figure_but_forms_no_ratio() -> None:
    zero = contrast(points([10.0, 0.0, 11.0]))
    absent = contrast([*points([10.0, 4.0]), Point(kind=Kind.COLD, position=2, value=None)])
    assert isinstance(zero, Untestable)
    assert isinstance(absent, Untestable)
    assert (zero.measured, absent.measured) == (True, False)
    assert "the warm round at position 1 reads 0" in zero.reason
    assert "the cold round at position 2 has no figure" in absent.reason
