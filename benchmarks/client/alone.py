"""One of our own contestants as a process of its own, so that it is accounted for as its peers are."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson

from benchmarks.client.contestants import CONTESTANTS, Job

__all__ = ["main"]


def main(name: str, url: str, streams: str, requests: str, tokens: str, out: str) -> None:
    """Do the job and write what was seen: request id, sent, chunks (ns)."""
    contestant = next(one for one in CONTESTANTS if one.name == name)
    job = Job(url=url, streams=int(streams), requests=int(requests), tokens=int(tokens))
    with asyncio.Runner(loop_factory=contestant.new_loop) as runner:
        work = runner.run(contestant.run(job))
    rows = [[one.request_id, one.sent_ns, *one.chunk_ns] for one in work.seen]
    Path(out).write_bytes(orjson.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
