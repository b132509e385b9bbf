"""Read the Prometheus counters of engines, master and storage nodes: one `Scrape` per source, never an exception.

A source that fails is asked once more after a pause: a gateway is busy for a moment, a probe limit passes. Of a stack
that was not started here nobody knows how many processes stand behind an address, so every look takes a connection of
its own, and where another process seems to answer than before, some more looks tell whether both are there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.evidence.counters.exposition import MAX_SERIES, exposition_of, series_name
from pytest_mooncake.analysis.evidence.counters.processes import Change, change_of, processes_seen
from pytest_mooncake.analysis.evidence.counters.sources import MASTER, TIMED_OUT
from pytest_mooncake.border.http import NoReply, send
from pytest_mooncake.records import Scrape, StackView

if TYPE_CHECKING:
    import aiohttp

__all__ = [
    "MAX_SERIES",
    "Reader",
    "Source",
    "scrape",
    "series_name",
    "sources_of",
]

TIMEOUT_S = 5.0
PAUSE_S = 0.5
"""Before a source that failed is asked once more."""
LOOKS = 6
"""How often a source is looked at again where another process seems to answer than before."""
LONGEST_S = 60.0
MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place to scrape. `name` is as in `Scrape.source`, `url` the full address of its metrics.

    `address` is the one to connect to where the host name stands for several.
    """

    name: str
    url: str
    address: str | None = None


def sources_of(view: StackView) -> tuple[Source, ...]:
    """List where the counters of a stack are: engines with a metrics URL, the master, its storage nodes.

    A URL without a path gets `/metrics`; one with a path is taken as it stands. A place that several engines name is
    read once.
    """
    engines: dict[str, Source] = {}
    for i, engine in enumerate(view.engines):
        for k, url in enumerate(engine.metrics_urls or filter(None, (engine.metrics_url,))):
            engines.setdefault(url, _source(f"engine:{i}.{k}" if k else f"engine:{i}", url))
    if view.store is None:
        return tuple(engines.values())
    nodes = (_source(f"node:{i}", url) for i, url in enumerate(view.store.node_urls))
    return (*engines.values(), _source(MASTER, view.store.master_url), *nodes)


def _source(name: str, text: str) -> Source:
    url, _, address = text.partition("#")
    _, _, rest = url.partition("://")
    has_path = "/" in rest.rstrip("/")
    return Source(name=name, url=url if has_path else url.rstrip("/") + "/metrics", address=address or None)


class Reader:
    """Reads the same sources again and again, and remembers which processes answered. Call it to read all of them.

    Args:
        session: client session; its default headers are sent, so it must not carry credentials of another host. Only
            one that keeps no connections sees all the processes behind an address.
        sources: what to read.
        identified: every source is one process, for it was started here.
        clock: monotonic nanoseconds, of the process that measures.
        timeout_s: limit for each look at a source, seconds.
        pause: waits before a source that failed is asked once more.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        sources: tuple[Source, ...],
        *,
        identified: bool,
        clock: Callable[[], int] = time.perf_counter_ns,
        timeout_s: float = TIMEOUT_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._sources = sources
        self._identified = identified
        self._clock = clock
        self._timeout_s = timeout_s
        self._pause = pause
        self._last: dict[str, Scrape] = {}
        self._begun: dict[str, set[float | None]] = {}
        self._failing: set[str] = set()
        self._shared: dict[str, int] = {}

    async def __call__(self) -> tuple[Scrape, ...]:
        """Read all sources at once, in their order. Bounded in time and size; a failure is `Scrape.error`."""
        return tuple(await asyncio.gather(*(self._read(source) for source in self._sources)))

    async def _read(self, source: Source) -> Scrape:
        if source.name not in self._shared:
            seen = await self._patient_look(source)
            if self._identified or seen.error is not None:
                return seen
            seen = await self._compared(source, seen)
            if source.name not in self._shared:
                self._last[source.name] = seen
                self._begun.setdefault(source.name, set()).add(seen.started_s)
                return seen
        return self._several(source)

    async def _patient_look(self, source: Source) -> Scrape:
        """Look, and once more where that fails; a source that goes on failing is asked only once a time."""
        seen = await self._look(source)
        if seen.error is not None and source.name not in self._failing:
            await self._pause(PAUSE_S)
            seen = await self._look(source)
        (self._failing.discard if seen.error is None else self._failing.add)(source.name)
        return seen

    async def _compared(self, source: Source, seen: Scrape) -> Scrape:
        """Look again where this is not the process that answered before: do both answer, or has one followed it?"""
        known = self._last.get(source.name)
        if known is None or change_of(known, seen) is Change.NONE:
            return seen
        looks = [seen, *[await self._look(source) for _ in range(LOOKS)]]
        processes = processes_seen(*([look] for look in looks))
        if seen.started_s != known.started_s and seen.started_s in self._begun[source.name]:
            processes = max(processes, 2)  # the one before came back
        if processes > 1:
            self._shared[source.name] = processes
        return next(look for look in reversed(looks) if look.error is None)

    def _several(self, source: Source) -> Scrape:
        processes = self._shared[source.name]
        error = f"{processes} processes answer at {source.url} in turn: name each one's metrics with --mooncake-metrics"
        return Scrape(source=source.name, at_ns=self._clock(), samples={}, error=error, processes=processes)

    async def _look(self, source: Source) -> Scrape:
        import aiohttp

        try:
            async with asyncio.timeout(self._timeout_s):
                text, date = await _fetch(self._session, source)
            found = exposition_of(text)
        except TimeoutError:
            return self._failed(source, f"{TIMED_OUT} {self._timeout_s:g} s from {source.url}")
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            return self._failed(source, f"{source.url}: {_one_line(problem)}")
        return Scrape(
            source=source.name,
            at_ns=self._clock(),
            samples=found.samples,
            started_s=found.started_s,
            at_s=max(time.time(), _seconds_of(date)),
        )

    def _failed(self, source: Source, error: str) -> Scrape:
        return Scrape(source=source.name, at_ns=self._clock(), samples={}, error=error)


async def scrape(
    session: aiohttp.ClientSession,
    sources: tuple[Source, ...],
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    timeout_s: float = TIMEOUT_S,
) -> tuple[Scrape, ...]:
    """Read all sources once, as `Reader` does."""
    return await Reader(session, sources, identified=True, clock=clock, timeout_s=timeout_s)()


async def _fetch(session: aiohttp.ClientSession, source: Source) -> tuple[str, str | None]:
    """Return the body, at most `MAX_BYTES`, and when the server says it was sent.

    Raises:
        ValueError: the answer is not a 200, too large or cut off, or there is none.
        TimeoutError: it came to no end; whoever waits less has a limit of its own.
    """
    from pytest_mooncake.border.pinning import at_address

    try:
        with at_address(source.address):
            reply = await send(session, "GET", source.url, timeout_s=LONGEST_S, most_bytes=MAX_BYTES)
    except NoReply as problem:
        if problem.timed_out:
            raise TimeoutError from None
        raise ValueError(f"it {problem.why}") from None
    if reply.status != 200:
        raise ValueError(f"HTTP {reply.status} instead of metrics")
    framed = {"content-length", "transfer-encoding"} & set(reply.headers)
    if reply.text and not framed and not reply.text.endswith("\n"):
        raise ValueError("the answer breaks off in the middle of a line")
    return reply.text, reply.headers.get("date")


def _seconds_of(date: str | None) -> float:
    """Return the server's own time of an answer, so that process start times are held against the same clock."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else 0.0
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _one_line(problem: Exception) -> str:
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text[:200]
