"""The cache chunks of a layout's prompts, by number: equal numbers are equal chunks behind equal prefixes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mooncake.workload.layouts.layout import Ints, Layout

SLAB = 2**19
"""Segments looked at together: bounds memory, however long the trace."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accesses:
    """A stretch of the chunk accesses of a round, in order: request `request[k]` needs chunk `chunk[k]`."""

    request: Ints
    chunk: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkIndex:
    """Chunks of `chunk_tokens` in all prompts of `layout`. Only whole chunks count: caches store no others.

    A chunk ends in exactly one segment of the tree, so segment s owns the numbers from `base[s]` on.
    """

    layout: Layout
    chunk_tokens: int
    base: Ints
    total: int
    """One more than the highest number; at most a few more than there are distinct chunks."""

    def accesses(self) -> Iterator[Accesses]:
        """All accesses in order, a slab at a time; requests are never split between slabs."""
        import numpy as np

        for first, last in _slabs(self.layout.starts):
            request, segment, begin, end = _spans(self.layout, first, last)
            before = begin // self.chunk_tokens
            count = end // self.chunk_tokens - before
            ends = np.cumsum(count)
            within = np.arange(ends[-1] if len(ends) else 0, dtype=np.int32)
            shift = self.base[segment] - (ends - count).astype(np.int32)
            yield Accesses(request=np.repeat(request, count), chunk=within + np.repeat(shift, count))


def chunk_index(layout: Layout, chunk_tokens: int) -> ChunkIndex:
    """Number the chunks of `layout`. O(path) time; memory: 8 bytes a segment and a bounded slab."""
    import numpy as np

    tokens = layout.segments.tokens
    begins = np.zeros(len(tokens), dtype=np.int32)
    for first, last in _slabs(layout.starts):
        _, segment, begin, _ = _spans(layout, first, last)
        begins[segment] = begin
    owned = (begins + tokens) // chunk_tokens - begins // chunk_tokens
    ends = np.cumsum(owned, dtype=np.int32)
    total = int(ends[-1]) if len(ends) else 0
    return ChunkIndex(layout=layout, chunk_tokens=chunk_tokens, base=ends - owned.astype(np.int32), total=total)


def _slabs(starts: Ints) -> Iterator[tuple[int, int]]:
    """Ranges of requests of about `SLAB` segments each."""
    import numpy as np

    first, count = 0, len(starts) - 1
    while first < count:
        last = int(np.searchsorted(starts, starts[first] + SLAB, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def _spans(layout: Layout, first: int, last: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Of requests `first`..`last` - 1: request, segment, and the prompt tokens from begin to end that it covers."""
    import numpy as np

    starts = layout.starts[first : last + 1]
    lengths = np.diff(starts)
    segment = layout.path[int(starts[0]) : int(starts[-1])]
    request = np.repeat(np.arange(first, last, dtype=np.int32), lengths)
    tokens = layout.segments.tokens[segment]
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(tokens, dtype=np.int64)])
    origin = np.repeat(ends[starts[:-1] - starts[0]], lengths)
    limit = layout.prompt_tokens[request]
    begin = np.minimum(ends[:-1] - origin, limit).astype(np.int32)
    end = np.minimum(ends[1:] - origin, limit).astype(np.int32)
    return request, segment, begin, end
