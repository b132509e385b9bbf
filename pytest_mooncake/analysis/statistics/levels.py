"""The nominal level of a set of looks: how strict each look must be, so that all of them together err in 5 %.

One constant level per look set (Pocock's form). The Welch statistic is not pivotal, the level depends on the ratio of
warm to cold noise; so it is computed for the worst ratio, which then bounds the rate of false PASS for all of them.

Derivation of `TABLE`: `simulated_level(looks, alpha=0.05, runs=TABLE_RUNS, seed=0)`, which is the alpha quantile of
the smallest one-sided p value over the looks, the least of it over `RATIOS`; both tails of every chain are used.
`benchmarks/verdicts` computes it again and checks the rate at every ratio from 0.1 to 100.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.statistics.chain_simulation import batches, statistics, sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALPHA = 0.05
RATIOS = (3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0, 30.0)
"""σ_w/σ_c around those at which the rate of false PASS is largest: 4 to 6 for most look sets, about 10 with a look at
two trials. Below and above them the rate falls (`tests/unit/analysis/statistics/test_levels.py`)."""
RUNS = 100_000
TABLE_RUNS = 2_000_000
TABLE: dict[tuple[int, ...], float] = {
    (3, 4, 5, 6, 8, 10): 0.01220,
    (2, 3, 4, 5, 6, 8, 10): 0.00909,
    (3, 5, 10): 0.01729,
    (5, 10): 0.02732,
    (3, 6, 10): 0.01757,
    (2,): 0.04065,
    (3,): 0.04253,
    (4,): 0.04505,
    (5,): 0.04645,
    (6,): 0.04767,
    (8,): 0.04874,
    (10,): 0.04922,
    (3, 4, 5, 6, 8, 10, 12, 15, 20): 0.00889,
}
BOUND_TABLE: dict[tuple[int, ...], float] = {
    (3, 4, 5, 6, 8, 10): 0.01463,
    (2, 3, 4, 5, 6, 8, 10): 0.01173,
    (3, 5, 10): 0.02032,
    (5, 10): 0.02903,
    (3, 6, 10): 0.02049,
    (3, 4, 5, 6, 8, 10, 12, 15, 20): 0.01049,
}
"""As `TABLE`, for rounds of one kind against a bound: `simulated_one_sample_level(looks, runs=TABLE_RUNS)`."""


CONTINUED = (12, 15, 20)
"""Looks that are reserved for a run that is taken up again after it ended undecided."""
RESERVED: dict[tuple[int, ...], tuple[float, float]] = {
    (3, 4, 5, 6, 8, 10): (0.01000, 0.00620),
}
"""The level of a run's looks and that of `CONTINUED` behind them, which keep to 5 % together, whether or not a run is
taken up: `simulated_continuation(looks, level=0.01, runs=TABLE_RUNS)` allows 0.00656, rounded down for safety."""


def nominal_level(looks: tuple[int, ...], alpha: float = ALPHA) -> float:
    """One-sided level at which each look is tested.

    Args:
        looks: trials after which a verdict may fall, ascending, each at least 2.
        alpha: largest rate of false PASS over all looks.

    Returns:
        The stored level where there is one, else a simulated one (seeded, some seconds, remembered).
    """
    if alpha == ALPHA and looks in TABLE:
        return TABLE[looks]
    return simulated_level(looks, alpha=alpha)


def planned_levels(looks: tuple[int, ...], alpha: float = ALPHA) -> dict[int, float] | None:
    """The level at every look of a run that may be taken up again, those of its continuation among them.

    Args:
        looks: of the run itself.
        alpha: largest rate of false PASS over all looks, reserved ones included.

    Returns:
        Look: level; `None` where no continuation was planned for these looks. `nominal_level` spends the whole error
        on the looks of the run: a run judged by it must not be taken up.
    """
    if alpha != ALPHA or looks not in RESERVED:
        return None
    own, later = RESERVED[looks]
    return dict.fromkeys(looks, own) | dict.fromkeys(CONTINUED, later)


SEGMENTED, SINGLE = 0.85, 0.70
"""Factors of the level where a chain consists of several segments, and where one of them is a single trial.

