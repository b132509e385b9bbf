"""Chains in several segments: the level holds at every ratio of warm to cold noise, by the fit that judges runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import stdtrit

from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.statistics.contrast import Contrast, Point, contrast
from pytest_mooncake.analysis.statistics.levels import SEGMENTED, SINGLE, TABLE, segmented
from pytest_mooncake.records import Kind
from tests.support.made_rounds import LOOKS, a_round, serial
from tests.support.spec_figures import SPEC

RUNS = 40_000
ERROR = 3 * math.sqrt(0.05 * 0.95 / RUNS)


def places(per: int, trials: int) -> list[tuple[int, int]]:
    """Segment and position of every round when each segment holds `per` trials."""
    held, segment = [], 0
    while trials > 0:
        inside = min(per, trials)
        held += [(segment, position) for position in range(2 * inside + 1)]
        trials, segment = trials - inside, segment + 1
    return held


def fit(at: list[tuple[int, int]], logs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Effect, standard error and df of many chains of one layout: the formulae of `contrast`, over a whole matrix."""
    warm = np.array([position % 2 == 1 for _, position in at])
    segments = sorted({segment for segment, _ in at})
    middle = sum(position for _, position in at) / len(at)
    rows = [[position % 2, position - middle, *(s == one for one in segments)] for s, position in at]
    design = np.array(rows, dtype=float)
    inverse = np.linalg.pinv(design)
    hat = design @ inverse
    residuals = logs @ (np.eye(len(at)) - hat).T
    parts = []
    for chosen in (warm, ~warm):
        df = (1 - np.diag(hat))[chosen].sum()
        parts.append(((residuals[:, chosen] ** 2).sum(axis=1) / df * (inverse[0][chosen] ** 2).sum(), df))
    variance = parts[0][0] + parts[1][0]
    return logs @ inverse[0], np.sqrt(variance), variance**2 / sum(v**2 / df for v, df in parts)


def false_pass(per: int, ratio: float, looks: tuple[int, ...] = LOOKS, *, factor: bool = True) -> float:
    generator = np.random.default_rng(11)
    whole = places(per, max(looks))
    noise = generator.standard_normal((RUNS, len(whole)))
    noise[:, [position % 2 == 1 for _, position in whole]] *= ratio
    passed = np.zeros(RUNS, dtype=bool)
    for look in looks:
        at = places(per, look)
        place = {one: index for index, one in enumerate(whole)}
        warm = [sum(position % 2 for s, position in at if s == segment) for segment in {s for s, _ in at}]
        level = segmented(TABLE[looks], warm) if factor else TABLE[looks]
        effect, se, df = fit(at, noise[:, [place[one] for one in at]])
        passed |= effect + stdtrit(df, 1 - level) * se < 0
    return float(passed.mean())


def test_the_matrix_form_is_the_contrast_that_judges_runs() -> None:
    at = places(2, 5)
    logs = np.random.default_rng(1).normal(size=(1, len(at)))
    points = [
        Point(kind=Kind.WARM if position % 2 else Kind.COLD, position=position, segment=s, value=float(np.exp(y)))
        for (s, position), y in zip(at, logs[0], strict=True)
    ]
    found = contrast(points)
    assert isinstance(found, Contrast)
    effect, se, df = fit(at, logs)
    assert (found.effect, found.se, found.df) == pytest.approx((effect[0], se[0], df[0]))


@pytest.mark.parametrize("per", [1, 2, 3])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 4.0, 6.0, 16.0])
def test_a_run_of_several_segments_passes_falsely_in_at_most_five_percent(per: int, ratio: float) -> None:
    assert false_pass(per, ratio) <= 0.05 + ERROR


@pytest.mark.parametrize("looks", [looks for looks in TABLE if len(looks) >= 3])
def test_the_factors_serve_every_look_set(looks: tuple[int, ...]) -> None:
    assert false_pass(2, 5.0, looks) <= 0.05 + ERROR
    assert false_pass(1, 5.0, looks) <= 0.05 + ERROR


def test_without_the_factor_segments_would_exceed_the_promise() -> None:
    assert false_pass(1, 4.0, factor=False) > 0.05 + ERROR


def test_one_segment_keeps_the_level_and_single_trials_are_the_strictest() -> None:
    assert segmented(0.02, [7]) == segmented(0.02, []) == 0.02
    assert segmented(0.02, [2, 3]) == pytest.approx(0.02 * SEGMENTED)
    assert segmented(0.02, [2, 1, 3]) == pytest.approx(0.02 * SINGLE)


def test_claims_are_judged_by_the_level_of_their_chain() -> None:
    def broken_after(trials: int) -> float:
        at = [*places(trials, trials), *((1, position) for position in range(2 * (4 - trials) + 1))]
        rounds = [
            a_round(
                serial((300 if position % 2 else 1200) * (1 + (number * 7 % 5) / 100), 15, 4),
                number=number, kind=Kind.WARM if position % 2 else Kind.COLD, segment=segment,
            )
            for number, (segment, position) in enumerate(at)
        ]  # fmt: skip
        placed = [replace(one, position=position) for one, (_, position) in zip(rounds, at, strict=True)]
        level: float = judge_claims(SPEC, placed, looks=LOOKS, trials=4, quick=False)[0].details["level"]
        return level

    assert broken_after(4) == TABLE[LOOKS]
    assert broken_after(2) == pytest.approx(TABLE[LOOKS] * SEGMENTED)
    assert broken_after(1) == pytest.approx(TABLE[LOOKS] * SINGLE)
