"""The store behind the simulated engines: keys, leases, capacity, eviction, and Mooncake's counters of all of it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pytest_mooncake.stack.simulated.faults import Faults

HIGH_WATERMARK_SHARE = 0.90
"""Share of the capacity above which a put evicts first (`--eviction_high_watermark_ratio`)."""
EVICTED_SHARE = 0.05
"""Share of the keys that one eviction takes away (`--eviction_ratio`)."""

# Spelt as the master exposes them (Mooncake 0.3.13): its library adds no suffix and drops none.
_BATCH_COUNTERS = tuple(
    f"master_{operation}_{counted}_total"
    for operation in (
        "batch_put_start",
        "batch_put_end",
        "batch_put_revoke",
        "batch_get_replica_list",
        "batch_exist_key",
    )
    for counted in ("requests", "failures", "partial_successes", "items", "failed_items")
)
COUNTERS = (
    "master_put_start_requests_total",
    "master_put_start_failures_total",
    "master_put_start_alloc_failures_total",
    "master_put_start_partial_allocations_total",
    "master_put_end_requests_total",
    "master_put_end_failures_total",
    "master_put_revoke_requests_total",
    "master_put_revoke_failures_total",
    *_BATCH_COUNTERS,
    "master_exist_key_requests_total",
    "master_exist_key_failures_total",
    "master_get_replica_list_requests_total",
    "master_get_replica_list_failures_total",
    "mem_cache_hit_nums_",
    "mem_cache_hit_bytes_total",
    "file_cache_hit_nums_",
    "file_cache_hit_bytes_total",
    "valid_get_nums_",
    "total_get_nums_",
    "master_attempted_evictions_total",
    "master_successful_evictions_total",
    "master_evicted_key_count",
    "master_evicted_size_bytes",
    "master_put_start_discard_cnt",
    "master_put_start_release_cnt",
    "master_remove_requests_total",
    "master_remove_all_requests_total",
    "master_remove_by_regex_requests_total",
    "master_mount_segment_requests_total",
    "master_unmount_segment_requests_total",
    "master_remount_segment_requests_total",
    "master_ping_failures_total",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreShape:
    """Size of the store: `nodes` segments of `segment_bytes`, objects of `object_bytes`, leases of `lease_ttl_s`."""

    nodes: int
    segment_bytes: int
    object_bytes: int
    lease_ttl_s: float

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all segments together."""
        return self.nodes * self.segment_bytes


