"""How a round is divided among worker processes, and how their results become one again. Pure but for the ticket pipe.

Requests are not divided beforehand: places in the round lie as tickets in one pipe, and whoever has a free slot takes
the next. So the order of sending is that of a single process, and no worker idles while another has requests left.
Reading a pipe is atomic, hence no lock, no server, no message.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from pytest_mooncake.load.health import rank_percentile, send_delay_ns
from pytest_mooncake.load.spec import RoundResult, RoundSpec
from pytest_mooncake.records import ClientHealth, RequestRecord

__all__ = ["MOST_REQUESTS", "merge", "share_of", "slots_of", "take_tickets", "tickets", "worker_count"]

_TICKET = struct.Struct("=I")
_PIPE_BYTES = 2**20
_STREAMS_PER_WORKER = 128
MOST_REQUESTS = _PIPE_BYTES // _TICKET.size
"""Tickets that fit into the largest pipe an ordinary user may have."""


@contextlib.contextmanager
def tickets(count: int) -> Iterator[int]:
    """Put the places `0 … count - 1` into a pipe and give its reading end, which workers inherit.

    Raises:
        ValueError: There are more requests than tickets fit.
    """
    if count > MOST_REQUESTS:
        raise ValueError(f"{count} requests cannot be shared among workers, at most {MOST_REQUESTS}; use one worker")
    reading, writing = os.pipe()
    try:
        if count * _TICKET.size > fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        with os.fdopen(writing, "wb") as pipe:
            pipe.writelines(_TICKET.pack(place) for place in range(count))
        yield reading
    finally:
        os.close(reading)


def take_tickets(pipe: int) -> Iterator[int]:
    """Take places from the pipe until there are no more. Every place is taken once, whoever asks."""
    while ticket := os.read(pipe, _TICKET.size):
        (place,) = _TICKET.unpack(ticket)
        yield place


def slots_of(total: int | None, *, workers: int, worker: int) -> int | None:
    """Slots of the `worker`-th of `workers`; they differ by one at most.

    >>> [slots_of(7, workers=3, worker=i) for i in range(3)]
    [3, 2, 2]
    """
    return None if total is None else (total + workers - 1 - worker) // workers


def worker_count(asked: int | Literal["auto"], concurrency: int | None, *, cpus: int | None = None) -> int:
    """Processes for a round; `auto`: one for every 128 in flight, half the CPUs at most (all of it without a cap).

    >>> [worker_count("auto", streams, cpus=8) for streams in (4, 200, 5000, None)]
    [1, 2, 4, 4]
    """
    if asked != "auto":
        return asked
    most = max(1, (cpus or os.cpu_count() or 1) // 2)
    return most if concurrency is None else min(most, -(-concurrency // _STREAMS_PER_WORKER))


def share_of(spec: RoundSpec, *, workers: int, worker: int) -> RoundSpec:
    """The round as one worker sees it: all requests, its part of the slots. No more slots than there are requests."""
    total = None if spec.concurrency is None else min(spec.concurrency, len(spec.requests))
    return replace(spec, concurrency=slots_of(total, workers=workers, worker=worker))


def merge(results: Sequence[RoundResult], records: Sequence[RequestRecord]) -> RoundResult:
    """One result of the workers' results. Where a figure cannot be computed anew, the worst worker's counts.

    The round was cut short only if every worker gave up: as long as one goes on, all requests are sent.
    """
    cuts = [result.cut_short for result in results]
    sent = [record.sent_ns for record in records if record.sent_ns is not None]
    last = [record.last_token_ns for record in records if record.last_token_ns is not None]
    return RoundResult(
        started_ns=min(sent, default=min(result.started_ns for result in results)),
        ended_ns=max(last, default=max(result.ended_ns for result in results)),
        health=_merged_health([result.health for result in results], records),
        cut_short=cuts[0] if all(cuts) else None,
        tainted=tuple(sorted(index for result in results for index in result.tainted)),
        stamping="read" if any(result.stamping == "read" for result in results) else "arrival",
        connections_opened=sum(result.connections_opened for result in results),
    )


def _merged_health(parts: Sequence[ClientHealth], records: Sequence[RequestRecord]) -> ClientHealth:
    delays = [delay / 1e6 for record in records if (delay := send_delay_ns(record)) is not None]
    return ClientHealth(
        loop_lag_p50_ms=_worst(part.loop_lag_p50_ms for part in parts),
        loop_lag_p99_ms=_worst(part.loop_lag_p99_ms for part in parts),
        loop_lag_max_ms=_worst(part.loop_lag_max_ms for part in parts),
        send_delay_mean_ms=sum(delays) / len(delays) if delays else None,
        send_delay_p99_ms=rank_percentile(delays, 0.99),
        send_delay_max_ms=max(delays, default=None),
        cpu_s=sum(part.cpu_s or 0.0 for part in parts),
        cpu_peak_share=_worst(part.cpu_peak_share for part in parts),
        chunks=sum(part.chunks for part in parts),
    )


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
