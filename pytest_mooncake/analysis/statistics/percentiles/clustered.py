"""Shares of requests with rounds as clusters: requests of a round share the engine's state and count as fewer.

How many fewer, the design effect, is the variance of the rounds' shares over what independent requests would show. It
is estimated from few rounds, so it is made worse by the square of Student's over the normal quantile; with the
requests that are left the exact limits of a rate hold (Korn and Graubard, Survey Methodology 24 (1998) 193; Clopper
and Pearson 1934).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.plan.targets.sample_sizes import rounds_spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RateLimits", "design_effect", "effective_requests", "highest_rate_of_rounds", "rate_limits"]


@dataclass(frozen=True, slots=True, eq=False)
class RateLimits:
    """One-sided limits of (m,) rates, each at its own level."""

    low: NDArray[Any]
    high: NDArray[Any]


def design_effect(events: NDArray[Any], sizes: NDArray[Any]) -> NDArray[Any]:
    """Variance of a pooled share over that of independent requests.

    Args:
        events: (rounds, m) requests with the property.
        sizes: (rounds,) requests of each round.

    Returns:
        (m,) effects; 1 where all or none have the property, as nothing is known there.
    """
    import numpy as np

    rounds, total = len(sizes), sizes.sum()
    share = events.sum(axis=0) / total
    between = ((events - share * sizes[:, None]) ** 2).sum(axis=0) * rounds / (rounds - 1) / total**2
    alone = share * (1 - share) / total
    known = alone > 0
    effect: NDArray[Any] = np.where(known, between / np.where(known, alone, 1.0), 1.0)
    return effect


def effective_requests(total: float, effect: NDArray[Any], rounds: int, level: float) -> NDArray[Any]:
    """Independent requests that `total` ones in so many rounds are worth; never more than there are."""
    import numpy as np

    worth: NDArray[Any] = np.minimum(total, total / rounds_spread(rounds, level) / np.maximum(effect, 1e-9))
    return worth


def rate_limits(share: NDArray[Any], requests: NDArray[Any], level: float) -> RateLimits:
    """Exact limits of rates of which `share` was seen in as many independent `requests`, which need not be whole."""
    import numpy as np
    from scipy.special import betaincinv

    events, others = share * requests, (1 - share) * requests
    least = 1e-12
    high = np.where(share >= 1, 1.0, betaincinv(events + 1, np.maximum(others, least), 1 - level))
    low = np.where(share <= 0, 0.0, betaincinv(np.maximum(events, least), others + 1, level))
    return RateLimits(low, high)


def highest_rate_of_rounds(mean: float, rounds: int, level: float) -> float:
    """Upper limit of the mean share of a round, whatever its distribution: a round may be struck as a whole.

    Args:
        mean: of the rounds' shares.
        rounds: how many.
        level: one-sided.

    Returns:
        The largest p with rounds x (relative entropy of mean to p) <= -log(level); of `rounds` rounds without an event
        it is that of as many requests.

    Source: Hoeffding, JASA 58 (1963) 13, theorem 1, (2.1).

    >>> round(highest_rate_of_rounds(0.0, 59, 0.05), 3)
    0.05
    """
    budget, low, high = -math.log(level) / rounds, mean, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _entropy(mean, middle) <= budget:
            low = middle
        else:
            high = middle
    return high


def _entropy(mean: float, p: float) -> float:
    if p >= 1:
        return math.inf if mean < 1 else 0.0
    seen = mean * math.log(mean / p) if mean > 0 else 0.0
    return seen + ((1 - mean) * (math.log1p(-mean) - math.log1p(-p)) if mean < 1 else 0.0)
