"""Where a run stands in its design, and what an interval says about a target: the words PASS, FAIL, INCONCLUSIVE."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_mooncake.analysis.statistics.levels import nominal_level, one_sample_level
from pytest_mooncake.plan.targets.grammar import Direction
from pytest_mooncake.records import Verdict

__all__ = ["LEAST_TESTABLE", "MOST_TRIALS", "Look", "good_side", "settling_trials", "verdict_of"]

LEAST_TESTABLE = 2
"""Trials below which the spread between rounds cannot be estimated."""
MOST_TRIALS = 1000
"""Trials beyond which "more trials would settle it" is no advice any more."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Where a run stands in its design: `at` is the last look reached (None before the first).

    `looks` are those that can test anything; `alpha` is the largest rate of false PASS over all of them.
    """

    at: int | None
    next: int | None
    looks: tuple[int, ...]
    alpha: float

    @classmethod
    def after(cls, trials: int, looks: tuple[int, ...], alpha: float) -> Look:
        """The look that `trials` valid trials have reached; looks at fewer than two trials test nothing."""
        testable = tuple(sorted({look for look in looks if look >= LEAST_TESTABLE}))
        reached = [look for look in testable if look <= trials]
        ahead = [look for look in testable if look > trials]
        return cls(at=reached[-1] if reached else None, next=ahead[0] if ahead else None, looks=testable, alpha=alpha)

    @property
    def level(self) -> float | None:
        """Nominal one-sided level of the contrast of warm against cold rounds at each look."""
        return nominal_level(self.looks, self.alpha) if self.looks else None

    @property
    def level_of_bound(self) -> float | None:
        """The same of rounds of one kind against a bound."""
        return one_sample_level(self.looks, self.alpha) if self.looks else None


def good_side(direction: Direction, log_target: float) -> Interval:
    """Where a log ratio (or the log of a level) has to lie.

    >>> good_side("lower", -0.5)
    (-inf, -0.5)
    """
    if direction == "lower":
        return -math.inf, log_target
    if direction == "higher":
        return log_target, math.inf
    return -abs(log_target), abs(log_target)


def verdict_of(log_interval: Interval, direction: Direction, log_target: float) -> Verdict:
    """Where an interval lies.

    Args:
        log_interval: bounds of the log ratio warm/cold.
        direction: which side of the target is good; `equivalent`: between 1/target and target (two one-sided tests).
        log_target: log of the target ratio.

    Returns:
        PASS, FAIL or INCONCLUSIVE.
    """
    low, high = log_interval
    least, most = good_side(direction, log_target)
    if least < low and high < most:
        return Verdict.PASS
    return Verdict.FAIL if high < least or low > most else Verdict.INCONCLUSIVE


def settling_trials(trials: int, log_interval: Interval | None, direction: Direction, log_target: float) -> int | None:
    """About how many trials would bring the interval to one side of the target, its width falling as 1/√n.

    Args:
        trials: those behind the interval.
        log_interval: as printed, around the estimate.
        direction: which side is good.
        log_target: log of the target.

    Returns:
        `None` where there is no interval or the answer exceeds `MOST_TRIALS`: the estimate then lies on the target.
    """
    if log_interval is None:
        return None
    half, middle = (log_interval[1] - log_interval[0]) / 2, sum(log_interval) / 2
    distance = min(abs(middle - side) for side in good_side(direction, log_target))
    if distance * math.sqrt(MOST_TRIALS / trials) < half:
        return None
    return max(trials + 1, math.ceil(trials * (half / distance) ** 2))
