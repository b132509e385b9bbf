"""Goodput: requests a second that kept the service level (`plan.targets.slo` says what its limits mean)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.summary import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_mooncake.analysis.figures.columns import Columns
    from pytest_mooncake.plan.targets.slo import Limit

__all__ = ["goodput", "kept_requests"]


def goodput(columns: Columns, limits: Sequence[Limit], makespan_s: float | None) -> float | None:
    """Requests a second that kept the service level.

    Args:
        columns: requests of one or more rounds.
        limits: the service level; empty: none was given.
        makespan_s: of these rounds together.

    Returns:
        0 where no request kept it, `None` without a service level or a makespan.
    """
    if not limits or not makespan_s:
        return None
    return kept_requests(columns, limits) / makespan_s


def kept_requests(columns: Columns, limits: Sequence[Limit]) -> int:
    """Successful requests within every limit of a request, in rounds within every limit of a round."""
    import numpy as np

    kept = ~columns.failed
    for limit in limits:
        if limit.part == "each":
            kept = kept & (_latency(columns, limit) <= limit.most_ms)
    for one in np.unique(columns.round):
        inside = columns.round == one
        if not all(_round_keeps(columns, inside, limit) for limit in limits if limit.part != "each"):
            kept = kept & ~inside
    return int(kept.sum())


def _round_keeps(columns: Columns, inside: NDArray[Any], limit: Limit) -> bool:
    """Whether a round's statistic is within its limit; a percentile that falls on a failed request is not."""
    failed = int((inside & columns.failed).sum())
    found = spread(_latency(columns, limit)[inside & ~columns.failed], failed)
    value: float | None = getattr(found, limit.part)
    return value is not None and value <= limit.most_ms


def _latency(columns: Columns, limit: Limit) -> NDArray[Any]:
    latency: NDArray[Any] = getattr(columns, f"{limit.latency}_ms")
    return latency
