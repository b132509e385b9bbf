"""Canonical names of everything counted, and what each version of vLLM, LMCache and Mooncake calls it.

A quantity has *alternatives*, newest first; the first one of which any series is there is read. An alternative is a
sum of signed terms, because Mooncake counts single and batched calls apart and failures within the totals.
Source: vLLM 0.32.0 `v1/metrics/loggers.py`, LMCache 0.5.6 `observability.py`, Mooncake 0.3.13
`master_metric_manager.cpp`; older names from vLLM 0.8.5 to 0.21.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["TABLE", "Place", "Quantity", "Term"]


class Place(StrEnum):
    """Which sources carry a quantity: every engine (summed), or the one master."""

    ENGINE = "engine"
    MASTER = "master"


@dataclass(frozen=True, slots=True)
class Term:
    """A series of an alternative: all samples of `name` whose labels include `labels`, added with `sign`."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    sign: int = 1


@dataclass(frozen=True, slots=True)
class Quantity:
    """One thing counted. `gauge` values are read as they stand, counters as differences."""

    name: str
    place: Place
    alternatives: tuple[tuple[Term, ...], ...]
    gauge: bool = False


def _by_source(source: str) -> tuple[Term, ...]:
    return (Term("vllm:prompt_tokens_by_source_total", (("source", source),)),)


def _engine(name: str, *alternatives: str | tuple[Term, ...], gauge: bool = False) -> Quantity:
    return _quantity(name, Place.ENGINE, alternatives, gauge)


def _master(name: str, *alternatives: str | tuple[Term, ...], gauge: bool = False) -> Quantity:
    return _quantity(name, Place.MASTER, alternatives, gauge)


def _quantity(name: str, place: Place, alternatives: tuple[str | tuple[Term, ...], ...], gauge: bool) -> Quantity:
    return Quantity(name, place, tuple((Term(a),) if isinstance(a, str) else a for a in alternatives), gauge)


def _calls(single: str, batch: str | None = None) -> tuple[Term, ...]:
    """Single-key calls plus the items of batched ones, failures included."""
    terms = (Term(f"master_{single}_requests_total"),)
    return terms if batch is None else (*terms, Term(f"master_{batch}_items_total"))


def _failures(single: str, batch: str, sign: int = 1) -> tuple[Term, ...]:
    return (
        Term(f"master_{single}_failures_total", sign=sign),
        Term(f"master_{batch}_failed_items_total", sign=sign),
    )


_ENGINE_COUNTERS = (
    _engine("external_hit_tokens", _by_source("external_kv_transfer"), "vllm:external_prefix_cache_hits_total"),
    _engine("external_promised_tokens", "vllm:external_prefix_cache_hits_total"),
    _engine("external_query_tokens", "vllm:external_prefix_cache_queries_total"),
    _engine(
        "local_hit_tokens",
        _by_source("local_cache_hit"),
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
    ),
    _engine("computed_tokens", _by_source("local_compute"), "vllm:request_prefill_kv_computed_tokens_sum"),
    _engine("cached_tokens", "vllm:prompt_tokens_cached_total"),
    _engine("prompt_tokens", "vllm:prompt_tokens_total"),
    _engine("generation_tokens", "vllm:generation_tokens_total"),
    _engine("preemptions", "vllm:num_preemptions_total"),
    _engine("requests_succeeded", "vllm:request_success_total"),
    _engine("prefill_seconds_sum", "vllm:request_prefill_time_seconds_sum"),
    _engine("prefill_seconds_count", "vllm:request_prefill_time_seconds_count"),
    _engine("queue_seconds_sum", "vllm:request_queue_time_seconds_sum"),
    _engine("queue_seconds_count", "vllm:request_queue_time_seconds_count"),
    _engine("ttft_seconds_sum", "vllm:time_to_first_token_seconds_sum"),
    _engine("ttft_seconds_count", "vllm:time_to_first_token_seconds_count"),
    _engine("latency_seconds_sum", "vllm:e2e_request_latency_seconds_sum"),
    _engine("lmcache_remote_read_bytes", "lmcache:num_remote_read_bytes_total"),
    _engine("lmcache_remote_write_bytes", "lmcache:num_remote_write_bytes_total"),
    _engine("lmcache_requested_tokens", "lmcache:num_requested_tokens_total"),
    _engine("lmcache_hit_tokens", "lmcache:num_hit_tokens_total"),
    _engine("lmcache_stored_tokens", "lmcache:num_stored_tokens_total"),
    _engine("lmcache_mp_stores_submitted", "lmcache_mp_num_submitted_stores_total", "lmcache_mp_num_submitted_stores"),
    _engine("lmcache_mp_stores_finished", "lmcache_mp_num_finished_stores_total", "lmcache_mp_num_finished_stores"),
    _engine(
        "connector_put_keys",
        (Term("vllm:mooncake_store_operation_keys_total", (("operation", "save_put"),)),),
    ),
    _engine(
        "connector_get_keys",
        (Term("vllm:mooncake_store_operation_keys_total", (("operation", "load_get"),)),),
    ),
    _engine("connector_failed_keys", "vllm:mooncake_store_operation_failed_keys_total"),
)

