"""When each request of a round starts: from a free slot (closed loop) or from its intended time (open loop)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from pytest_mooncake.load.http.bodies import Bodies, Prepared
from pytest_mooncake.load.http.transport import Clock
from pytest_mooncake.load.schedule.turns import Turns, sleep_until

__all__ = ["Opening", "SendRequest", "SendResult", "closed_loop", "open_loop"]


class SendResult(NamedTuple):
    """How a request ended as far as the connection knows: when its slot became free, and whether it was refused."""

    free_ns: int
    refused: bool


class SendRequest(Protocol):
    """Sends one request and waits for its end."""

    def __call__(self, prepared: Prepared, *, intended_ns: int, ready_ns: int | None) -> Awaitable[SendResult]:
        """Send `prepared`; `ready_ns` is when it had a slot, `None` where there are none."""


class Opening:
    """The first requests of a round: when all of them failed, the rest is not sent.

    A slot whose request failed waits here before it goes on, so that an endpoint that refuses everything sees exactly
    these requests and no more.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._failed = 0
        self._decided = asyncio.Event()
        self.cut_short: str | None = None

    def note(self, place: int, fault: str | None) -> None:
        """Count the outcome of the `place`-th request of the round."""
        if place >= self.size or self._decided.is_set():
            return
        self._failed += fault is not None
        if fault is None:
            self._decided.set()
        elif self._failed == self.size:
            self.cut_short = f"the first {self.size} requests all failed; the last with: {fault}"
            self._decided.set()

    async def wait_after_failure(self) -> None:
        """Wait until it is known whether the round goes on."""
        await self._decided.wait()


async def closed_loop(
    bodies: Bodies, send: SendRequest, opening: Opening, turns: Turns, *, slots: int, clock: Clock
) -> None:
    """Keep `slots` requests in flight: the next starts as soon as a slot is free and it is its turn.

    A slot is free from the arrival of the last byte before, not from when this task learns of it: the difference is
    the client's own delay and must show in its send delays.
    """
    began_ns = clock()

    async def run_slot() -> None:
        ready_ns = began_ns
        while opening.cut_short is None and (prepared := bodies.take()) is not None:
            prepared, due_ns = await turns.come(prepared)
            ready_ns = max(ready_ns, due_ns)
            outcome = await send(prepared, intended_ns=ready_ns, ready_ns=ready_ns)
            ready_ns = outcome.free_ns
            if outcome.refused:
                await opening.wait_after_failure()
                ready_ns = clock()

    async with asyncio.TaskGroup() as group:
        for _ in range(slots):
            group.create_task(run_slot())


async def open_loop(
    bodies: Bodies, send: SendRequest, opening: Opening, turns: Turns, *, cap: int | None, start_ns: int, clock: Clock
) -> None:
    """Start every request at `start_ns` plus its offset, however late the ones before it are.

    A turn of a conversation starts no earlier than its predecessor allows: nobody answers what was not said yet.
    With a cap, a request whose time has come waits for one of `cap` slots; `ready_ns` then says when it got it.
    """
    slots = asyncio.Semaphore(cap) if cap is not None else None
    async with asyncio.TaskGroup() as group:
        while opening.cut_short is None and (prepared := bodies.take()) is not None:
            intended_ns = start_ns + (prepared.offset_ns or 0)
            await sleep_until(intended_ns, clock)
            if slots is not None:
                await slots.acquire()
            ready_ns = clock() if slots is not None else None
            done = slots.release if slots is not None else None
            group.create_task(_send_one(send, turns, prepared, intended_ns, ready_ns, done))


async def _send_one(
    send: SendRequest,
    turns: Turns,
    prepared: Prepared,
    intended_ns: int,
    ready_ns: int | None,
    done: Callable[[], None] | None,
) -> None:
    try:
        prepared, due_ns = await turns.come(prepared)
        ready_ns = None if ready_ns is None else max(ready_ns, due_ns)
        await send(prepared, intended_ns=max(intended_ns, due_ns), ready_ns=ready_ns)
    finally:
        if done is not None:
            done()
