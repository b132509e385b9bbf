from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from pytest_mooncake.stack.simulated.faults import Faults
from pytest_mooncake.stack.simulated.store import COUNTERS, SimulatedStore, StoreShape, exposition

KEYS = [f"k{number}" for number in range(10)]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(
    objects: int = 100, *, faults: Faults | None = None, clock: Clock | None = None, nodes: int = 2
) -> SimulatedStore:
    shape = StoreShape(nodes=nodes, segment_bytes=objects * 10 // nodes, object_bytes=10, lease_ttl_s=5.0)
    return SimulatedStore(shape, faults or Faults(), clock or Clock())


def put(store: SimulatedStore, keys: Sequence[str]) -> None:
    store.end_put(store.start_put(keys))


def test_keys_are_found_only_once_their_put_has_ended() -> None:
    store = make()
    started = store.start_put(KEYS)
    assert store.find(KEYS) == 0
    assert store.allocated_bytes == 100
    store.end_put(started)
    assert store.find(KEYS) == 10
    assert set(store.keys) == set(KEYS)


def test_only_the_leading_keys_count_and_looking_stops_at_the_first_that_is_missing() -> None:
    store = make()
    put(store, [*KEYS[:3], KEYS[5]])
    assert store.find(KEYS) == 3
    assert store.counters["master_exist_key_requests_total"] == 4


def test_reading_moves_the_counters_of_the_tier_by_keys_and_bytes() -> None:
    store = make()
    put(store, KEYS)
    store.read(KEYS[:4])
    store.read([])
    assert store.counters["mem_cache_hit_nums_"] == 4
    assert store.counters["mem_cache_hit_bytes_total"] == 40
    assert store.counters["master_batch_get_replica_list_items_total"] == 4
    assert store.counters["master_batch_get_replica_list_requests_total"] == 1
    assert store.counters["valid_get_nums_"] == store.counters["total_get_nums_"] == 4


def test_every_put_that_started_has_failed_or_ended_once_all_is_quiet() -> None:
    store = make(objects=8)
    put(store, KEYS)
    put(store, KEYS[:2])
    counters = store.counters
    started = counters["master_batch_put_start_items_total"] - counters["master_batch_put_start_failed_items_total"]
    assert started == counters["master_batch_put_end_items_total"]


def test_a_key_that_exists_is_refused_and_counted_as_a_failed_item() -> None:
    store = make()
    put(store, KEYS[:2])
    assert store.start_put(KEYS[:3]) == [KEYS[2]]
    assert store.counters["master_batch_put_start_failed_items_total"] == 2
    assert store.counters["master_batch_put_start_partial_successes_total"] == 1
    assert store.counters["master_batch_put_start_failures_total"] == 0
    assert store.start_put([]) == []


def test_a_full_store_evicts_the_least_recently_used_first() -> None:
    store = make(objects=10)
    put(store, KEYS[:9])
    store.find(KEYS[:1])
    put(store, [KEYS[9]])
    assert KEYS[1] not in store
    assert KEYS[0] in store
    assert store.counters["master_evicted_key_count"] == 1
    assert store.counters["master_evicted_size_bytes"] == 10
    assert store.counters["master_successful_evictions_total"] == 1


def test_what_is_leased_is_not_evicted_so_that_puts_find_no_room() -> None:
    clock = Clock()
    store = make(objects=10, clock=clock)
    put(store, KEYS[:9])
    store.find(KEYS[:9])
    put(store, [KEYS[9], "late"])
    assert KEYS[9] in store
    assert "late" not in store
    assert store.counters["master_put_start_alloc_failures_total"] == 1
    assert store.counters["master_successful_evictions_total"] == 0
    clock.now_s = 6.0
    put(store, ["late"])
    assert "late" in store


def test_remove_all_spares_leases_unless_forced() -> None:
    clock = Clock()
    store = make(clock=clock)
    put(store, KEYS)
    store.find(KEYS[:4])
    assert store.remove_all(force=False) == 6
    assert set(store.keys) == set(KEYS[:4])
    clock.now_s = 5.0
    assert store.remove_all(force=False) == 4
    put(store, KEYS)
    store.find(KEYS)
    assert store.remove_all(force=True) == 10
    assert store.allocated_bytes == 0


def test_a_poisoned_store_finds_everything_and_counts_it() -> None:
    store = make(faults=Faults(cold_hits=True))
    assert store.find(KEYS) == 10
    store.read(KEYS)
    assert store.counters["mem_cache_hit_nums_"] == 10


def test_dropped_stores_are_discarded_and_never_found() -> None:
    store = make(faults=Faults(drop_stores=True))
    put(store, KEYS)
    assert store.find(KEYS) == 0
    assert store.counters["master_put_start_discard_cnt"] == 10
    assert store.counters["master_batch_put_end_items_total"] == 0
    assert store.allocated_bytes == 0


def test_stuck_stores_stay_under_way() -> None:
    store = make(faults=Faults(stuck_stores=True))
    put(store, KEYS)
    assert store.find(KEYS) == 0
    assert store.counters["master_batch_put_end_items_total"] == store.counters["master_put_start_discard_cnt"] == 0
    assert store.allocated_bytes == 100


def test_segments_share_the_bytes_in_use() -> None:
    store = make(nodes=3, objects=90)
    put(store, KEYS)
    assert [used for _, used in store.segment_bytes_used()] == [40, 30, 30]


def test_the_exposition_keeps_every_name_exactly_as_mooncake_writes_it() -> None:
    store = make()
    put(store, KEYS)
    store.read(KEYS)
    text = exposition(store)
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines["mem_cache_hit_nums_"] == "10"
    assert lines["master_key_count"] == "10"
    assert lines["master_allocated_bytes"] == "100"
    assert lines["master_total_capacity_bytes"] == "1000"
    assert lines["master_active_clients"] == "2"
    assert lines['segment_allocated_bytes{segment="127.0.0.1:12300"}'] == "50"
    assert set(COUNTERS) <= set(lines)
    assert all(family.documentation for family in text_string_to_metric_families(text))
