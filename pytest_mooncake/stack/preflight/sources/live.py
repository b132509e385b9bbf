"""What a live endpoint's `/metrics` shows: whose they are, what they say, and what of it is a setting."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pytest_mooncake.analysis.evidence.counters.deltas import read
from pytest_mooncake.analysis.evidence.counters.exposition import split_series
from pytest_mooncake.border.values import finite, printable
from pytest_mooncake.records import Scrape
from pytest_mooncake.stack.preflight.configuration import Connector, EngineConfig, Fact, Part

__all__ = ["Seen", "Shown", "config_from_metrics", "shown_by"]


class Seen(StrEnum):
    """Whose metrics they are."""

    VLLM = "vLLM"
    ROUTER = "a router in front of engines"
    SGLANG = "SGLang"
    MP_SERVER = "LMCache's MP server"
    MASTER = "a Mooncake master"
    UNKNOWN = "nothing that is known here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What was recognised in an answer, and lines that say so."""

    seen: Seen
    lines: tuple[str, ...]
    keys: int | None = None
    """Keys that a master holds."""


_PREFIXES: tuple[str, ...] = (
    "vllm:",
    "ray_vllm_",
    "lmcache",
    "sglang:",
    "master_",
    "mem_cache_",
    "file_cache_",
    "valid_get_",
)
_PREFIXES += ("total_get_", "segment_")
_LINE = re.compile(r"([A-Za-z_:][\w:]*(?:\{.*\})?)\s+(\S+)")
_MOST_SERIES = 100_000
Samples = Mapping[str, float]
Row = tuple[str, str]


def samples_of(text: str) -> dict[str, float]:
    r"""Return series with their values; what is no number, or of nobody known, is left out.

    >>> samples_of('vllm:a{b="c"} 1.0 1700\nvllm:nan NaN\ngo_threads 3\n')
    {'vllm:a{b="c"}': 1.0}
    """
    found: dict[str, float] = {}
    for line in text.split("\n"):
        match = _LINE.match(line) if line.startswith(_PREFIXES) else None
        if match is None or len(line) > 2**14 or len(found) >= _MOST_SERIES:
            continue
        try:
            value = finite(float(match[2]))
        except ValueError:
            continue
        if value is not None:
            found[match[1].replace("ray_vllm_", "vllm:", 1)] = value
    return found


def _named(samples: Samples, name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (dict(labels), value)
        for series, value in samples.items()
        if series.startswith(name)
        for found, labels in (split_series(series),)
        if found == name
    ]


def seen_in(samples: Samples) -> Seen:
    """Tell whose series they are: an engine shows its own request counter (or token counter) with its model."""
    if "master_key_count" in samples:
        return Seen.MASTER
    if any(series.startswith("sglang:") for series in samples):
        return Seen.SGLANG
    own = ("vllm:request_success_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    if any("model_name" in labels for name in own for labels, _ in _named(samples, name)):
        return Seen.VLLM
    if any(series.startswith("vllm:") for series in samples):
        return Seen.VLLM if "vllm:cache_config_info" in {split_series(s)[0] for s in samples} else Seen.ROUTER
    return Seen.MP_SERVER if any(s.startswith("lmcache_mp_") for s in samples) else Seen.UNKNOWN


def shown_by(where: str, text: str, version: str | None = None) -> Shown:
    """Say what an answer shows.

    Args:
        where: the address, for the first line.
        text: the answer.
        version: what the server says of its version.
    """
    samples = samples_of(text)
    seen = seen_in(samples)
    rows = {
        Seen.VLLM: _of_vllm,
        Seen.ROUTER: _of_router,
        Seen.SGLANG: _of_sglang,
        Seen.MP_SERVER: _of_mp_server,
        Seen.MASTER: _of_master,
        Seen.UNKNOWN: _of_nobody,
    }[seen](samples)
    # a router and SGLang answer /version as they like: what they say is not vLLM's
    number = f" {printable(version)}" if version and seen is Seen.VLLM else ""
    ray = " (series of Ray: ray_vllm_…)" if re.search(r"^ray_vllm_", text, re.MULTILINE) else ""
    lines = [f"{printable(where)}: {seen}{number}{ray}", *(f"    {name}: {value}" for name, value in rows)]
    keys = samples.get("master_key_count") if seen is Seen.MASTER else None
    return Shown(seen=seen, lines=tuple(lines), keys=None if keys is None else int(keys))


def plain(value: float | None) -> str:
    """Return a number as people read it.

    >>> plain(4000.0), plain(10000.0), plain(0.5), plain(None)
    ('4000', '10,000', '0.5', 'unknown (not shown)')
    """
    if value is None:
        return "unknown (not shown)"
    if value != math.floor(value):
        return f"{value:g}"
    return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))


_ENGINE = (
    ("prompt tokens", "prompt_tokens"),
    ("tokens from outside (external)", "external_hit_tokens"),
    ("tokens from its own prefix cache", "local_hit_tokens"),
    ("tokens computed", "computed_tokens"),
    ("requests ended", "requests_succeeded"),
    ("requests running", "requests_running"),
    ("requests waiting", "requests_waiting"),
)


def _of_vllm(samples: Samples) -> Iterator[Row]:
    scrape = (Scrape(source="engine:0", at_ns=0, samples=samples),)
    engines = sorted({labels["engine"] for s in samples if "engine" in (labels := dict(split_series(s)[1]))})
    if len(engines) > 1:
        yield "engines behind this address (data parallel)", f"{len(engines)}, added up"
    for title, name in _ENGINE:
        yield title, plain(read(scrape, name))
    usage = _named(samples, "vllm:kv_cache_usage_perc") or _named(samples, "vllm:gpu_cache_usage_perc")
    if usage:
        each = (f"{value:g}" + (f" (engine {n})" if (n := labels.get("engine")) else "") for labels, value in usage)
        yield (
            "KV cache usage",
            "/".join(f"{value:g}" for _, value in usage) + " of each engine, no sum: " + ", ".join(each),
        )
    yield from _per_rank(samples)


