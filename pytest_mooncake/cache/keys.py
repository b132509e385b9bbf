"""Whose keys lie in the store: listing them without touching them, and telling ours from everybody else's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.border.http import NoReply, each_line, redacted
from pytest_mooncake.errors import EndpointError, UsageError
from pytest_mooncake.records import Store

if TYPE_CHECKING:
    import aiohttp

__all__ = ["KeyCensus", "count_keys", "is_tagged", "own_pattern", "run_tag"]

TIMEOUT_S = 30.0
MAX_BYTES = 512 * 2**20
"""Five million keys of 100 characters; they are counted as they arrive and not held."""
SAMPLE = 5
TAG = "run"
PART = "part"

IsOwn = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCensus:
    """How many keys of the store are ours, and whose the others are: some of their names, for people to recognise."""

    own: int
    foreign: int
    foreign_sample: tuple[str, ...]


def run_tag(run_id: str, part: str | None = None) -> dict[str, str]:
    """Return the request's `kv_transfer_params` that write the run's id into every key of LMCache.

    Args:
        run_id: the run.
        part: a part of it whose keys are to be told from the others' (a cold round and the warm one that repeats it).

    Raises:
        UsageError: a name that cannot stand in a key.

    >>> run_tag("20261124-a1", "c0")
    {'lmcache.tag.run': '20261124-a1', 'lmcache.tag.part': 'c0'}
    """
    for name in (run_id, part):
        if name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            raise UsageError(f"{name!r} cannot tag keys: letters, digits, '.', '_' and '-' only, 64 at most")
    tags = {f"lmcache.tag.{TAG}": run_id}
    return tags if part is None else tags | {f"lmcache.tag.{PART}": part}


def own_pattern(run_id: str, part: str | None = None) -> str:
    r"""Return the regular expression (ECMAScript and Python) of the keys that a run, or a part of it, tagged.

    Tags stand in a key in the order in which the request names them; further ones may follow.

    >>> own_pattern("a.1"), own_pattern("a.1", "c0")
    ('@run%a\\.1(@|$)', '@run%a\\.1@part%c0(@|$)')
    """
    tags = run_tag(run_id, part)
    said = "".join(f"@{name.removeprefix('lmcache.tag.')}%{value}" for name, value in tags.items())
    return said.replace(".", chr(92) + ".") + "(@|$)"


def is_tagged(run_id: str, part: str | None = None) -> IsOwn:
    """Return the question whether a key was tagged by this run, or by a part of it.

    >>> is_tagged("7")("m@1@0@ff@bfloat16@run%7"), is_tagged("7")("m@1@0@ff@bfloat16@run%77")
    (True, False)
    """
    pattern = re.compile(own_pattern(run_id, part))
    return lambda key: pattern.search(key) is not None


async def count_keys(session: aiohttp.ClientSession, store: Store, is_own: IsOwn = lambda _: False) -> KeyCensus:
    """Count own and foreign keys while they are listed: a store of millions of keys costs no memory.

    Raises:
        EndpointError: the master does not list its keys.
    """
    own, foreign = 0, 0
    sample: list[str] = []

    def count(key: str) -> None:
        nonlocal own, foreign
        if is_own(key):
            own += 1
            return
        foreign += 1
        if len(sample) < SAMPLE:
            sample.append(redacted(session, key))

    await _each_key(session, store, count)
    return KeyCensus(own=own, foreign=foreign, foreign_sample=tuple(sample))


async def _each_key(session: aiohttp.ClientSession, store: Store, take: Callable[[str], None]) -> None:
    url = store.master_url.rstrip("/") + "/get_all_keys"

    def take_line(line: str) -> None:
        if line:
            take(line)

    try:
        status = await each_line(session, url, take_line, timeout_s=TIMEOUT_S, most_bytes=MAX_BYTES)
    except NoReply as problem:
        raise EndpointError(f"{problem}; without a list of keys nothing is cleared") from None
    if status != 200:
        raise EndpointError(f"{url}: HTTP {status}; without a list of keys nothing is cleared")
