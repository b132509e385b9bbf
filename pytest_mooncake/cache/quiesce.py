"""Wait until every asynchronous store of a round has finished: watch the counters instead of sleeping.

LMCache hands chunks to an event loop after the forward pass and the HTTP reply does not wait for it (LMCache#1350), so
a warm round started too early misses what is still on its way. Settled means, in two samples at least 0.5 s apart:
engines idle; puts started − failed = ended + revoked + discarded; key count and bytes unchanged; and as many keys as
the round must have stored, where that is known. After a warm round (`expect_keys=0`) the same wait is for the
counters themselves: an engine counts a request shortly after it sent the last token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from pytest_mooncake.analysis.evidence.counters.deltas import CounterDeltas, deltas
from pytest_mooncake.analysis.evidence.counters.deltas import read as value_of
from pytest_mooncake.records import Scrape, Settle

__all__ = ["quiesce"]

Read = Callable[[], Awaitable[tuple[Scrape, ...]]]

HOLD_S = 0.5
"""How long the counters must stand still when as many keys are there as must be."""
UNSURE_S = 2.0
"""The same when nobody knows how many keys must come: the next put may not have been started yet."""
BLIND_S = 5.0
"""How long to wait where no store counter can be watched: the specification's pause."""
GIVE_UP_S = 10.0
"""Everything ended, nothing moves, keys are missing: after this they were dropped and will not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """One look at the counters. `waiting_for` lists in words what is not finished; `state` changes when they move."""

    kind: str
    state: tuple[float | None, ...]
    waiting_for: tuple[str, ...]
    keys_short: bool
    hold_s: float
    keys_enough: bool = True

    @property
    def is_lost(self) -> bool:
        """Everything is over and keys are missing all the same."""
        return self.keys_short and len(self.waiting_for) == 1


def _how(kind: str, hold_s: float) -> str:
    if kind == "store":
        return "until the engines were idle, every put had ended and the store's keys and bytes stood still"
    if kind == "engine":
        return f"until the engines were idle, plus {hold_s:g} s: there are no store counters to watch"
    return f"{hold_s:g} s by the clock: there are no counters to watch"


async def quiesce(
    read: Read,
    *,
    expect_keys: int | None,
    expect_requests: int | None = None,
    before: tuple[Scrape, ...] = (),
    enough_share: float = 1.0,
    fixed_s: float | None = None,
    deadline_s: float = 30.0,
    poll_s: float = 0.25,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Settle:
    """Wait for the stores of the round that just ended, at most `deadline_s`; a timeout is a value, not an error.

    Args:
        read: scrapes the sources.
        expect_keys: keys the round must have added to what `before` shows; 0 after a warm round; None when unknown.
            Without `before` the keys in all are compared, which proves little in a store that was not empty.
        expect_requests: requests the engines must have counted since `before`. Waited for only as long as an unknown
            number of keys is: behind a gateway not every engine shows its counters.
        before: scrapes from before the round. Puts are balanced against them, so that a writer which died
            long ago does not keep this round from settling.
        enough_share: share of `expect_keys` that is enough when nothing moves any more: a chunk may never be put.
        fixed_s: wait this long by the clock instead (`--mooncake-settle fixed:S`).
        deadline_s: limit, seconds.
        poll_s: pause between two looks, seconds.
        sleep: how to pause.
        clock: monotonic seconds.

    Returns:
        `Settle.seconds` is when the state that then held still was first seen (store counters), else the whole wait.
    """
    if fixed_s is not None:
        return await _by_the_clock(fixed_s, sleep)

    async def look() -> _Sample:
        return _look(await read(), before, expect_keys, expect_requests, enough_share)

    return await _watch(look, deadline_s=deadline_s, pause=partial(sleep, poll_s), clock=clock)


async def _by_the_clock(fixed_s: float, sleep: Callable[[float], Awaitable[None]]) -> Settle:
    await sleep(fixed_s)
    return Settle(seconds=fixed_s, settled=True, how=f"{fixed_s:g} s by the clock, as asked")


async def _watch(
    look: Callable[[], Awaitable[_Sample]],
    *,
    deadline_s: float,
    pause: Callable[[], Awaitable[None]],
    clock: Callable[[], float],
) -> Settle:
    started_s = clock()
    anchor: tuple[float, _Sample] | None = None
    while True:
        now_s = clock() - started_s
        sample = await look()
        if anchor is None or anchor[1] != sample:
            anchor = (now_s, sample)
        outcome = _outcome(sample, now_s=now_s, since_s=anchor[0], deadline_s=deadline_s)
        if outcome is not None:
            return outcome
        await pause()


def _outcome(sample: _Sample, *, now_s: float, since_s: float, deadline_s: float) -> Settle | None:
    still_s = now_s - since_s
    how = _how(sample.kind, sample.hold_s)
    if not sample.waiting_for and still_s >= sample.hold_s:
        seconds = since_s if sample.kind == "store" else now_s
        detail = f"visible after {since_s:.1f} s" if sample.kind == "store" else f"waited {now_s:.1f} s"
        return Settle(seconds=seconds, settled=True, how=how, detail=detail)
    if sample.is_lost and sample.keys_enough and still_s >= UNSURE_S:
        detail = f"visible after {since_s:.1f} s: {sample.waiting_for[0]}, the others were never put"
        return Settle(seconds=since_s, settled=True, how=how, detail=detail)
    if sample.is_lost and still_s >= GIVE_UP_S:
        detail = f"{sample.waiting_for[0]}, and nothing has moved for {still_s:.0f} s: the others were dropped"
        return Settle(seconds=now_s, settled=False, how=how, detail=detail)
    if now_s >= deadline_s:
        detail = "; ".join(sample.waiting_for) or "the store's keys and bytes kept changing"
        return Settle(seconds=now_s, settled=False, how=how, detail=f"gave up after {now_s:.0f} s: {detail}")
    return None


def _look(
    scrapes: tuple[Scrape, ...],
    before: tuple[Scrape, ...],
    expect_keys: int | None,
    expect_requests: int | None,
    enough_share: float,
) -> _Sample:
    busy, moved = _busy(scrapes), deltas(before, scrapes) if before else None
    counted = moved.get("requests_succeeded") if moved else None
    keys = value_of(scrapes, "keys")
    unsure = expect_keys is None or (expect_keys > 0 and not before)
    unsure = unsure or (counted is not None and counted < (expect_requests or 0))
    idle = () if not busy else (f"{busy:g} requests in the engines",)
    if keys is None:
        hold_s = BLIND_S if expect_keys != 0 else UNSURE_S if unsure else HOLD_S
        kind = "none" if busy is None else "engine"
        return _Sample(kind=kind, state=(busy, counted), waiting_for=idle, keys_short=False, hold_s=hold_s)
    open_puts = _open_puts(scrapes, moved)
    puts = () if not open_puts else (f"{open_puts:g} puts not ended",)
    present = keys - (value_of(before, "keys") or 0.0)
    short = bool(expect_keys) and present < (expect_keys or 0)
    missing = (f"{present:g} of {expect_keys} keys in the store",) if short else ()
    return _Sample(
        kind="store",
        state=(keys, value_of(scrapes, "stored_bytes"), open_puts, busy, counted),
        waiting_for=(*idle, *puts, *missing),
        keys_short=short,
        keys_enough=present >= enough_share * (expect_keys or 0),
        hold_s=UNSURE_S if unsure else HOLD_S,
    )


def _busy(scrapes: tuple[Scrape, ...]) -> float | None:
    running, waiting = value_of(scrapes, "requests_running"), value_of(scrapes, "requests_waiting")
    return None if running is None else running + (waiting or 0.0)


_PUT_SIGNS = {
    "put_items_started": 1,
    "put_items_failed": -1,
    "put_items_ended": -1,
    "put_items_revoked": -1,
    "put_items_discarded": -1,
}


def _open_puts(scrapes: tuple[Scrape, ...], moved: CounterDeltas | None) -> float | None:
    """Return how many puts were started and have not come to any end; None without the master's counters."""
    counts = {name: moved.get(name) if moved else value_of(scrapes, name) for name in _PUT_SIGNS}
    if counts["put_items_started"] is None or counts["put_items_ended"] is None:
        return None
    return max(0.0, sum(sign * (counts[name] or 0.0) for name, sign in _PUT_SIGNS.items()))
