"""What a client costs and how wrong it is: `python -m benchmarks.client [--quick]`.

Every client does the same closed loop against the scripted server (`pytest_mooncake.load.scripted`), which stamps just
before each write; errors are client minus truth. Clients alternate within a repetition; medians over repetitions are
printed. CPU is that of the client's thread, parsing and set-up included (ours collects garbage once before the round,
tens of ms, which only long streams spread thin), per chunk. Figures of one table belong together; between machines only
ratios do.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.client.contestants import CONTESTANTS, Contestant, Job, Seen
from benchmarks.client.floor import MISSING, floor
from pytest_mooncake.load.bodies import Bodies
from pytest_mooncake.load.calibration import Calibration, compare, scripted_server
from pytest_mooncake.load.children import child_environment
from pytest_mooncake.load.spec import RoundSpec
from pytest_mooncake.plan.models import Timeouts
from pytest_mooncake.records import ClientHealth, Engine, Kind, Phase, PlannedRequest, RequestRecord

PROMPT_TOKENS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the server does and how many streams are open at once."""

    streams: int
    tokens: int
    gap_ms: float
    ttft_ms: float = 50.0


def measure(contestant: Contestant, load: Load) -> Calibration:
    """Run one client against a fresh server and hold its stamps against the truth."""

    async def run() -> Calibration:
        async with scripted_server(ttft_ms=load.ttft_ms, gap_ms=load.gap_ms, tokens=load.tokens) as server:
            job = Job(url=server.url, streams=load.streams, requests=2 * load.streams, tokens=load.tokens)
            before_ns = time.thread_time_ns()
            work = await contestant.run(job)
            own_s = (time.thread_time_ns() - before_ns) / 1e9
        chunks = sum(len(one.chunk_ns) for one in work.seen)
        health = ClientHealth(cpu_s=own_s if work.cpu_s is None else work.cpu_s, chunks=chunks)
        return compare([_record(one) for one in work.seen], server.truth, health)

    with asyncio.Runner(loop_factory=contestant.new_loop) as runner:
        return runner.run(run())


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


def table(load: Load, repeats: int, contestants: Sequence[Contestant] = CONTESTANTS) -> str:
    """Compare clients under one load."""
    runs: dict[str, list[Calibration]] = {contestant.name: [] for contestant in contestants}
    for _ in range(repeats):
        for contestant in contestants:
            runs[contestant.name].append(measure(contestant, load))
    headers = ["client", "CPU µs/chunk", "TTFT bias ms", "TTFT P99 ms", "ITL bias ms", "ITL P99 ms"]
    rows = [[name, *_medians(found)] for name, found in runs.items()]
    rate = load.streams * 1000 / load.gap_ms
    title = f"{load.streams} streams, {load.tokens} tokens, one every {load.gap_ms:g} ms ({rate:,.0f} chunks/s)"
    return f"{title}\n{tabulate(rows, headers, floatfmt=('', '.1f', '.2f', '.2f', '.3f', '.2f'))}\n"


def _medians(found: Sequence[Calibration]) -> list[float]:
    columns = (
        (one.cpu_us_per_chunk or 0.0, one.bias_ms, one.ttft_error_p99_ms, one.itl_bias_ms, one.itl_error_p99_ms)
        for one in found
    )
    return [statistics.median(column) for column in zip(*columns, strict=True)]


def encoding_us() -> float:
    """Microseconds to encode the body of a 16,384-token prompt (before the round, off the clock)."""
    requests = tuple(
        PlannedRequest(index=i, prompt=tuple(range(i, i + PROMPT_TOKENS)), prompt_tokens=PROMPT_TOKENS, output_tokens=1)
        for i in range(50)
    )
    spec = RoundSpec(
        round=0,
        kind=Kind.COLD,
        phase=Phase.WARM_UP,
        requests=requests,
        concurrency=1,
        timeouts=Timeouts(),
        engines=(Engine(url="http://127.0.0.1:1"),),
        model="m",
    )
    before = time.thread_time_ns()
    Bodies(spec).prepare()
    return (time.thread_time_ns() - before) / 1000 / len(requests)


def import_s() -> float:
    """Seconds from the start of a Python to the client being importable in it."""
    before = time.perf_counter()
    command = [sys.executable, "-c", "import pytest_mooncake.load.round"]
    subprocess.run(command, check=True, env=child_environment())
    return time.perf_counter() - before


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small load, one repetition: about ten seconds")
    parser.add_argument("--streams", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    loads = [Load(streams=streams, tokens=options.tokens, gap_ms=options.gap_ms) for streams in options.streams]
    if options.quick:
        loads, options.repeats = [Load(streams=16, tokens=32, gap_ms=10.0)], 1
    with floor() as least:
        if least is None:
            print(MISSING)
        contestants = CONTESTANTS if least is None else (least, *CONTESTANTS)
        for load in loads:
            print(table(load, options.repeats, contestants), flush=True)
    print(
        f"encoding a {PROMPT_TOKENS:,}-token prompt: {encoding_us():.0f} µs; start-up with imports: {import_s():.2f} s"
    )


if __name__ == "__main__":
    main()
