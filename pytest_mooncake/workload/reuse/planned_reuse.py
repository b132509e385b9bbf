"""What an unbounded cache of whole chunks serves, known exactly before anything is sent.

Model: LMCache stores whole chunks named by the hash of all tokens up to their end and serves the longest stored prefix
(`save_unfull_chunk: false`); a request finds what earlier requests of the round needed. The engine recomputes at least
the last token, so a prompt that is cached to its very end counts one token less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.records import PlannedReuse
from pytest_mooncake.workload.reuse.chunk_index import chunk_index

if TYPE_CHECKING:
    from pytest_mooncake.workload.layouts.layout import Ints, Layout


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reuse:
    """Planned hits of each of n requests, in chunks.

    A *cold* round finds nothing but what its own earlier requests stored; a *warm* round repeats it and finds every
    whole chunk.

    Attributes:
        chunk_tokens: tokens in a chunk.
        prompt_tokens: (n,) lengths.
        chunks: (n,) whole chunks of each prompt: the hits of the warm round.
        cold_hits: (n,) chunks that an earlier request of the same round needed too.
        distinct_chunks: chunks that a round stores: its working set.
    """

    chunk_tokens: int
    prompt_tokens: Ints
    chunks: Ints
    cold_hits: Ints
    distinct_chunks: int

    @property
    def cold_ratio(self) -> float:
        """Hits of a cold round over all its whole chunks (0-1): the workload's own reuse."""
        total = int(self.chunks.sum())
        return int(self.cold_hits.sum()) / total if total else 0.0

    @property
    def cold_cached_tokens(self) -> tuple[int, ...]:
        """(n,) `cached_tokens` that the engine reports in a cold round."""
        return self._cached(self.cold_hits)

    @property
    def warm_cached_tokens(self) -> tuple[int, ...]:
        """(n,) `cached_tokens` that the engine reports in a warm round."""
        return self._cached(self.chunks)

    def sums(self, *, in_order: bool) -> PlannedReuse:
        """What a round's evidence is held against; `in_order` as in `PlannedReuse`."""
        return PlannedReuse(
            requests=len(self.chunks),
            chunk_tokens=self.chunk_tokens,
            chunks=int(self.chunks.sum()),
            distinct_chunks=self.distinct_chunks,
            cold_chunks=int(self.cold_hits.sum()),
            cold_cached_tokens=sum(self.cold_cached_tokens),
            warm_cached_tokens=sum(self.warm_cached_tokens),
            in_order=in_order,
        )

    def _cached(self, hits: Ints) -> tuple[int, ...]:
        tokens = hits * self.chunk_tokens
        served = tokens - ((tokens == self.prompt_tokens) & (tokens > 0))
        return tuple(served.tolist())


def planned_reuse(layout: Layout, chunk_tokens: int = 256) -> Reuse:
    """Hits of every request of `layout`, by first occurrences. O(chunks) time, 4 bytes a distinct chunk.

    In a tree of segments a chunk that an earlier request had comes with its whole prefix, so hits are always a prefix.
    """
    import numpy as np

    index = chunk_index(layout, chunk_tokens)
    requests = len(layout)
    first = np.full(index.total, requests, dtype=np.int32)
    hits = np.zeros(requests, dtype=np.int64)
    for accesses in index.accesses():
        new = first[accesses.chunk] == requests
        # numpy keeps the last of repeated assignments: backwards, that is the first request
        first[accesses.chunk[new][::-1]] = accesses.request[new][::-1]
        found = accesses.request[first[accesses.chunk] < accesses.request]
        hits += np.bincount(found, minlength=requests)
    return Reuse(
        chunk_tokens=chunk_tokens,
        prompt_tokens=layout.prompt_tokens,
        chunks=layout.prompt_tokens // chunk_tokens,
        cold_hits=hits,
        distinct_chunks=int(np.count_nonzero(first < requests)),
    )


def distinct_tokens(layout: Layout) -> int:
    """Different tokens behind their prefixes, at most: what a round stores in chunks of any size.

    A segment that ends a prompt may be cut; it counts whole, unless all prompts together have fewer tokens.
    """
    import numpy as np

    used = np.zeros(len(layout.segments.tokens), dtype=bool)
    used[layout.path] = True
    tokens = int(layout.segments.tokens[used].sum(dtype=np.int64))
    return min(tokens, int(layout.prompt_tokens.sum(dtype=np.int64)))


def segment_hits(layout: Layout) -> Ints:
    """(n,) segments of each request that an earlier request had: the count that published traces are described by.

    Segments, cut ones too, are counted whole: Mooncake's "reusable blocks".
    """
    import numpy as np

    requests = len(layout)
    request = np.repeat(np.arange(requests, dtype=np.int32), np.diff(layout.starts))
    first = np.full(len(layout.segments.tokens), requests, dtype=np.int32)
    first[layout.path[::-1]] = request[::-1]
    return np.bincount(request[first[layout.path] < request], minlength=requests)
