"""How many processes answer at an address of counters: looked at on fresh connections, one after another and together.

Connections are dealt out in turn, to whoever has the fewest, or at random: what looks one after another do not show,
looks taken together may.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_mooncake.analysis.evidence.counters.exposition import exposition_of
from pytest_mooncake.analysis.evidence.counters.processes import processes_seen, same_process
from pytest_mooncake.border.pinning import addresses_of, at_address
from pytest_mooncake.records import Scrape

if TYPE_CHECKING:
    from pytest_mooncake.stack.probe import Answer, Prober

__all__ = ["METRICS_BYTES", "Place", "asked", "looked_at", "one_of_each", "places_of", "shows_counters"]

BATCHES = (1, 1, 1, 4, 1)
"""How many looks are taken together, batch after batch."""
LIMIT_S = 10.0
METRICS_BYTES = 16 * 2**20
"""As much as is read whenever counters are scraped (`cache.scrape`)."""
PAUSE_S = 0.5
_PASSING = (408, 425, 429)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An address of counters, as `Engine.metrics_urls` has it, and how many processes were seen there."""

    url: str
    processes: int
    look: Scrape | None = field(default=None, repr=False)


def shows_counters(answer: Answer | None) -> bool:
    """Whether an answer shows counters of vLLM."""
    return answer is not None and answer.status == 200 and "vllm:" in answer.raw


async def places_of(url: str) -> tuple[str, ...]:
    """Return the places that the address of counters stands for: one for each address of its host name.

    A name that cannot be looked up is left as it is; whoever asks there is told.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        found = await addresses_of(host, parts.port or _PORTS[parts.scheme])
    except OSError:
        return (url,)
    return tuple(f"{url}#{address}" for address in found) if len(found) > 1 else (url,)


async def asked(prober: Prober, place: str, *, patiently: bool = True) -> Answer | None:
    """GET a place; None where nothing came back. What may pass in a moment is asked once more."""
    url, _, address = place.partition("#")
    with at_address(address or None):
        answer = await prober.try_get(url, most_bytes=METRICS_BYTES)
        if patiently and (answer is None or answer.status in _PASSING or answer.status >= 500):
            await asyncio.sleep(PAUSE_S)
            answer = await prober.try_get(url, most_bytes=METRICS_BYTES)
    return answer


async def looked_at(prober: Prober, place: str) -> Place:
    """Look at a place several times, at most for 10 s: how many processes answer there at least; 0: no counters."""
    if not shows_counters(await asked(prober, place)):
        return Place(url=place, processes=0)
    batches: list[tuple[Scrape | None, ...]] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            for together in BATCHES:
                batches.append(tuple(await asyncio.gather(*(_look(prober, place) for _ in range(together)))))
    except TimeoutError:
        pass  # what was seen by then counts
    others = any(look is None for batch in batches for look in batch)  # they answer, and have no counters
    looks = [[look for look in batch if look is not None] for batch in batches]
    answered = [look for batch in looks for look in batch if look.error is None]
    return Place(
        url=place,
        processes=max(1, processes_seen(*looks)) + others,
        look=answered[-1] if answered else None,
    )


async def _look(prober: Prober, place: str) -> Scrape | None:
    """Take one look, which may fail; None where something else than an engine answered."""
    answer = await asked(prober, place, patiently=False)
    if answer is None or answer.status in _PASSING or answer.status >= 500:
        return Scrape(source=place, at_ns=time.perf_counter_ns(), samples={}, error="no counters this time")
    if not shows_counters(answer):
        return None
    try:
        found = exposition_of(answer.raw)
    except ValueError as problem:
        return Scrape(source=place, at_ns=time.perf_counter_ns(), samples={}, error=str(problem))
    return Scrape(source=place, at_ns=time.perf_counter_ns(), samples=found.samples, started_s=found.started_s)


def one_of_each(places: tuple[Place, ...], earlier: tuple[Place, ...] = ()) -> tuple[tuple[Place, Place], ...]:
    """Return each of the places with the first place, `earlier` ones included, that shows the same process.

    Args:
        places: of one engine.
        earlier: of the engines before it.
    """
    known = [place for place in earlier if place.look]
    pairs = []
    for place in places:
        look = place.look
        twin = next((k for k in known if look and k.look and (k.url == place.url or same_process(k.look, look))), place)
        pairs.append((place, twin))
        known.append(place)
    return tuple(pairs)
