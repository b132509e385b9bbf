"""Ours and what it is compared with inside this process: quick, and with the client's own CPU clock.

CPU is that of the client's thread, parsing and set-up included (ours collects garbage once before the round, tens of
ms, which only long streams spread thin), per chunk. The floor is a process of its own and tells its CPU itself.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

from tabulate import tabulate

from benchmarks.client.contestants import CONTESTANTS, Contestant, Job, Seen, Work
from benchmarks.client.truth import Load, compiled, serving
from pytest_mooncake.load.calibration.calibrate import Calibration, compare
from pytest_mooncake.records import ClientHealth, Kind, Phase, RequestRecord

__all__ = ["FASTEST_ITL_P99_MS", "HEADERS", "excess", "fastest", "measure", "table"]

HEADERS = ("client", "CPU µs/chunk", "TTFT bias ms", "TTFT P99 ms", "ITL bias ms", "ITL P99 ms")
ROOM_MS = 1.0
"""What scheduling on a shared machine may add to anybody."""
TIMES_FLOOR = 4.0
FASTEST_ITL_P99_MS = 2.0
"""At 25,600 chunks/s; above it the client, not the server, was the limit."""


def measure(contestant: Contestant, load: Load) -> Calibration:
    """Run one client against a fresh server and hold its stamps against the truth."""

    async def run(url: str) -> tuple[Work, float]:
        job = Job(url=url, streams=load.streams, requests=load.requests, tokens=load.tokens)
        before_ns = time.thread_time_ns()
        work = await contestant.run(job)
        return work, (time.thread_time_ns() - before_ns) / 1e9

    with serving(load, compiled("server")) as server, asyncio.Runner(loop_factory=contestant.new_loop) as runner:
        work, own_s = runner.run(run(server.url))
    chunks = sum(len(one.chunk_ns) for one in work.seen)
    health = ClientHealth(cpu_s=own_s if work.cpu_s is None else work.cpu_s, chunks=chunks)
    return compare([_record(one) for one in work.seen], server.truth, health)


def _record(seen: Seen) -> RequestRecord:
    return RequestRecord(
        round=0,
        kind=Kind.COLD,
        phase=Phase.WARM_UP,
        index=0,
        request_id=seen.request_id,
        prompt_tokens_planned=1,
        output_tokens_planned=len(seen.chunk_ns),
        intended_ns=seen.sent_ns,
        sent_ns=seen.sent_ns,
        chunk_ns=seen.chunk_ns,
    )


def table(load: Load, runs: dict[str, list[Calibration]], tablefmt: str = "github") -> str:
    """Medians over repetitions, a line a client."""
    rows = [[name, *_medians(found)] for name, found in runs.items()]
    formats = ("", ".1f", ".2f", ".2f", ".3f", ".2f")
    return f"**{load.title}**\n\n{tabulate(rows, HEADERS, tablefmt=tablefmt, floatfmt=formats)}\n"


def repeated(load: Load, repeats: int, contestants: Sequence[Contestant] = CONTESTANTS) -> dict[str, list[Calibration]]:
    """Clients alternate within a repetition, so that what disturbs the machine disturbs everybody."""
    runs: dict[str, list[Calibration]] = {contestant.name: [] for contestant in contestants}
    for _ in range(repeats):
        for contestant in contestants:
            runs[contestant.name].append(measure(contestant, load))
    return runs


def _medians(found: Sequence[Calibration]) -> list[float]:
    columns = (
        (one.cpu_us_per_chunk or 0.0, one.bias_ms, one.ttft_error_p99_ms, one.itl_bias_ms, one.itl_error_p99_ms)
        for one in found
    )
    return [statistics.median(column) for column in zip(*columns, strict=True)]


def excess(ours: Sequence[Calibration], floor: Sequence[Calibration]) -> list[str]:
    """Where the best of our runs is worse than the worst of the floor's in the same session allows; empty when fine."""
    said = []
    for name in ("ttft_error_p99_ms", "itl_error_p99_ms"):
        seen = min(getattr(one, name) for one in ours)
        allowed = TIMES_FLOOR * max(getattr(one, name) for one in floor) + ROOM_MS
        if seen > allowed:
            said.append(f"{name}: {seen:.2f}, the floor's own error allows {allowed:.2f}")
    return said


def fastest(ours: Sequence[Calibration], floor: Sequence[Calibration] | None = None) -> str:
    """What the row at 25,600 chunks/s says of our client, or of the machine where the floor is too late as well."""
    p99_ms = min(one.itl_error_p99_ms for one in ours)
    said = f"P99 error of a gap at the highest rate, best of {len(ours)}: {p99_ms:.2f} ms"
    if p99_ms <= FASTEST_ITL_P99_MS:
        return f"{said}, within {FASTEST_ITL_P99_MS:g} ms"
    if floor and min(one.itl_error_p99_ms for one in floor) > FASTEST_ITL_P99_MS:
        return f"{said}, above {FASTEST_ITL_P99_MS:g} ms, and so is the floor's: the machine was the limit"
    return f"{said}, above {FASTEST_ITL_P99_MS:g} ms: the client was the limit"