class SimulatedStore:
    """Keys of finished puts, least recently used first, and the counters a Mooncake master would show.

    Args:
        shape: sizes and lease.
        faults: `cold_hits`, `drop_stores` and `stuck_stores` act here.
        clock: seconds, monotonic.
    """

    def __init__(self, shape: StoreShape, faults: Faults, clock: Callable[[], float]) -> None:
        self.shape = shape
        self.counters: Counter[str] = Counter()
        self.counters["master_mount_segment_requests_total"] = shape.nodes
        self._faults = faults
        self._clock = clock
        self._keys: OrderedDict[str, float] = OrderedDict()
        self._pending: set[str] = set()

    @property
    def keys(self) -> tuple[str, ...]:
        """All readable keys."""
        return tuple(self._keys)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of readable objects and of puts under way."""
        return (len(self._keys) + len(self._pending)) * self.shape.object_bytes

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def find(self, keys: Sequence[str]) -> int:
        """Return how many leading `keys` are present; one exist call for each, the first missing one included."""
        if self._faults.cold_hits:
            found = len(keys)
        else:
            found = next((place for place, key in enumerate(keys) if key not in self._keys), len(keys))
        self.counters["master_exist_key_requests_total"] += min(found + 1, len(keys))
        self._grant_lease(keys[:found])
        return found

    def read(self, keys: Sequence[str]) -> None:
        """Count the hand-out of where `keys` lie (the tier evidence) and grant leases on them."""
        if not keys:
            return
        self.counters["master_batch_get_replica_list_requests_total"] += 1
        for name in ("master_batch_get_replica_list_items_total", "mem_cache_hit_nums_"):
            self.counters[name] += len(keys)
        for name in ("valid_get_nums_", "total_get_nums_"):
            self.counters[name] += len(keys)
        self.counters["mem_cache_hit_bytes_total"] += len(keys) * self.shape.object_bytes
        self._grant_lease(keys)

    def start_put(self, keys: Sequence[str]) -> list[str]:
        """Start a batch of puts and return the keys that were accepted.

        Refused, and counted as failed items: keys that exist or are under way, and whatever finds no room.
        """
        if not keys:
            return []
        accepted = [key for key in keys if self._accept(key)]
        refused = len(keys) - len(accepted)
        self.counters["master_batch_put_start_requests_total"] += 1
        self.counters["master_batch_put_start_items_total"] += len(keys)
        self.counters["master_batch_put_start_failed_items_total"] += refused
        self.counters["master_batch_put_start_failures_total"] += not accepted
        self.counters["master_batch_put_start_partial_successes_total"] += bool(accepted and refused)
        return accepted

    def end_put(self, keys: Sequence[str]) -> None:
        """Finish a batch of puts: its keys can be read from now on, unless a fault says otherwise."""
        if self._faults.stuck_stores or not keys:
            return
        self._pending.difference_update(keys)
        if self._faults.drop_stores:
            self.counters["master_put_start_discard_cnt"] += len(keys)
            return
        self.counters["master_batch_put_end_requests_total"] += 1
        self.counters["master_batch_put_end_items_total"] += len(keys)
        self._keys.update(dict.fromkeys(keys, 0.0))

    def remove_all(self, *, force: bool) -> int:
        """Remove every readable key and return how many; without `force` those under a lease stay."""
        self.counters["master_remove_all_requests_total"] += 1
        doomed = [key for key in self._keys if force or not self._is_leased(key)]
        for key in doomed:
            del self._keys[key]
        return len(doomed)

    def segment_bytes_used(self) -> Iterator[tuple[str, int]]:
        """Yield each segment's name and bytes in use; objects lie round robin."""
        objects = len(self._keys) + len(self._pending)
        for node in range(self.shape.nodes):
            share = objects // self.shape.nodes + (node < objects % self.shape.nodes)
            yield f"127.0.0.1:{12300 + node}", share * self.shape.object_bytes

    def _accept(self, key: str) -> bool:
        if key in self._keys or key in self._pending:
            return False
        if self.allocated_bytes + self.shape.object_bytes > HIGH_WATERMARK_SHARE * self.shape.capacity_bytes:
            self._evict()
        if self.allocated_bytes + self.shape.object_bytes > self.shape.capacity_bytes:
            self.counters["master_put_start_alloc_failures_total"] += 1
            return False
        self._pending.add(key)
        return True

    def _evict(self) -> None:
        wanted = max(1, int(len(self._keys) * EVICTED_SHARE))
        doomed = [key for key in self._keys if not self._is_leased(key)][:wanted]
        for key in doomed:
            del self._keys[key]
        self.counters["master_attempted_evictions_total"] += 1
        self.counters["master_successful_evictions_total"] += bool(doomed)
        self.counters["master_evicted_key_count"] += len(doomed)
        self.counters["master_evicted_size_bytes"] += len(doomed) * self.shape.object_bytes

    def _grant_lease(self, keys: Sequence[str]) -> None:
        until = self._clock() + self.shape.lease_ttl_s
        for key in keys:
            if key in self._keys:
                self._keys[key] = until
                self._keys.move_to_end(key)

    def _is_leased(self, key: str) -> bool:
        return self._keys[key] > self._clock()


def exposition(store: SimulatedStore) -> str:
    """Return the store's counters as Prometheus text 0.0.4, every name exactly as Mooncake writes it."""
    lines: list[str] = []
    shape = store.shape
    gauges: dict[str, int] = {
        "master_key_count": len(store.keys),
        "mem_cache_nums_": len(store.keys),
        "file_cache_nums_": 0,
        "master_allocated_bytes": store.allocated_bytes,
        "master_total_capacity_bytes": shape.capacity_bytes,
        "master_active_clients": shape.nodes,
        "master_put_start_discarded_staging_size": 0,
    }
    for name, value in gauges.items():
        lines += [f"# HELP {name} {name}", f"# TYPE {name} gauge", f"{name} {value}"]
    lines += ["# HELP segment_allocated_bytes by segment", "# TYPE segment_allocated_bytes gauge"]
    lines += [f'segment_allocated_bytes{{segment="{name}"}} {used}' for name, used in store.segment_bytes_used()]
    lines += ["# HELP segment_total_capacity_bytes by segment", "# TYPE segment_total_capacity_bytes gauge"]
    lines += [
        f'segment_total_capacity_bytes{{segment="{name}"}} {shape.segment_bytes}'
        for name, _ in store.segment_bytes_used()
    ]
    for name in COUNTERS:
        lines += [f"# HELP {name} {name}", f"# TYPE {name} counter", f"{name} {store.counters[name]}"]
    return "\n".join(lines) + "\n"
