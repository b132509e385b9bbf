"""What our client costs beside its chunks: a long prompt, a start, an open stream."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace

from benchmarks.client.truth import Load, compiled, serving
from pytest_mooncake.load.calibration.calibrate import scripted_spec
from pytest_mooncake.load.event_loop import new_event_loop
from pytest_mooncake.load.round import run_round
from pytest_mooncake.load.workers.child_environment import child_environment
from pytest_mooncake.records import PlannedRequest, RequestRecord

__all__ = ["PROMPT_TOKENS", "bytes_per_stream", "import_s", "prompt_us"]

PROMPT_TOKENS = 16_384


def prompt_us(repeats: int = 7) -> float:
    """Microseconds of CPU that a prompt of 16,384 tokens costs the client, encoded and sent, over one of one token.

    The least of some for either: what else the machine does only ever adds.
    """
    load = Load(streams=4, tokens=2, gap_ms=2.0, ttft_ms=5.0, waves=20)
    long, short = (min(_request_us(load, tokens) for _ in range(repeats)) for tokens in (PROMPT_TOKENS, 1))
    return long - short


def _request_us(load: Load, prompt_tokens: int) -> float:
    requests = tuple(
        PlannedRequest(index=i, prompt=tuple(range(i, i + prompt_tokens)), prompt_tokens=1, output_tokens=load.tokens)
        for i in range(load.requests)
    )
    return _cpu_s(load, requests) * 1e6 / load.requests


def _cpu_s(load: Load, requests: tuple[PlannedRequest, ...] | None = None) -> float:
    async def run(url: str) -> float:
        records: list[RequestRecord] = []
        spec = scripted_spec(url, concurrency=load.streams, requests=load.requests, tokens=load.tokens)
        spec = replace(spec, requests=requests) if requests else spec
        gc.collect()  # the prompts were made for this: a round's own collection need not look through them
        before_ns = time.thread_time_ns()
        await run_round(spec, on_record=records.append)
        spent_s = (time.thread_time_ns() - before_ns) / 1e9
        failed = [record.error for record in records if record.error]
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(records)} requests failed: {failed[0]}")
        return spent_s

    with serving(load, compiled("server")) as server, asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run(server.url))


def bytes_per_stream(load: Load) -> float:
    """Most Python memory held while `load.streams` streams are open, per stream; what two streams hold is taken off."""
    few = replace(load, streams=2)
    return (_peak_bytes(load) - _peak_bytes(few)) / (load.streams - few.streams)


def _peak_bytes(load: Load) -> int:
    tracemalloc.start()
    try:
        _cpu_s(replace(load, waves=1))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def import_s(repeats: int = 3) -> float:
    """Seconds from the start of a Python to the client being importable in it, the least of some."""
    command = [sys.executable, "-c", "import pytest_mooncake.load.round"]
    took = []
    for _ in range(repeats):
        before = time.perf_counter()
        subprocess.run(command, check=True, env=child_environment())
        took.append(time.perf_counter() - before)
    return min(took)
