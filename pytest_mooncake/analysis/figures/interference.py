"""Decode that met no foreign prefill: what TPOT would be if requests did not stand in each other's way.

In a cold round the prefill of other requests interrupts decoding, so TPOT falls when the cache removes that prefill.
Such a fall is not a faster decoder; the TPOT of requests whose decode met no foreign prefill tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.columns import MISSING, Columns

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CalmDecode:
    """Mean TPOT (ms) of the `requests` of `total` decoded requests that met no foreign prefill."""

    mean_ms: float | None
    requests: int
    total: int


def calm_decode(columns: Columns) -> CalmDecode:
    """TPOT of the requests of one or more rounds whose decode met no foreign prefill.

    A request prefills from its send to its first token; a failed one until it was done. Foreign means another request
    of the same round on the same engine.
    """
    import numpy as np

    decoded = ~np.isnan(columns.tpot_ms) & ~columns.failed
    calm = decoded & (foreign_prefills(columns) == 0)
    count = int(calm.sum())
    mean_ms = float(columns.tpot_ms[calm].mean()) if count else None
    return CalmDecode(mean_ms=mean_ms, requests=count, total=int(decoded.sum()))


def foreign_prefills(columns: Columns) -> NDArray[Any]:
    """How many foreign prefills each request's decode overlapped, shape (n,); 0 where it never decoded."""
    import numpy as np

    overlaps = np.zeros(len(columns), dtype=np.int64)
    together = columns.round * (int(columns.engine.max(initial=0)) + 1) + columns.engine
    for one in np.unique(together):
        here = np.flatnonzero(together == one)
        overlaps[here] = _overlaps(columns, here)
    return overlaps


def _overlaps(columns: Columns, here: NDArray[Any]) -> NDArray[Any]:
    """Prefills that began before a decode ended less those that ended before it began; its own cancels."""
    import numpy as np

    sent, first, last = columns.sent_ns[here], columns.first_token_ns[here], columns.last_token_ns[here]
    prefilled = (first != MISSING) | (columns.done_ns[here] != MISSING)
    ends = np.where(first != MISSING, first, columns.done_ns[here])
    known = (sent != MISSING) & prefilled
    begun = np.searchsorted(np.sort(sent[known]), last, side="left")
    over = np.searchsorted(np.sort(ends[known]), first, side="right")
    return np.where((first != MISSING) & (last > first), begun - over, 0)


def pooled_calm(parts: Iterable[CalmDecode]) -> CalmDecode:
    """Put several rounds together, each request counting once."""
    held = tuple(parts)
    count = sum(part.requests for part in held)
    total_ms = sum(part.mean_ms * part.requests for part in held if part.mean_ms is not None)
    mean_ms = total_ms / count if count else None
    return CalmDecode(mean_ms=mean_ms, requests=count, total=sum(part.total for part in held))