_ENGINE_GAUGES = (
    _engine("requests_running", "vllm:num_requests_running", gauge=True),
    _engine("requests_waiting", "vllm:num_requests_waiting", gauge=True),
    _engine("kv_cache_usage", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", gauge=True),
    _engine("lmcache_local_cpu_hot_cache_count", "lmcache:local_cpu_hot_cache_count", gauge=True),
    _engine("lmcache_remote_put_tasks", "lmcache:remote_put_task_num", gauge=True),
    _engine("lmcache_put_failed", "lmcache:put_failed_count", gauge=True),
    _engine("lmcache_get_failed", "lmcache:get_blocking_failed_count", gauge=True),
    _engine("lmcache_healthy", "lmcache:lmcache_is_healthy", gauge=True),
)

_MASTER_COUNTERS = (
    _master("store_hit_keys", "mem_cache_hit_nums_"),
    _master("store_hit_bytes", "mem_cache_hit_bytes_total"),
    _master("store_file_hit_keys", "file_cache_hit_nums_"),
    _master("store_file_hit_bytes", "file_cache_hit_bytes_total"),
    _master("gets_found", "valid_get_nums_"),
    _master("gets_asked", "total_get_nums_"),
    _master("put_items_started", _calls("put_start", "batch_put_start")),
    _master("put_items_failed", _failures("put_start", "batch_put_start")),
    _master("put_items_ended", (*_calls("put_end", "batch_put_end"), *_failures("put_end", "batch_put_end", sign=-1))),
    _master(
        "put_items_revoked",
        (*_calls("put_revoke", "batch_put_revoke"), *_failures("put_revoke", "batch_put_revoke", sign=-1)),
    ),
    _master("put_items_discarded", "master_put_start_discard_cnt"),
    _master("put_alloc_failures", "master_put_start_alloc_failures_total"),
    _master("evicted_keys", "master_evicted_key_count"),
    _master("evicted_bytes", "master_evicted_size_bytes"),
    _master("remove_requests", _calls("remove")),
    _master("remove_all_requests", _calls("remove_all")),
    _master("remove_by_regex_requests", _calls("remove_by_regex")),
    _master("mount_requests", _calls("mount_segment")),
    _master("unmount_requests", _calls("unmount_segment")),
    _master("remount_requests", _calls("remount_segment")),
    _master("ping_failures", "master_ping_failures_total"),
)

_MASTER_GAUGES = (
    _master("keys", "master_key_count", gauge=True),
    _master("stored_bytes", "master_allocated_bytes", gauge=True),
    _master("capacity_bytes", "master_total_capacity_bytes", gauge=True),
    _master("active_clients", "master_active_clients", gauge=True),
)

TABLE: dict[str, Quantity] = {
    quantity.name: quantity for quantity in (*_ENGINE_COUNTERS, *_ENGINE_GAUGES, *_MASTER_COUNTERS, *_MASTER_GAUGES)
}