Each segment has an intercept of its own, and the leverages by which Welch's degrees of freedom are counted then claim
slightly too many: at σ_w/σ_c of 4 to 6 the rate of false PASS rises to 5.4 % (segments of two trials) and 5.7 % (of
one) at the default looks. The factors are the least over all look sets of `TABLE` with three looks or more
(`tests/unit/analysis/statistics/test_contrast_segments.py`).
"""


def segmented(level: float, warm_rounds: Sequence[int]) -> float:
    """The level of a chain whose segments hold so many warm rounds each.

    >>> segmented(0.01, [5]), segmented(0.01, [2, 2]), round(segmented(0.01, [3, 1]), 4)
    (0.01, 0.0085, 0.007)
    """
    if len(warm_rounds) < 2:
        return level
    return level * (SINGLE if min(warm_rounds) < 2 else SEGMENTED)


@functools.lru_cache(maxsize=64)
def simulated_level(looks: tuple[int, ...], *, alpha: float = ALPHA, runs: int = RUNS, seed: int = 0) -> float:
    """Level of `looks` from `runs` chains of normal noise (2·`runs` tails), the least over `RATIOS`."""
    import numpy as np

    generator = np.random.default_rng(seed)
    least: list[list[NDArray[Any]]] = [[] for _ in RATIOS]
    for size in batches(runs):
        for found, ratio in zip(least, smallest_p(generator, size, looks, RATIOS, alpha), strict=True):
            found.append(ratio)
    rank = int(alpha * 2 * runs)
    return min(alpha, *(float(np.partition(np.concatenate(found), rank)[rank]) for found in least))


def simulated_continuation(
    looks: tuple[int, ...],
    *,
    level: float,
    later: tuple[int, ...] = CONTINUED,
    alpha: float = ALPHA,
    runs: int = RUNS,
    seed: int = 0,
) -> float:
    """Level of the looks `later`, behind `looks` at `level`, that spends the rest of `alpha`; least over `RATIOS`."""
    import numpy as np

    generator = np.random.default_rng(seed)
    spent = [0] * len(RATIOS)
    left: list[list[NDArray[Any]]] = [[] for _ in RATIOS]
    for size in batches(runs):
        noise = generator.standard_normal((size, 2 * max(later) + 1))
        pairs = zip(smallest_p_of(noise, looks, RATIOS, alpha), smallest_p_of(noise, later, RATIOS, alpha), strict=True)
        for place, (first, then) in enumerate(pairs):
            decided = first <= level
            spent[place] += int(decided.sum())
            left[place].append(then[~decided])
    found = []
    for used, rest in zip(spent, left, strict=True):
        rank = int(alpha * 2 * runs) - used
        found.append(float(np.partition(np.concatenate(rest), rank)[rank]) if rank > 0 else 0.0)
    return min(found)


def one_sample_level(looks: tuple[int, ...], alpha: float = ALPHA) -> float:
    """One-sided level at which the mean of the logs of n rounds of one kind is tested against a bound at each look.

    The one-sample t statistic is pivotal, so no noise ratio enters; a single look needs no correction at all.
    """
    if len(looks) == 1:
        return alpha
    if alpha == ALPHA and looks in BOUND_TABLE:
        return BOUND_TABLE[looks]
    return simulated_one_sample_level(looks, alpha=alpha)


@functools.lru_cache(maxsize=64)
def simulated_one_sample_level(
    looks: tuple[int, ...], *, alpha: float = ALPHA, runs: int = RUNS, seed: int = 0
) -> float:
    """The alpha quantile of the smallest one-sided p value over the looks, from both tails of `runs` sequences."""
    import numpy as np

    generator = np.random.default_rng(seed)
    found: list[NDArray[Any]] = []
    for size in batches(runs):
        noise = generator.standard_normal((size, max(looks)))
        smallest = np.ones(2 * size)
        for look in looks:
            np.minimum(smallest, _both_tails(noise[:, :look]), out=smallest)
        found.append(smallest)
    rank = int(alpha * 2 * runs)
    return float(np.partition(np.concatenate(found), rank)[rank])


def _both_tails(noise: NDArray[Any]) -> NDArray[Any]:
    import numpy as np
    from scipy.special import stdtr

    n = noise.shape[1]
    t = noise.mean(axis=1) / (noise.std(axis=1, ddof=1) / np.sqrt(n))
    return np.concatenate([stdtr(n - 1, -t), stdtr(n - 1, t)])


def smallest_p(
    generator: np.random.Generator, size: int, looks: tuple[int, ...], ratios: tuple[float, ...], alpha: float = ALPHA
) -> list[NDArray[Any]]:
    """Smallest one-sided p value over the looks, for both tails of `size` chains, one (2·size,) array a ratio.

    P values above `alpha` are not computed: no statistic below the normal distribution's point has p < alpha at any df.
    """
    return smallest_p_of(generator.standard_normal((size, 2 * max(looks) + 1)), looks, ratios, alpha)


def smallest_p_of(
    noise: NDArray[Any], looks: tuple[int, ...], ratios: tuple[float, ...], alpha: float = ALPHA
) -> list[NDArray[Any]]:
    """`smallest_p` of given noise, shape (chains, rounds), at unit scale."""
    import numpy as np
    from scipy.special import ndtri

    floor, size = float(ndtri(1 - alpha)), len(noise)
    at_looks = [sums(noise, look) for look in looks]
    result: list[NDArray[Any]] = []
    for ratio in ratios:
        smallest = np.ones(2 * size)
        for one in at_looks:
            found = statistics(one, scale_w=ratio)
            t = found.effect / found.se
            p = np.concatenate([_tail(t, found.df, floor), _tail(-t, found.df, floor)])
            np.minimum(smallest, p, out=smallest)
        result.append(smallest)
    return result


def _tail(t: NDArray[Any], df: NDArray[Any], floor: float) -> NDArray[Any]:
    """P(T > t) where t exceeds `floor`, 1 elsewhere."""
    import numpy as np
    from scipy.special import stdtr

    p = np.ones(len(t))
    far = t > floor
    p[far] = stdtr(df[far], -t[far])
    return p
