"""Lengths, popularities and orders, spread evenly over their distribution instead of drawn blindly.

Thirty random draws can miss a distribution's mean by a fifth; here value i is the quantile (i + 1/2) / n, and chance
only decides the order. So a scenario means the same with 30 requests as with 3,000.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from statistics import NormalDist

from pytest_mooncake.plan.models import Lengths

GOLDEN = (math.sqrt(5) - 1) / 2


def lengths(shape: Lengths, mean: float, count: int, rng: random.Random) -> list[int]:
    """`count` whole lengths of the given shape around `mean` times its scale, in random order, each at least 1."""
    mean *= shape.scale
    values = [_quantile(shape, mean, (i + 0.5) / count) for i in range(count)]
    rng.shuffle(values)
    return [max(1, round(min(max(value, shape.least * mean), shape.most * mean))) for value in values]


def _quantile(shape: Lengths, mean: float, at: float) -> float:
    if shape.shape == "uniform":
        return mean * (1 + shape.spread * math.sqrt(3) * (2 * at - 1))
    if shape.shape == "lognormal":
        variance = math.log(1 + shape.spread**2)
        return mean * math.exp(math.sqrt(variance) * NormalDist().inv_cdf(at) - variance / 2)
    return mean


def popularity(documents: int, zipf: float, count: int) -> list[int]:
    """How often each document is asked for: in proportion to rank ** -zipf, adding up to `count` (largest remainder).

    >>> popularity(3, 1.0, 11)
    [6, 3, 2]
    """
    return apportion([rank**-zipf for rank in range(1, documents + 1)], count)


def apportion(weights: Sequence[float], count: int) -> list[int]:
    """Split `count` in proportion to `weights` (largest remainder; ties go to the first).

    >>> apportion([1, 1, 1], 5)
    [2, 2, 1]
    """
    exact = [weight * count / sum(weights) for weight in weights]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return shares


def even(index: int) -> float:
    """The index-th of points that fill 0-1 evenly at every length (golden-ratio sequence)."""
    return (index + 0.5) * GOLDEN % 1


def take_turns(turns: Sequence[int], live: int) -> list[tuple[int, int]]:
    """Order of (session, turn) when `live` sessions run side by side and a new one takes the place of one that ended.

    >>> take_turns([2, 2, 1], live=2)
    [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]
    """
    waiting = iter(range(len(turns)))
    running = [(session, 0) for session in itertools.islice(waiting, live)]
    order = []
    while running:
        following = []
        for session, turn in running:
            order.append((session, turn))
            if turn + 1 < turns[session]:
                following.append((session, turn + 1))
            elif (fresh := next(waiting, None)) is not None:
                following.append((fresh, 0))
        running = following
    return order
