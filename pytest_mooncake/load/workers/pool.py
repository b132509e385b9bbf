"""One round from several processes: for loads at which a single one would be the limit.

The parent divides the slots, starts the workers (`python -m pytest_mooncake.load.workers.pool`), waits until each has
encoded its first bodies and opened its connections, and names one moment at which all begin. `perf_counter_ns` is
CLOCK_MONOTONIC on Linux, the same in every process, so no clocks are compared. Records come back one by one as requests
finish and go to the caller at once, as with a single process.

Between parent and worker run length-prefixed pickles over the worker's standard input and output; secrets travel there
and never as arguments. A worker whose input ends (the parent was killed) ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

from pytest_mooncake.errors import MooncakeError, WorkloadError
from pytest_mooncake.load.event_loop import new_event_loop
from pytest_mooncake.load.http.bodies import Bodies
from pytest_mooncake.load.http.failures import one_line
from pytest_mooncake.load.http.transport import Transport
from pytest_mooncake.load.round import OnRecord, first_of_group, run_round, run_share
from pytest_mooncake.load.spec import RoundResult, RoundSpec
from pytest_mooncake.load.workers.child_environment import child_environment
from pytest_mooncake.load.workers.sharding import merge, share_of, take_tickets, tickets
from pytest_mooncake.records import RequestRecord

__all__ = ["run_round_in_workers"]

_LENGTH = struct.Struct("=I")
_READY = "ready"
_END_S = 5.0
_LEAD_NS = 20_000_000
"""From naming the beginning to the beginning: every worker has read it by then."""


async def run_round_in_workers(spec: RoundSpec, *, workers: int, on_record: OnRecord) -> RoundResult:
    """Send a round from `workers` processes; otherwise as `run_round`, which one worker amounts to.

    There are never more workers than slots or requests, and only one where requests wait for others. They inherit the
    network namespace of the calling thread.

    Raises:
        WorkloadError: The requests cannot be handed to another process, or not be encoded.
        MooncakeError: A worker ended before its time.
        BaseException: What `on_record` raised; the round ends at once.
    """
    count = 1 if spec.is_chained else min(workers, len(spec.requests), spec.concurrency or workers)
    if count <= 1:
        return await run_round(spec, on_record=on_record)
    orders = [_order_for(spec, workers=count, worker=worker) for worker in range(count)]
    records: list[RequestRecord] = []

    def keep(record: RequestRecord) -> None:
        records.append(record)
        on_record(record)

    with (
        tickets(len(spec.requests)) as pipe,
        ThreadPoolExecutor(count, "mooncake-worker") as threads,
        contextlib.ExitStack() as crew,
        first_of_group(),
    ):
        hands = [_WorkerHandle(crew.enter_context(_started(order, pipe)), threads) for order in orders]
        for hand in hands:
            await hand.expect_ready()
        begin_ns = time.perf_counter_ns() + _LEAD_NS
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hand.follow(begin_ns, keep)) for hand in hands]
    return merge([task.result() for task in tasks], records)


def _order_for(spec: RoundSpec, *, workers: int, worker: int) -> bytes:
    try:
        return pickle.dumps(share_of(spec, workers=workers, worker=worker))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise WorkloadError(
            f"these requests cannot be handed to worker processes ({one_line(error)}); use --mooncake-workers 1"
        ) from None


@contextlib.contextmanager
def _started(order: bytes, pipe: int) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that has its order; it is gone when the context has ended, however that came."""
    command = [sys.executable, "-m", "pytest_mooncake.load.workers.pool", str(pipe)]
    ends = subprocess.PIPE
    process = subprocess.Popen(command, stdin=ends, stdout=ends, env=child_environment(), pass_fds=(pipe,))  # noqa: S603
    try:
        _tell(process, order)
        yield process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    finally:
        process.kill()
        process.communicate()


class _WorkerHandle:
    """The parent's view of one worker."""

    def __init__(self, process: subprocess.Popen[bytes], threads: ThreadPoolExecutor) -> None:
        self._process = process
        self._threads = threads
        self._output = cast("IO[bytes]", process.stdout)

    async def _receive(self) -> object:
        """The next message; blocks a thread, not the loop."""
        message = await asyncio.get_running_loop().run_in_executor(self._threads, _read, self._output)
        if isinstance(message, MooncakeError):
            raise message
        if message is None:
            raise MooncakeError(f"a load worker (process {self._process.pid}) ended before its round did; run again")
        return message

    async def expect_ready(self) -> None:
        """Wait until the worker could begin."""
        await self._receive()

    async def follow(self, begin_ns: int, keep: OnRecord) -> RoundResult:
        """Let the worker begin, pass on its records, and return its result."""
        _tell(self._process, pickle.dumps(begin_ns))
        while isinstance(message := await self._receive(), RequestRecord):
            keep(message)
        return cast("RoundResult", message)


def _tell(process: subprocess.Popen[bytes], data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it is dead: the end of its output says so better
        _write(cast("IO[bytes]", process.stdin), data)


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> object:
    """One message of our own child or parent; `None` at the end of the pipe."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    message: object = pickle.loads(pipe.read(*_LENGTH.unpack(head)))  # noqa: S301 - from no one but our own process
    return message


async def _work(spec: RoundSpec, pipe: int, source: IO[bytes], sink: IO[bytes]) -> RoundResult:
    """Do a worker's share: say when ready, begin when told, send every record as it comes."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    async def begin() -> int:
        _write(sink, pickle.dumps(_READY))
        begin_ns = await loop.run_in_executor(None, _read, source)
        loop.add_reader(source.fileno(), _end_with, source.fileno(), task)
        while (left_ns := cast("int", begin_ns) - time.perf_counter_ns()) > 0:  # noqa: ASYNC110 - the time itself
            await asyncio.sleep(left_ns / 1e9)
        return cast("int", begin_ns)

    bodies = Bodies(spec, places=take_tickets(pipe), first=spec.concurrency or 1)
    transport = Transport(headers=spec.headers, clock=time.perf_counter_ns)
    return await run_share(
        spec, bodies, transport, on_record=lambda record: _write(sink, pickle.dumps(record)), begin=begin
    )


def _end_with(source: int, task: asyncio.Task[object] | None) -> None:
    if task is not None and not os.read(source, 1):
        task.cancel()


def main(pipe: int) -> None:
    """A worker's life: one order in, records and one result out."""
    with open(0, "rb", closefd=False) as source, open(1, "wb", closefd=False) as sink:
        spec = cast("RoundSpec", _read(source))
        outcome: object
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                outcome = runner.run(_work(spec, pipe, source, sink))
        except asyncio.CancelledError:
            return
        except MooncakeError as error:
            outcome = error
        except Exception as error:  # a traceback in a child would reach the user's terminal unexplained
            outcome = MooncakeError(f"a load worker failed: {type(error).__name__}: {one_line(error)}")
        _write(sink, pickle.dumps(outcome))


if __name__ == "__main__":
    main(int(sys.argv[1]))
