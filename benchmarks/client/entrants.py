"""Who takes part as a process of its own: ours, what ours is compared with, the floor in C, and the peers."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.client.contestants import CONTESTANTS, Job
from benchmarks.client.peers import PEERS, Peer, Told, python_of, tokenizer
from benchmarks.client.truth import compiled

__all__ = ["Absent", "Entrant", "entrants"]

_ROOT = Path(__file__).parents[2]
_ALONE = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from benchmarks.client.alone import main; main(*sys.argv[1:])"
)
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A client as a command: `command(job, directory)`, and `read(directory)` for what it says of each request."""

    name: str
    command: Callable[[Job, Path], list[str]]
    read: Callable[[Path], Iterator[Told]]
    importing: tuple[str, ...] | None = None
    """A command that imports what its start imports."""
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A peer that cannot take part, and why."""

    name: str
    reason: str


def entrants(*, peers: bool = True) -> Iterator[Entrant | Absent]:
    """Everybody, the floor first; peers are installed on the way."""
    program = compiled("floor")
    if program is None:
        yield Absent(name="C epoll floor", reason="no gcc here")
    else:
        yield Entrant(name="C epoll floor", command=partial(_floor, program), read=_read_floor)
    for contestant in CONTESTANTS:
        yield _ours(contestant.name)
    for peer in PEERS if peers else ():
        yield _peer(peer)


def _ours(name: str) -> Entrant:
    module = "pytest_mooncake.load.round" if "aiohttp" not in name else "aiohttp"
    importing = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); import {module}"
    return Entrant(
        name=name,
        command=lambda job, directory: [
            *(sys.executable, "-c", _ALONE, name, job.url),
            *(str(job.streams), str(job.requests), str(job.tokens), str(directory / "told.json")),
        ],
        read=_read_ours,
        importing=(sys.executable, "-c", importing),
    )


def _peer(peer: Peer) -> Entrant | Absent:
    name = f"{peer.name} {peer.version}"
    words = tokenizer()
    if words is None:
        return Absent(name=name, reason="no tokenizer here: run the local stack once, it builds one")
    python, why = python_of(peer)
    if python is None:
        return Absent(name=name, reason=why)
    return Entrant(
        name=name,
        command=lambda job, directory: [str(python), *peer.command(job, directory, words)],
        read=peer.read,
        importing=(str(python), "-c", f"import {peer.module}"),
        environment=peer.environment,
    )


def _floor(program: Path, job: Job, _directory: Path) -> list[str]:
    return [str(program), str(urlsplit(job.url).port), str(job.streams), str(job.requests), str(job.tokens)]


def _read_floor(directory: Path) -> Iterator[Told]:
    *lines, _cpu_s = (directory / "output.txt").read_text(encoding="utf-8").splitlines()
    for index, line in enumerate(lines):
        yield _told(f"floor-{index}", [int(word) for word in line.split()])


def _read_ours(directory: Path) -> Iterator[Told]:
    for request_id, *stamps in json.loads((directory / "told.json").read_bytes()):
        yield _told(request_id, stamps)


def _told(key: str, stamps: list[int]) -> Told:
    sent, first, *_ = stamps
    gaps = tuple((later - earlier) / _NS_PER_MS for earlier, later in itertools.pairwise(stamps[1:]))
    return Told(key=key, ttft_ms=(first - sent) / _NS_PER_MS, gaps_ms=gaps)
