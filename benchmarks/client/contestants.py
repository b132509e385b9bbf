"""The clients that are compared: ours, ours without aiohttp's internals, and aiohttp as everybody writes it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from pytest_mooncake.load.calibration.calibrate import scripted_spec
from pytest_mooncake.load.event_loop import new_event_loop
from pytest_mooncake.load.round import run_round
from pytest_mooncake.records import RequestRecord

__all__ = ["CONTESTANTS", "Contestant", "Job", "Seen", "Work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A closed loop: `requests` requests of `tokens` tokens, `streams` at a time."""

    url: str
    streams: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a client says of one request, ns."""

    request_id: str
    sent_ns: int
    chunk_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job done. `cpu_s` is that of a process of its own; `None` for what ran in the calling thread."""

    seen: tuple[Seen, ...]
    cpu_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A client: its name, its loop, and how it does a job."""

    name: str
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    run: Callable[[Job], Coroutine[Any, Any, Work]]


async def _ours(job: Job, *, stamp_on_arrival: bool) -> Work:
    records: list[RequestRecord] = []
    spec = scripted_spec(job.url, concurrency=job.streams, requests=job.requests, tokens=job.tokens)
    await run_round(spec, on_record=records.append, stamp_on_arrival=stamp_on_arrival)
    failed = [record.error for record in records if record.error]
    if failed or len(records) != job.requests:
        raise RuntimeError(f"{len(failed)} of {len(records)} requests failed: {failed[:1]}")
    seen = (Seen(request_id=one.request_id, sent_ns=one.sent_ns or 0, chunk_ns=one.chunk_ns) for one in records)
    return Work(seen=tuple(seen))


async def _plain(job: Job, *, loads: Callable[[bytes], Any]) -> Work:
    """Aiohttp as everybody writes it: a session, a semaphore's worth of tasks, lines, JSON, then the clock."""
    seen: list[Seen] = []
    indexes = iter(range(job.requests))
    body = {"model": "m", "prompt": [1], "max_tokens": job.tokens, "stream": True}

    async def one(session: aiohttp.ClientSession, index: int) -> Seen:
        stamps: list[int] = []
        sent_ns = time.perf_counter_ns()
        headers = {"X-Request-Id": f"plain-{index}"}
        async with session.post(f"{job.url}/v1/completions", json=body, headers=headers) as response:
            async for line in response.content:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                chunk = loads(line[6:])
                if chunk["choices"] and chunk["choices"][0]["text"]:
                    stamps.append(time.perf_counter_ns())
        return Seen(request_id=f"plain-{index}", sent_ns=sent_ns, chunk_ns=tuple(stamps))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def slot() -> None:
            for index in indexes:
                seen.append(await one(session, index))

        await asyncio.gather(*(slot() for _ in range(job.streams)))
    return Work(seen=tuple(seen))


CONTESTANTS = (
    Contestant(
        name="pytest-mooncake",
        new_loop=new_event_loop,
        run=lambda job: _ours(job, stamp_on_arrival=True),
    ),
    Contestant(
        name="the same, public API only",
        new_loop=new_event_loop,
        run=lambda job: _ours(job, stamp_on_arrival=False),
    ),
    Contestant(
        name="aiohttp, line loop, uvloop, orjson",
        new_loop=new_event_loop,
        run=lambda job: _plain(job, loads=orjson.loads),
    ),
    Contestant(
        name="aiohttp, line loop, json",
        new_loop=asyncio.new_event_loop,
        run=lambda job: _plain(job, loads=json.loads),
    ),
)
