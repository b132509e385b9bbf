"""The floor: a client in C that only stamps, compiled where it is compared with (`floor.c`; needs gcc)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.client.contestants import Contestant, Job, Seen, Work
from benchmarks.client.truth import compiled

__all__ = ["MISSING", "floor"]

MISSING = "no gcc here: the table is without the C floor"
_WAIT_S = 120


@contextmanager
def floor() -> Iterator[Contestant | None]:
    """The compiled floor, as long as the context lasts; `None` where there is no gcc."""
    program = compiled("floor")
    if program is None:
        yield None
        return

    async def run(job: Job) -> Work:
        return await _run(program, job)

    yield Contestant(name="C epoll floor", new_loop=asyncio.new_event_loop, run=run)


async def _run(program: Path, job: Job) -> Work:
    sizes = map(str, (urlsplit(job.url).port, job.streams, job.requests, job.tokens))
    process = await asyncio.create_subprocess_exec(program, *sizes, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"the C floor ended with code {process.returncode}")
    *lines, cpu_s = output.decode().splitlines()
    stamps = [[int(word) for word in line.split()] for line in lines]
    seen = (
        Seen(request_id=f"floor-{index}", sent_ns=row[0], chunk_ns=tuple(row[1:])) for index, row in enumerate(stamps)
    )
    return Work(seen=tuple(seen), cpu_s=float(cpu_s))
