"""Prometheus text (`/metrics`) as series and values, and when the process behind it began.

Two writers have to be understood. `prometheus_client` (vLLM, LMCache) appends `_total` to counters itself; Mooncake's
own library writes every name exactly as it was declared (`mem_cache_hit_nums_`, `master_evicted_key_count`).
`prometheus_client.parser` renames a counter that lacks `_total` when it sees its `# TYPE` line, so it is only given
the sample lines: then it returns each name as written, and a broken line costs that line instead of the whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pytest_mooncake.border.values import finite

__all__ = ["MAX_SERIES", "Exposition", "exposition_of", "series_name", "split_series"]

MAX_SERIES = 5_000
MAX_LINE = 4_096
"""Series of these programs take a few hundred characters; every one that is kept goes into the journal."""

START_TIME = "process_start_time_seconds"
_CREATED = "_created"
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
DROPPED = ("_bucket", _CREATED, "_info")
"""Ends of names that are left out: histograms keep `_sum` and `_count` only, so that the journal stays small."""

_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """What one answer shows: `samples` by series, and the start of its process where that is told, seconds since 1970.

    Without `process_start_time_seconds` (several processes write together) it is when vLLM's first counter was made.
    """

    samples: Mapping[str, float]
    started_s: float | None


def exposition_of(text: str) -> Exposition:
    r"""Read the series of interest in Prometheus text, named as written, labels sorted.

    Lines that cannot be parsed are skipped, and so are values that cannot be counted with (NaN: a gauge never set;
    infinities, and more than a counter of 64 bits can show).

    Raises:
        ValueError: nothing of interest is in the text (a web page, another service's metrics), or too much is.

    >>> exposition_of('# TYPE mem_cache_hit_nums_ counter\nmem_cache_hit_nums_ 1920\n').samples
    {'mem_cache_hit_nums_': 1920.0}
    """
    samples: dict[str, float] = {}
    created: list[float] = []
    for name, labels, value in _sample_lines(text):
        if name.startswith("vllm:") and name.endswith(_CREATED):
            created.append(value)
        if not name.endswith(DROPPED):
            samples[series_name(name, labels)] = value
        if len(samples) > MAX_SERIES:
            raise ValueError(f"more than {MAX_SERIES} series of interest")
    if not samples:
        raise ValueError("no vLLM, LMCache or Mooncake series in the answer; is this a /metrics address of the stack?")
    return Exposition(samples=samples, started_s=samples.get(START_TIME, min(created, default=None)))


def _sample_lines(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.split("\n"):  # not splitlines: labels may hold other line breaks
        parsed = _parse_line(line) if line.startswith(PREFIXES) else None
        if parsed is not None:
            yield parsed


def _parse_line(line: str) -> tuple[str, dict[str, str], float] | None:
    from prometheus_client.parser import text_string_to_metric_families

    if len(line) > MAX_LINE:
        return None
    try:
        sample = next(iter(text_string_to_metric_families(line))).samples[0]
    except (ValueError, LookupError, StopIteration):
        return None
    value = finite(float(sample.value))
    return None if value is None else (sample.name, sample.labels, value)


def series_name(name: str, labels: Mapping[str, str]) -> str:
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


@lru_cache(maxsize=16_384)
def split_series(series: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Split a key of `Scrape.samples` into name and labels (values stay escaped).

    >>> split_series('vllm:prompt_tokens_by_source_total{engine="0",source="local_compute"}')
    ('vllm:prompt_tokens_by_source_total', (('engine', '0'), ('source', 'local_compute')))
    """
    name, _, labels = series.partition("{")
    return name, tuple(_LABEL.findall(labels))
