"""One new run against past ones: a one-sided prediction interval on the logs, and Holm's step over several metrics.

With n past runs of mean log m and standard deviation s, a further run y of the same release obeys

    t = (y - m)/(s·√(1 + 1/n)),   Student's t with n - 1 degrees of freedom   (Hahn & Meeker 1991, section 4.7)

The level of the past may rest on other runs than its noise does: the accepted release was run a few times only, the
spread from run to run is known from all. "Worse" is always positive here: of a metric whose good side is up, logs
change their sign.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.statistics.contrast import CONSTANT, t_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAUGHT = 0.95
"""How often the smallest slowdown that is printed is caught."""
_NODES = 400
_HALVINGS = 40
_MOST_LOG = 8.0
"""Slowdowns beyond exp(8) are not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Spread of a log metric from run to run, and the degrees of freedom it is known with."""

    deviation: float
    df: int

    @property
    def is_none(self) -> bool:
        """Whether the past runs do not differ at all."""
        return self.deviation < CONSTANT


def mean_and_noise(logs: Sequence[float]) -> tuple[float, Noise]:
    """Mean of two or more logs, and their noise (n - 1 degrees of freedom)."""
    n = len(logs)
    mean = math.fsum(logs) / n
    return mean, Noise(deviation=math.sqrt(math.fsum((one - mean) ** 2 for one in logs) / (n - 1)), df=n - 1)


def p_worse(worse: float, noise: Noise, level_runs: int) -> float:
    """P value against "this run is like the past ones".

    Args:
        worse: log of the new run less the mean log of `level_runs` past ones; positive is worse, may be infinite.
        noise: of single runs.
        level_runs: past runs that the level rests on.

    Returns:
        The one-sided p value; without any noise in the past 0 for whatever is worse, else 1.
    """
    from scipy.special import stdtr

    if noise.is_none or math.isinf(worse):
        return 0.0 if worse > CONSTANT else 1.0
    return float(stdtr(noise.df, -worse / (noise.deviation * math.sqrt(1 + 1 / level_runs))))


def upper_bound(noise: Noise, level_runs: int, level: float) -> float:
    """Log by which a run like the past ones is worse than their mean with probability `level` at most."""
    return t_quantile(1 - level, noise.df) * noise.deviation * math.sqrt(1 + 1 / level_runs)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P values adjusted for their number (Holm 1979), in the order given; valid whatever depends on what.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def catch_rate(shift: float, noise: Noise, level_runs: int, *, level: float, least: float = 0.0) -> float:
    """How often a true worsening is an alarm.

    Args:
        shift: log by which the release is truly worse.
        noise: true spread of single runs, estimated anew with `noise.df` degrees of freedom.
        level_runs: past runs that the level rests on.
        level: one-sided level of this metric's test.
        least: log that the estimate has to exceed as well.

    Returns:
        P(estimate > max(least, t·s·√(1 + 1/n))): the normal tail, averaged over the distribution of s. With `least` 0
        this is the power by the noncentral t distribution.
    """
    import numpy as np
    from scipy.special import ndtr

    se = noise.deviation * math.sqrt(1 + 1 / level_runs)
    if se < CONSTANT:
        return float(shift >= least and shift > 0)
    needed = np.maximum(least, t_quantile(1 - level, noise.df) * se * _spreads(noise.df))
    return float(ndtr((shift - needed) / se).mean())


@functools.lru_cache(maxsize=64)
def _spreads(df: int) -> NDArray[Any]:
    """(nodes,) equally likely values of estimated over true deviation: sqrt(chi²/df)."""
    import numpy as np
    from scipy.special import gammaincinv

    half = df / 2
    spreads: NDArray[Any] = np.sqrt(gammaincinv(half, (np.arange(_NODES) + 0.5) / _NODES) / half)
    return spreads


def smallest_caught(noise: Noise, level_runs: int, *, level: float, least: float = 0.0) -> float | None:
    """Smallest true worsening, as a log, that is an alarm in 95 of 100 releases; `None` where there is none."""

    def rate(shift: float) -> float:
        return catch_rate(shift, noise, level_runs, level=level, least=least)

    if rate(_MOST_LOG) < CAUGHT:
        return None
    low, high = 0.0, _MOST_LOG
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rate(middle) >= CAUGHT else (middle, high)
    return high
