"""Change points by the package `ruptures` (extra `changepoints`), for who wants a second opinion.

Its exact search (PELT, Killick, Fearnhead and Eckley 2012) over logs with a quadratic cost finds all shifts at once,
where `change_points` tests one split after the other. Its penalty is the Bayesian criterion's, 4 σ² ln n for each
shift, and no rate of false findings follows from it: a description, as all change points are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from pytest_mooncake.analysis.regression.change_points import LEAST_AFTER, ChangePoint, change_points
from pytest_mooncake.analysis.statistics.contrast import CONSTANT
from pytest_mooncake.errors import MissingPartError

__all__ = ["Method", "points_by", "ruptures_points"]


class Method(StrEnum):
    """Who dates the shifts."""

    TESTED = "tested"
    RUPTURES = "ruptures"


def points_by(method: Method, values: Sequence[float], releases: Sequence[str]) -> tuple[ChangePoint, ...]:
    """Shifts by the test of `change_points`, or by `ruptures_points`; arguments and errors are theirs."""
    found = change_points if method is Method.TESTED else ruptures_points
    return found(values, releases)


def ruptures_points(values: Sequence[float], releases: Sequence[str]) -> tuple[ChangePoint, ...]:
    """All shifts that `ruptures` sees, oldest first; a level has two runs at least.

    Args:
        values: (n,) one positive figure a run, oldest first.
        releases: (n,) the release of each.

    Raises:
        MissingPartError: the package is not installed.
        ValueError: lengths differ, or a value is not positive.
    """
    try:
        import ruptures
    except ImportError:
        raise MissingPartError("ruptures is not installed: pip install 'pytest-mooncake[changepoints]'") from None
    import numpy as np

    if len(values) != len(releases) or any(not 0 < one < math.inf for one in values):
        raise ValueError(f"{len(values)} values and {len(releases)} releases; values must be positive")
    logs = [math.log(one) for one in values]
    if len(logs) < 2 * LEAST_AFTER:
        return ()
    penalty = 4 * max(_noise(logs), CONSTANT) ** 2 * math.log(len(logs))
    search = ruptures.Pelt(model="l2", min_size=LEAST_AFTER, jump=1).fit(np.array(logs))
    ends = [0, *(int(end) for end in search.predict(pen=penalty))]
    levels = [logs[start:end] for start, end in pairwise(ends)]
    pairs = zip(pairwise(levels), ends[1:-1], strict=True)
    return tuple(_point(before, after, at, releases) for (before, after), at in pairs)


def _noise(logs: Sequence[float]) -> float:
    """Spread from run to run by the median of differences, which shifts hardly touch (0.6745 √2 for normal noise)."""
    steps = [abs(later - sooner) for sooner, later in pairwise(logs)]
    return statistics.median(steps) / (0.6745 * math.sqrt(2))


def _point(before: Sequence[float], after: Sequence[float], at: int, releases: Sequence[str]) -> ChangePoint:
    return ChangePoint(
        index=at,
        release=releases[at],
        ratio=math.exp(statistics.fmean(after) - statistics.fmean(before)),
        t=None,
        bound=None,
        runs_before=len(before),
        runs_after=len(after),
    )
