"""Percentiles of all requests of one kind, with limits that assume no distribution and count rounds as clusters.

A percentile of one round is no test of the percentile: the P99 of 30 requests is their maximum. So requests are
pooled, and "P90 <= 450 ms" is read as "at most 10 % of requests exceed 450 ms". A limit is the order statistic from
which on that share is bounded (`clustered`); the design effect is the larger of that at the pooled percentile and that
at the limit itself, as a limit beyond which nothing was seen knows none. Failed requests rank last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.summary import rank_of
from pytest_mooncake.analysis.statistics.percentiles.clustered import design_effect, effective_requests, rate_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_mooncake.analysis.figures.columns import Columns

__all__ = ["PercentileLimits", "Sample", "percentile_limits", "pooled_percentile", "sample_of"]

_ALL = 4_000
"""Values up to which every one is tried as a limit; of more a grid, dense in the tail: it errs to the safe side."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One latency of a round: (n,) values ascending, how many requests (of ITL: tokens) each stands for, and losses."""

    values: NDArray[Any]
    weights: NDArray[Any] | None
    lost: int
    """Failed requests; they rank behind every value."""

    @property
    def total(self) -> int:
        """Requests (tokens), the lost ones among them."""
        return self.lost + (len(self.values) if self.weights is None else int(self.weights.sum()))

    def above(self, limits: NDArray[Any], *, side: str = "right") -> NDArray[Any]:
        """How many exceed each of (m,) limits; with side `left` how many reach it."""
        import numpy as np

        places = np.searchsorted(self.values, limits, side=side)  # type: ignore[call-overload]
        if self.weights is None:
            below: NDArray[Any] = places
        else:
            below = np.concatenate([[0], np.cumsum(self.weights)])[places]
        return self.total - below


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentileLimits:
    """A percentile of pooled requests; a limit is `None` where the sample bears none.

    `effective` is how many independent requests they are worth at the percentile.
    """

    estimate: float | None
    low: float | None
    high: float | None
    requests: int
    effective: float
    rounds: int


def sample_of(columns: Columns, latency: str) -> Sample:
    """A round's values of `ttft`, `tpot`, `itl` or `e2e`, as its summary counts them."""
    import numpy as np

    failed = columns.failed
    if latency == "itl":
        if (columns.gap_tokens < 1).any():  # nobody tells how many tokens came with a chunk
            return Sample(values=np.zeros(0), weights=None, lost=int(failed.sum()))
        each = columns.gap_ms / columns.gap_tokens
        order = np.argsort(each)
        lost = int((columns.planned_tokens[failed] - 1).clip(min=1).sum())
        return Sample(values=each[order], weights=columns.gap_tokens[order], lost=lost)
    values = getattr(columns, f"{latency}_ms")[~failed]
    return Sample(values=np.sort(values[~np.isnan(values)]), weights=None, lost=int(failed.sum()))


def pooled_percentile(samples: Sequence[Sample], quantile: float) -> float | None:
    """The ceil(q·N)-th smallest value of all rounds; `None` without a value or where it is a failure."""
    import numpy as np

    values = np.concatenate([one.values for one in samples]) if samples else np.zeros(0)
    if not len(values):
        return None
    rank = rank_of(quantile, sum(one.total for one in samples))
    if all(one.weights is None for one in samples):
        return float(np.partition(values, rank)[rank]) if rank < len(values) else None
    order = np.argsort(values)
    ends = np.cumsum(np.concatenate([one.weights for one in samples if one.weights is not None])[order])
    place = int(np.searchsorted(ends, rank, side="right"))
    return float(values[order[place]]) if place < len(values) else None


def percentile_limits(samples: Sequence[Sample], quantile: float, level: float) -> PercentileLimits:
    """Limits of a percentile, each one-sided.

    Args:
        samples: one a round, at least two for a limit.
        quantile: e.g. 0.99.
        level: of each limit.

    Returns:
        `high`: the percentile exceeds it with probability `level` at most; `low` the same below.
    """
    import numpy as np

    sizes = np.array([one.total for one in samples], dtype=float)
    total, rounds = float(sizes.sum()), len(samples)
    estimate = pooled_percentile(samples, quantile)
    if rounds < 2 or not total:
        return PercentileLimits(
            estimate=estimate, low=None, high=None, requests=int(total), effective=0.0, rounds=rounds
        )
    tried = _tried(samples)
    above = np.stack([one.above(tried) for one in samples])
    least_effect = _effect_at(samples, sizes, estimate)
    effect = np.maximum(design_effect(above, sizes), least_effect)
    share = above.sum(axis=0) / total
    limits = rate_limits(share, effective_requests(total, effect, rounds, level), level)
    low, high = _ends(tried, limits.low <= 1 - quantile, limits.high > 1 - quantile)
    effective = effective_requests(total, np.array([least_effect]), rounds, level)
    return PercentileLimits(
        estimate=estimate, low=low, high=high, requests=int(total), effective=float(effective[0]), rounds=rounds
    )


def _effect_at(samples: Sequence[Sample], sizes: NDArray[Any], at: float | None) -> float:
    """The design effect at the percentile, of the requests above it or of those that reach it, whichever is larger."""
    import numpy as np

    if at is None:
        return float(design_effect(np.array([[one.lost] for one in samples]), sizes)[0])
    here = np.array([at])
    counts = (np.stack([one.above(here, side=side) for one in samples]) for side in ("left", "right"))
    return max(float(design_effect(one, sizes)[0]) for one in counts)


def _tried(samples: Sequence[Sample]) -> NDArray[Any]:
    """Values that may be a limit, ascending, after one that lies below all of them."""
    import numpy as np

    values = np.unique(np.concatenate([one.values for one in samples]))
    count = len(values)
    if count > _ALL:
        tail = count - np.geomspace(1, count, _ALL // 2)
        values = values[np.unique(np.concatenate([np.linspace(0, count - 1, _ALL // 2), tail]).astype(int))]
    return np.concatenate([[-np.inf], values])


def _ends(tried: NDArray[Any], too_low: NDArray[Any], too_high: NDArray[Any]) -> tuple[float | None, float | None]:
    """The first value that is not rejected from below, and the first of those that are all rejected from above."""
    import numpy as np

    held, open_above = np.flatnonzero(too_low), np.flatnonzero(too_high)
    first = int(held[0]) if len(held) else len(tried) - 1
    low = float(tried[first]) if first > 0 else None
    after = int(open_above[-1]) + 1 if len(open_above) else 1
    high = float(tried[after]) if after < len(tried) else None
    return low, high
