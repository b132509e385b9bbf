"""When did a metric shift, and with which release? Change points date and name a shift; they never gate.

The statistic is the largest pooled t over all splits of a series of logs (Hawkins 1977), its bound simulated under
normal noise for the very length and margins: a p value that is chosen by looking at all splits is no rate of false
findings. A split needs 10 runs before it, or one odd old run could be a level, and 2 after it, so that a single spike
is none. Slowdowns and improvements are both found.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.statistics.contrast import CONSTANT

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.01
"""How often a series without a shift shows one."""
LEAST_BEFORE = 10
LEAST_AFTER = 2
MOST_SHIFTS = 20
RUNS = 20_000
_MOST_RUNS = 1000
"""Runs of a series that are looked at, the latest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Runs that a split leaves on either side, at least."""

    before: int = LEAST_BEFORE
    after: int = LEAST_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePoint:
    """A shift: the first run of the new level, and new over old level as a ratio of geometric means."""

    index: int
    release: str
    ratio: float
    t: float | None
    bound: float | None
    """The statistic and what it had to exceed; `None` where the shift was found without a test."""
    runs_before: int
    runs_after: int

    @property
    def words(self) -> str:
        """The shift as a sentence."""
        size = f"{(self.ratio - 1) * 100:+.1f} %"
        return f"{size} since {self.release} ({self.runs_before} runs before, {self.runs_after} from it on)"


def change_points(
    values: Sequence[float], releases: Sequence[str], *, level: float = LEVEL, margins: Margins | None = None
) -> tuple[ChangePoint, ...]:
    """All shifts of a series, oldest first.

    Args:
        values: (n,) one positive figure a run, oldest first.
        releases: (n,) the release of each.
        level: rate of false findings in a series without a shift.
        margins: least runs on either side of a split.

    Returns:
        The largest shift of the series, then that of what follows it, and so on; each level is tested against its own
        runs only, so an old level that was left takes no part in judging the next one.

    Raises:
        ValueError: lengths differ, or a value is not positive.
    """
    if len(values) != len(releases) or any(not 0 < one < math.inf for one in values):
        raise ValueError(f"{len(values)} values and {len(releases)} releases; values must be positive")
    first, found = max(0, len(values) - _MOST_RUNS), list[ChangePoint]()
    margins = margins or Margins()
    logs = [math.log(one) for one in values]
    for _ in range(MOST_SHIFTS):
        point = _earliest(logs, releases, first, margins, level)
        if point is None:
            break
        found.append(point)
        first = point.index
    return tuple(found)


def _earliest(
    logs: Sequence[float], releases: Sequence[str], first: int, margins: Margins, level: float
) -> ChangePoint | None:
    """The first shift after `first`: the largest split, then whether what lies before it holds another one."""
    end, found = len(logs), None
    while end - first >= margins.before + margins.after:
        t, split = largest_t(logs[first:end], margins)
        bound = simulated_bound(end - first, level=level, margins=margins)
        if abs(t) <= bound:
            break
        found = _point(logs, releases, first, first + split, end, (t, bound))
        end = found.index
    return found


def _point(
    logs: Sequence[float], releases: Sequence[str], first: int, index: int, end: int, tested: tuple[float, float]
) -> ChangePoint:
    before, after = logs[first:index], logs[index:end]
    return ChangePoint(
        index=index,
        release=releases[index],
        ratio=math.exp(math.fsum(after) / len(after) - math.fsum(before) / len(before)),
        t=tested[0],
        bound=tested[1],
        runs_before=len(before),
        runs_after=len(after),
    )


def largest_t(logs: Sequence[float], margins: Margins | None = None) -> tuple[float, int]:
    """The pooled t of the split where it is largest in size, and that split (runs before it).

    A split whose later level a single run makes up counts as t = 0.

    Positive: the later level is higher. A series that does not differ within its levels has an infinite t.

    Raises:
        ValueError: the series is shorter than both margins together.
    """
    import numpy as np

    margins = margins or Margins()
    if len(logs) < margins.before + margins.after:
        raise ValueError(f"{len(logs)} runs; {margins.before + margins.after} are needed")
    t = _all_t(np.array([logs], dtype=float), margins)[0]
    splits = range(margins.before, margins.before + len(t))
    t = np.where([_is_carried(logs[:k], logs[k:], margins) for k in splits], t, 0.0)
    best = int(np.argmax(np.abs(t)))
    return float(t[best]), margins.before + best


def _is_carried(before: Sequence[float], after: Sequence[float], margins: Margins) -> bool:
    """Whether enough runs of the later level lie beyond the middle between both: one spike makes a mean, no level."""
    low, high = math.fsum(before) / len(before), math.fsum(after) / len(after)
    beyond = sum((one - (low + high) / 2) * (high - low) > 0 for one in after)
    return beyond >= margins.after


def _all_t(series: NDArray[Any], margins: Margins) -> NDArray[Any]:
    """(k, splits) pooled t of every split of k series."""
    import numpy as np

    n = series.shape[1]
    splits = np.arange(margins.before, n - margins.after + 1)
    centred = series - series.mean(axis=1, keepdims=True)
    ahead = np.cumsum(centred, axis=1)[:, splits - 1]
    total = (centred**2).sum(axis=1, keepdims=True)
    between = ahead**2 * (1 / splits + 1 / (n - splits))
    within = np.maximum(total - between, 0.0) / (n - 2)
    difference = -ahead * (1 / splits + 1 / (n - splits))
    se = np.sqrt(within * (1 / splits + 1 / (n - splits)))
    still = (se < CONSTANT) & (np.abs(difference) < CONSTANT)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(se < CONSTANT, np.copysign(np.inf, difference), difference / se)
    return np.where(still, 0.0, t)


@functools.lru_cache(maxsize=512)
def simulated_bound(
    n: int, *, level: float = LEVEL, margins: Margins | None = None, two_sided: bool = True, runs: int = RUNS
) -> float:
    """Size of the largest t that a series of n runs without a shift exceeds with probability `level` (seeded)."""
    import numpy as np

    margins = margins or Margins()
    generator = np.random.default_rng(n)
    largest: list[NDArray[Any]] = []
    at_once = max(1, 2_000_000 // n)
    for start in range(0, runs, at_once):
        t = _all_t(generator.standard_normal((min(at_once, runs - start), n)), margins)
        largest.append(np.abs(t).max(axis=1) if two_sided else t.max(axis=1))
    return float(np.quantile(np.concatenate(largest), 1 - level))
