"""Read the Prometheus counters of engines, master and storage nodes: one `Scrape` per source, never an exception.

Two writers have to be understood. `prometheus_client` (vLLM, LMCache) appends `_total` to counters itself; Mooncake's
own library writes every name exactly as it was declared (`mem_cache_hit_nums_`, `master_evicted_key_count`).
`prometheus_client.parser` renames a counter that lacks `_total` when it sees its `# TYPE` line, so it is only given
the sample lines: then it returns each name as written, and a broken line costs that line instead of the whole answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.border.http import NoReply, send
from pytest_mooncake.border.values import finite
from pytest_mooncake.records import Scrape, StackView

if TYPE_CHECKING:
    import aiohttp

__all__ = ["MASTER", "TIMED_OUT", "Source", "parse_samples", "scrape", "sources_of"]

TIMEOUT_S = 5.0
LONGEST_S = 60.0
MAX_BYTES = 16 * 2**20
MAX_SERIES = 5_000
MAX_LINE = 4_096
"""Series of these programs take a few hundred characters; every one that is kept goes into the journal."""

MASTER = "master"
TIMED_OUT = "no answer within"
"""How the error of a scrape starts whose source was too slow: slow is not dead, evidence tells the two apart."""

START_TIME = "process_start_time_seconds"
PREFIXES = (
    "vllm:",
    "lmcache:",
    "lmcache_mp",
    "master_",
    "mem_cache_",
    "file_cache_",
    "valid_get_nums_",
    "total_get_nums_",
    "segment_",
    "mooncake_",
    START_TIME,
)
DROPPED = ("_bucket", "_created", "_info")
"""Ends of names that are left out: histograms keep `_sum` and `_count` only, so that the journal stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place to scrape. `name` is `engine:<i>`, `master` or `node:<i>`; `url` the full address of its metrics."""

    name: str
    url: str


def sources_of(view: StackView) -> tuple[Source, ...]:
    """List where the counters of a stack are: engines with a metrics URL, the master, its storage nodes.

    A URL without a path gets `/metrics`; one with a path is taken as it stands.
    """
    engines = tuple(
        Source(name=f"engine:{i}", url=_metrics(engine.metrics_url))
        for i, engine in enumerate(view.engines)
        if engine.metrics_url
    )
    if view.store is None:
        return engines
    nodes = tuple(Source(name=f"node:{i}", url=_metrics(url)) for i, url in enumerate(view.store.node_urls))
    return (*engines, Source(name=MASTER, url=_metrics(view.store.master_url)), *nodes)


def _metrics(url: str) -> str:
    _, _, rest = url.partition("://")
    has_path = "/" in rest.rstrip("/")
    return url if has_path else url.rstrip("/") + "/metrics"


async def scrape(
    session: aiohttp.ClientSession,
    sources: tuple[Source, ...],
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    timeout_s: float = TIMEOUT_S,
) -> tuple[Scrape, ...]:
    """Read all sources at once, in their order. Bounded in time (`timeout_s`) and size; a failure is `Scrape.error`.

    Args:
        session: client session; its default headers are sent, so it must not carry credentials of another host.
        sources: what to read.
        clock: monotonic nanoseconds, of the process that measures.
        timeout_s: limit for each source, seconds.
    """
    return tuple(await asyncio.gather(*(_scrape_one(session, source, clock, timeout_s) for source in sources)))


async def _scrape_one(
    session: aiohttp.ClientSession, source: Source, clock: Callable[[], int], timeout_s: float
) -> Scrape:
    import aiohttp

    try:
        async with asyncio.timeout(timeout_s):
            text = await _fetch(session, source.url)
        samples = parse_samples(text)
    except TimeoutError:
        return _failed(source, clock, f"{TIMED_OUT} {timeout_s:g} s from {source.url}")
    except (aiohttp.ClientError, OSError, ValueError) as problem:
        return _failed(source, clock, f"{source.url}: {_one_line(problem)}")
    return Scrape(source=source.name, at_ns=clock(), samples=samples, started_s=samples.get(START_TIME))


async def _fetch(session: aiohttp.ClientSession, url: str) -> str:
    """Return the body, at most `MAX_BYTES`.

    Raises:
        ValueError: the answer is not a 200 or too large, or there is none.
        TimeoutError: it came to no end; whoever waits less has a limit of its own.
    """
    try:
        reply = await send(session, "GET", url, timeout_s=LONGEST_S, most_bytes=MAX_BYTES)
    except NoReply as problem:
        if problem.timed_out:
            raise TimeoutError from None
        raise ValueError(f"it {problem.why}") from None
    if reply.status != 200:
        raise ValueError(f"HTTP {reply.status} instead of metrics")
    return reply.text


def _failed(source: Source, clock: Callable[[], int], error: str) -> Scrape:
    return Scrape(source=source.name, at_ns=clock(), samples={}, error=error)


def _one_line(problem: Exception) -> str:
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text[:200]


def parse_samples(text: str) -> dict[str, float]:
    r"""Return the series of interest in Prometheus text, named as written, labels sorted.

    Lines that cannot be parsed are skipped, and so are values that cannot be counted with (NaN: a gauge never set;
    infinities, and more than a counter of 64 bits can show).

    Raises:
        ValueError: nothing of interest is in the text (a web page, another service's metrics), or too much is.

    >>> parse_samples('# TYPE mem_cache_hit_nums_ counter\nmem_cache_hit_nums_ 1920\n')
    {'mem_cache_hit_nums_': 1920.0}
    """
    samples: dict[str, float] = {}
    for line in text.split("\n"):  # not splitlines: labels may hold other line breaks
        if not line.startswith(PREFIXES):
            continue
        parsed = _parse_line(line)
        if parsed is not None:
            samples[parsed[0]] = parsed[1]
        if len(samples) > MAX_SERIES:
            raise ValueError(f"more than {MAX_SERIES} series of interest")
    if not samples:
        raise ValueError("no vLLM, LMCache or Mooncake series in the answer; is this a /metrics address of the stack?")
    return samples


def _parse_line(line: str) -> tuple[str, float] | None:
    from prometheus_client.parser import text_string_to_metric_families

    if len(line) > MAX_LINE:
        return None
    try:
        sample = next(iter(text_string_to_metric_families(line))).samples[0]
    except (ValueError, LookupError, StopIteration):
        return None
    value = finite(float(sample.value))
    if value is None or sample.name.endswith(DROPPED):
        return None
    return series_name(sample.name, sample.labels), value


def series_name(name: str, labels: dict[str, str]) -> str:
    r"""Write a series the way `Scrape.samples` keys it.

    >>> series_name("m", {"b": "2", "a": 'x"y'})
    'm{a="x\\"y",b="2"}'
    """
    if not labels:
        return name
    inner = ",".join(f'{key}="{_escape(labels[key])}"' for key in sorted(labels))
    return f"{name}{{{inner}}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