def _per_rank(samples: Samples) -> Iterator[Row]:
    """LMCache's counters are kept by each rank, which all see the same tokens."""
    for title, name in (
        ("hit", "num_hit_tokens"),
        ("requested", "num_requested_tokens"),
        ("stored", "num_stored_tokens"),
    ):
        values = [value for _, value in _named(samples, f"lmcache:{name}_total")]
        if len(values) > 1 and len(set(values)) == 1:
            total = f"{plain(sum(values))} = {len(values)} × {plain(values[0])}"
            yield f"LMCache's {title} tokens", f"{plain(values[0])} on each of {len(values)} ranks ({total})"
        elif values:
            yield f"LMCache's {title} tokens", " + ".join(plain(value) for value in values) + " (one for each rank)"


def _of_router(_: Samples) -> Iterator[Row]:
    yield "not taken for an engine", "its vllm: series are gauges of its own, refreshed now and then, without a model"
    yield "evidence", "give the engines behind it, or their /metrics with --mooncake-metrics"


def _of_sglang(samples: Samples) -> Iterator[Row]:
    for title, name in (("prompt tokens", "prompt_tokens"), ("requests running", "num_running_reqs")):
        values = [v for s in (f"sglang:{name}", f"sglang:{name}_total") for _, v in _named(samples, s)]
        yield title, plain(sum(values) if values else None)
    for labels, value in _named(samples, "sglang:cached_tokens_total"):
        source = printable(labels.get("cache_source", "all sources"))
        yield f"cached tokens ({source})", plain(value)
    yield "evidence", "ends at cached_tokens: the lints for vLLM and LMCache do not apply to it"


def _of_mp_server(samples: Samples) -> Iterator[Row]:
    for title, name in (
        ("tokens looked up", "lookup_requested_tokens_total"),
        ("tokens hit in L1", "lookup_hit_l1_tokens_total"),
        ("tokens hit in L2", "lookup_hit_l2_tokens_total"),
    ):
        values = [value for _, value in _named(samples, f"lmcache_mp_{name}")]
        yield title, plain(sum(values) if values else None)


def _of_nobody(_: Samples) -> Iterator[Row]:
    yield "no series", "of vLLM, SGLang, LMCache or Mooncake: is this the metrics address of one of them?"


_BATCHED = "unknown (batched items are not shown by this master)"
_OLD = "unknown: not counted by masters before 0.3.12"


def _of_master(samples: Samples) -> Iterator[Row]:
    yield "keys held", plain(samples.get("master_key_count"))
    for title, stem in (("put items started", "put_start"), ("put items ended", "put_end")):
        parts = [
            samples.get(f"master_{stem}_requests_total"),
            samples.get(f"master_batch_{stem}_items_total"),
        ]
        known = [part for part in parts if part is not None]
        yield title, plain(sum(known)) if len(known) == len(parts) else _BATCHED
    for title, name in (("keys hit", "mem_cache_hit_nums_"), ("bytes hit", "mem_cache_hit_bytes_total")):
        value = samples.get(name)
        yield title, _OLD if value is None else plain(value)
    for title, name in (("gets that found their key", "valid_get_nums_"), ("gets", "total_get_nums_")):
        if name in samples:
            yield title, plain(samples[name])
    for title, name in (
        ("bytes stored", "master_allocated_bytes"),
        ("bytes of all segments", "master_total_capacity_bytes"),
        ("clients", "master_active_clients"),
    ):
        yield title, plain(samples.get(name))
    if "mem_cache_hit_nums_" not in samples:
        yield "evidence", "the store rung is out of reach: this master is older than 0.3.12"


def config_from_metrics(
    name: str, text: str, *, where: str = "/metrics", lmcache: Mapping[str, Fact] | None = None
) -> EngineConfig:
    """What an engine's `/metrics` tell of its configuration; everything else stays unknown.

    `lmcache:` series mean that LMCache runs in the engine, which vLLM has under one name only.
    """
    samples = samples_of(text)
    seen = seen_in(samples)
    args: dict[str, Fact] = {}
    for labels, _ in _named(samples, "vllm:cache_config_info"):
        if labels.get("enable_prefix_caching") in {"True", "False"}:
            args["enable-prefix-caching"] = Fact(labels["enable_prefix_caching"].lower(), where)
        if labels.get("block_size", "").isdigit():
            args["block-size"] = Fact(labels["block_size"], where)
    connectors: tuple[Connector, ...] = ()
    if any(series.startswith("lmcache:") for series in samples):
        settings = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
        connectors = (Connector(settings=settings, where=where),)
    unknown = {Part.ARGS, Part.ENV, Part.STORE} | ({Part.LMCACHE} if lmcache is None else set())
    extra = (lmcache or {}).get("extra_config")
    inside = extra.value if extra is not None else None
    return EngineConfig(
        name=name,
        program="vllm" if seen in {Seen.VLLM, Seen.UNKNOWN} else "sglang" if seen is Seen.SGLANG else "router",
        args=args if seen is not Seen.ROUTER else {},
        lmcache=lmcache or {},
        extra={key: Fact(value, where) for key, value in inside.items()} if isinstance(inside, dict) else {},
        connectors=connectors,
        transfer=connectors[0] if connectors else None,
        unknown=frozenset(unknown),
    )
