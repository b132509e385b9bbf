"""One round: every request of the workload once, each with everything that was measured about it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator

from pytest_mooncake.load.health import HealthSampler, tainted_requests
from pytest_mooncake.load.http.bodies import Bodies, Prepared
from pytest_mooncake.load.http.exchange import Exchange, endpoint_of
from pytest_mooncake.load.http.transport import Clock, Transport
from pytest_mooncake.load.schedule.pacing import Opening, SendResult, closed_loop, open_loop
from pytest_mooncake.load.schedule.turns import Answers, Turns
from pytest_mooncake.load.spec import RoundResult, RoundSpec
from pytest_mooncake.records import RequestRecord

__all__ = ["RoundResult", "RoundSpec", "first_of_group", "run_round", "run_share"]

OnRecord = Callable[[RequestRecord], None]

OPEN_LOOP_OPENING = 8
"""Connections opened ahead of an open-loop round without a cap, and requests whose common failure cuts it short."""

_WATCH_S = (0.01, 0.25)
_WATCH_SHARE = 0.1


async def run_round(
    spec: RoundSpec,
    *,
    on_record: OnRecord,
    clock: Clock = time.perf_counter_ns,
    stamp_on_arrival: bool = True,
) -> RoundResult:
    """Send all requests of a round and measure them.

    Bodies are encoded and connections opened before the clock runs; the garbage collector is off until the end.

    Args:
        spec: What to send, where, how.
        on_record: Called once for each request as soon as it has finished, in order of completion, in this thread.
        clock: Nanoseconds, monotonic.
        stamp_on_arrival: False does without aiohttp's internals (`transport`), for comparison.

    Returns:
        Times, the client's own condition, and why the round was cut short if it was. Failed requests raise nothing:
        they are records with `error` set.

    Raises:
        WorkloadError: A request cannot be encoded for this API.
        BaseException: What `on_record` raised; the round ends at once.
    """
    transport = Transport(headers=spec.headers, clock=clock, stamp_on_arrival=stamp_on_arrival)
    return await run_share(spec, Bodies(spec), transport, on_record=on_record)


async def run_share(
    spec: RoundSpec,
    bodies: Bodies,
    transport: Transport,
    *,
    on_record: OnRecord,
    begin: Callable[[], Awaitable[int]] | None = None,
) -> RoundResult:
    """Send the requests that `bodies` holds, which may be a share of a round.

    Args:
        spec: As for `run_round`; `concurrency` is that of this share.
        bodies: What to send from here.
        transport: Not entered yet.
        on_record: As for `run_round`.
        begin: Awaited once everything is ready; returns when the round begins, ns. Now, unless given.
    """
    bodies.prepare()
    async with transport:
        slots = _slots(spec, bodies)
        await transport.open_connections({endpoint_of(spec, i): slots for i in range(len(spec.engines))})
        with _quiet_collector(), first_of_group():
            began_ns = transport.clock() if begin is None else await begin()
            return await _Run(spec, bodies, transport, on_record).perform(began_ns)


class _Run:
    """The moving parts of one round: requests in flight, their watch, and the scribe who reads and hands them on."""

    def __init__(self, spec: RoundSpec, bodies: Bodies, transport: Transport, on_record: OnRecord) -> None:
        self._spec = spec
        self._bodies = bodies
        self._transport = transport
        self._on_record = on_record
        self._clock = transport.clock
        self._salt = secrets.token_hex(4)
        self._open: set[Exchange] = set()
        self._finished: asyncio.Queue[tuple[int, Exchange] | None] = asyncio.Queue()
        self._slots = _slots(spec, bodies)
        self._open_loop = bodies.has_arrival_times
        self._opening = Opening(self._slots)
        self._turns = Turns(bodies, self._clock)
        self._turnstile = transport.turnstile
        self._answers = spec.requests if isinstance(spec.requests, Answers) else None
        self._sampler = HealthSampler(clock=self._clock)
        self._records: list[RequestRecord] = []
        self._taken = 0
        self._read_late = False

    async def perform(self, began_ns: int) -> RoundResult:
        self._sampler.start()
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._watch()), group.create_task(self._bodies.keep_ahead())]
                scribe = group.create_task(self._write_records())
                await self._send_all(began_ns)
                await self._finished.put(None)
                await scribe
                for task in beside:
                    task.cancel()
        finally:
            self._sampler.stop()
        return self._result(began_ns)

    async def _send_all(self, began_ns: int) -> None:
        clock, cap = self._clock, self._spec.concurrency
        parts = (self._bodies, self._send, self._opening, self._turns)
        if self._open_loop:
            await open_loop(*parts, cap=cap, start_ns=began_ns, clock=clock)
        else:
            await closed_loop(*parts, slots=self._slots, clock=clock)

    async def _send(self, prepared: Prepared, *, intended_ns: int, ready_ns: int | None) -> SendResult:
        await self._turnstile.wait_turn(priority=True)
        place, self._taken = self._taken, self._taken + 1
        exchange = Exchange(
            spec=self._spec,
            prepared=prepared,
            request_id=f"mooncake-{self._salt}-r{self._spec.round}-i{prepared.index}",
            intended_ns=intended_ns,
            ready_ns=ready_ns,
            started_ns=self._clock(),
        )
        self._open.add(exchange)
        try:
            await exchange.perform(self._transport)
        finally:
            self._open.discard(exchange)
        self._finished.put_nowait((place, exchange))
        return SendResult(free_ns=exchange.free_ns, refused=exchange.error is not None)

    async def _write_records(self) -> None:
        """Read finished responses in order of completion, beside the requests that are still on their way."""
        while (item := await self._finished.get()) is not None:
            place, exchange = item
            await exchange.read_rest(self._turnstile)
            self._read_late |= exchange.read_late
            if self._answers is not None:
                self._answers.answered(exchange.prepared.index, tuple(exchange.reading.token_ids))
            self._turns.note(exchange.prepared.index, exchange.free_ns)
            record = exchange.record()
            self._records.append(record)
            self._opening.note(place, record.error)
            self._on_record(record)

    async def _watch(self) -> None:
        """Enforce the limits, a tenth of the shortest late at most, without a timer per chunk."""
        limits = self._spec.timeouts
        shortest = min(limits.first_token_s, limits.between_chunks_s, limits.request_s)
        period = min(max(shortest * _WATCH_SHARE, _WATCH_S[0]), _WATCH_S[1])
        while True:
            await asyncio.sleep(period)
            now_ns = self._clock()
            for exchange in tuple(self._open):
                reason = exchange.overdue(now_ns)
                if reason is not None:
                    # Everything is there, only the end of the body is missing: nothing to wait for, nothing wrong.
                    exchange.expire(None if exchange.reading.done else reason)

    def _result(self, began_ns: int) -> RoundResult:
        sent = [record.sent_ns for record in self._records if record.sent_ns is not None]
        last = [record.last_token_ns for record in self._records if record.last_token_ns is not None]
        return RoundResult(
            started_ns=min(sent, default=began_ns),
            ended_ns=max(last, default=self._clock()),
            health=self._sampler.health(self._records),
            cut_short=self._opening.cut_short,
            tainted=tainted_requests(self._records, self._sampler.lags()),
            stamping="read" if self._read_late else "arrival",
            connections_opened=self._transport.connections_opened,
        )


def _slots(spec: RoundSpec, bodies: Bodies) -> int:
    """Requests that may be in flight at once, as far as it is known; connections are opened for so many."""
    if spec.concurrency is None and not bodies.has_arrival_times:
        raise ValueError("a round without arrival times needs a concurrency")
    return min(spec.concurrency or OPEN_LOOP_OPENING, len(spec.requests))


@contextlib.contextmanager
def _quiet_collector() -> Iterator[None]:
    """Keep the garbage collector out of the round: a full collection stops the client for tens of milliseconds."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def first_of_group() -> Iterator[None]:
    """Let the caller see the error itself, not the group which asyncio wraps around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
