"""How large a cache has to be: exact LRU stack distances, and from them the hit rate at every size at once.

The stack distance of an access is the number of distinct chunks touched since the last access to the same chunk, itself
included: an LRU cache of at least that many chunks still holds it (Mattson et al. 1970, "Evaluation techniques for
storage hierarchies"). A chunk is served only if all chunks before it in the prompt are, so the distance that decides is
the largest so far in the request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.workload.reuse.chunk_index import chunk_index

if TYPE_CHECKING:
    from pytest_mooncake.workload.layouts.layout import Ints, Layout

NEVER = 2**31 - 1
"""Distance of a chunk's first access: no cache holds it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SizeCurve:
    """Hits of one round on an empty LRU cache, for every size of it.

    Attributes:
        chunk_tokens: tokens in a chunk.
        accesses: whole chunks of all prompts.
        distinct: chunks a cache that forgets nothing ends up with: the working set.
        distances: (hits of an unbounded cache,) deciding distances in rising order, in chunks.
    """

    chunk_tokens: int
    accesses: int
    distinct: int
    distances: Ints

    def hits(self, chunks: int) -> int:
        """Chunk accesses that an LRU cache of `chunks` serves."""
        import numpy as np

        return int(np.searchsorted(self.distances, chunks, side="right"))

    def hit_ratio(self, chunks: int) -> float:
        """The same over all accesses (0-1)."""
        return self.hits(chunks) / self.accesses if self.accesses else 0.0

    @property
    def most_hits(self) -> int:
        """What an unbounded cache serves."""
        return len(self.distances)

    def chunks_for(self, share: float) -> int:
        """The smallest cache, in chunks, that serves `share` (0-1) of what an unbounded one does."""
        needed = math.ceil(round(self.most_hits * share, 6))
        return int(self.distances[needed - 1]) if needed > 0 else 0


def size_curve(layout: Layout, chunk_tokens: int = 256, *, warm: bool = False) -> SizeCurve:
    """The curve of one round in the order of `layout`. O(n log n) for n chunk accesses.

    Args:
        layout: the requests.
        chunk_tokens: tokens in a chunk.
        warm: start from what the same round has left in the cache, instead of from an empty one.
    """
    import numpy as np

    index = chunk_index(layout, chunk_tokens)
    parts = list(index.accesses())
    chunk: Ints = np.concatenate([np.empty(0, dtype=np.int32), *(part.chunk for part in parts)])
    request: Ints = np.concatenate([np.empty(0, dtype=np.int32), *(part.request for part in parts)])
    accesses, distinct = len(chunk), len(np.unique(chunk))
    if warm:
        chunk, request = np.tile(chunk, 2), np.concatenate([request, request + len(layout)])
    distances = _running_max(_distances(_previous(chunk)), request)[-accesses:]
    return SizeCurve(
        chunk_tokens=chunk_tokens,
        accesses=accesses,
        distinct=distinct,
        distances=np.sort(distances[distances < NEVER]),
    )


def _previous(chunk: Ints) -> Ints:
    """Where each access's chunk was accessed last, -1 for never."""
    import numpy as np

    order = np.argsort(chunk, kind="stable").astype(np.int32)
    previous = np.full(len(chunk), -1, dtype=np.int32)
    same = chunk[order[1:]] == chunk[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _distances(previous: Ints) -> Ints:
    """Stack distances from previous places.

    Between p(i) and i, an access j is the first of its chunk exactly if p(j) < p(i). The others, p(j) > p(i), all lie
    behind p(i) because p(j) < j, so the distance is i - p(i) less the number of j < i with p(j) > p(i).
    """
    import numpy as np

    places = np.arange(len(previous), dtype=np.int32)
    distances = places - previous - _greater_before(previous)
    return np.where(previous < 0, np.int32(NEVER), distances)


def _greater_before(values: Ints) -> Ints:
    """For each place i the number of j < i with values[j] > values[i]; what a Fenwick tree counts one at a time.

    Bit by bit from the top, places with equal higher bits stand together in their old order; among those, a place whose
    bit is 0 is exceeded by every place before it whose bit is 1. One pass over all places a bit.
    """
    import numpy as np

    count = np.zeros(len(values), dtype=np.int32)
    order: Ints = np.arange(len(values), dtype=np.int32)
    shifted = values + 1
    for bit in reversed(range(int(shifted.max(initial=0)).bit_length())):
        sorted_values = shifted[order]
        ones = (sorted_values >> bit) & 1
        group = sorted_values >> (bit + 1)
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        before = np.cumsum(ones, dtype=np.int32) - ones
        sizes = np.diff(begins, append=len(values))
        before -= np.repeat(before[begins], sizes)
        zero = ones == 0
        count[order[zero]] += before[zero]
        order = _zeros_first(order, ones, before, begins, sizes)
    return count


def _zeros_first(order: Ints, ones: Ints, before: Ints, begins: Ints, sizes: Ints) -> Ints:
    """Within each group move places whose bit is 0 to the front, keeping order; `before` counts ones ahead in it."""
    import numpy as np

    zeros = sizes - np.add.reduceat(ones, begins)
    begin = np.repeat(begins, sizes)
    within = np.arange(len(order)) - begin
    target = begin + np.where(ones == 0, within - before, np.repeat(zeros, sizes) + before)
    moved = np.empty_like(order)
    moved[target] = order
    return moved


def _running_max(distances: Ints, request: Ints) -> Ints:
    """The largest distance so far within each request."""
    import numpy as np

    if not len(request):
        return distances
    offset = request.astype(np.int64) << 32  # later requests start above everything before them
    largest: Ints = (np.maximum.accumulate(offset + distances) - offset).astype(np.int32)
    return largest
