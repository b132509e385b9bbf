"""Steady state: what a store smaller than the working set must serve, known before anything is sent.

Such a store keeps what was used last. Mooncake evicts a batch of the keys whose lease ended first (5 %) when a put
finds the store above its watermark (90 or 95 %), so what it keeps lies below an exact LRU of its whole size. Played on
the packed scenarios and both published traces, at 1/8 to 9/10 of the working set, such a store served at least 99 % of
what an exact LRU of 80 % of its size does (`tests/unit/workload/reuse/test_steady_state.py` plays it again). That
is the least a round is held to. The most is what a store that forgets nothing serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_mooncake.errors import UsageError
from pytest_mooncake.records import PlannedReuse
from pytest_mooncake.workload.reuse.stack_distance import size_curve

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan
    from pytest_mooncake.workload.layouts.layout import Layout

__all__ = ["LEAST_SHARE", "SteadyState", "at_once", "steady_state"]

LEAST_SHARE = 0.8
"""Of a store's size: an exact LRU of this share of it serves no more than a store that evicts in batches."""
UNKNOWN_AT_ONCE = 64
"""Of an engine that was not started here, under arrivals without a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """Hits that a store smaller than the working set gives in a cold and in a warm round, in chunks.

    Attributes:
        planned: the sums of the round for a store that forgets nothing.
        store_chunks: what the store holds.
        least_chunks: size of the exact LRU that the round is held to.
        lru: (cold, warm) hits of an exact LRU of the store's size.
        least: (cold, warm) hits of an exact LRU of `least_chunks`.
    """

    planned: PlannedReuse
    store_chunks: int
    least_chunks: int
    lru: tuple[int, int]
    least: tuple[int, int]

    def sums(self) -> PlannedReuse:
        """What the rounds' evidence is held against."""
        cold, warm = self.least
        return replace(
            self.planned, steady_store_chunks=self.store_chunks, steady_cold_chunks=cold, steady_warm_chunks=warm
        )

    def sentence(self) -> str:
        """What is to be expected, for whoever reads the plan."""
        total = self.planned.chunks
        cold, warm = (hits / total for hits in self.lru)
        return (
            f"steady state: the store holds {self.store_chunks:,} of the {self.planned.distinct_chunks:,} chunks "
            f"of a round; an exact LRU of its size serves {warm:.1%} of a warm round and {cold:.1%} of a cold one, "
            f"at least {self.least[1] / total:.1%} and {self.least[0] / total:.1%} are asked"
        )


def at_once(plan: Plan) -> int:
    """Requests that the engines work on at once, at most; more wait in line, in the order in which they came."""
    limits = [] if plan.stack.kind == "attached" else [plan.stack.engine.max_num_seqs * plan.stack.engine.count]
    cap = plan.workload.in_flight_cap
    return min([*limits, *([] if cap is None else [cap])], default=UNKNOWN_AT_ONCE)


def steady_state(planned: PlannedReuse, layout: Layout, store_chunks: int, *, in_flight: int) -> SteadyState:
    """Work out what a store of `store_chunks` serves.

    Args:
        planned: the sums of a round for a store that forgets nothing.
        layout: its requests.
        store_chunks: whole chunks that the store holds.
        in_flight: requests that the engines work on at once; so many may come in another order than planned, which
            the least that is asked allows for.

    Raises:
        UsageError: the store holds the whole working set.
    """
    if store_chunks >= planned.distinct_chunks:
        raise UsageError(
            f"--mooncake-steady: the store holds {store_chunks:,} chunks, a round works on "
            f"{planned.distinct_chunks:,}, so nothing would be evicted: leave the option out, give a smaller "
            "store.segment_bytes in the stack's YAML, or more --mooncake-requests"
        )
    longest = int(layout.prompt_tokens.max()) // planned.chunk_tokens
    least = max(0, int(store_chunks * LEAST_SHARE) - (in_flight - 1) * longest)
    curves = tuple(size_curve(layout, planned.chunk_tokens, warm=warm) for warm in (False, True))
    return SteadyState(
        planned=planned,
        store_chunks=store_chunks,
        least_chunks=least,
        lru=(curves[0].hits(store_chunks), curves[1].hits(store_chunks)),
        least=(curves[0].hits(least), curves[1].hits(least)),
    )
