"""Differences of counters: restarts are noticed, engines add up, and what is missing is never 0."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.evidence.counters.deltas import deltas, read
from pytest_mooncake.analysis.evidence.counters.names import TABLE, Place
from pytest_mooncake.records import Scrape
from tests.support.scripted_world import World

HITS = "vllm:external_prefix_cache_hits_total"


def scraped(source: str = "engine:0", *, started_s: float | None = None, **samples: float) -> Scrape:
    return Scrape(source=source, at_ns=0, samples=samples, started_s=started_s)


def engine(value: float, source: str = "engine:0", started_s: float | None = None) -> Scrape:
    return Scrape(source=source, at_ns=0, samples={HITS: value}, started_s=started_s)


@given(st.integers(min_value=0, max_value=2**52), st.integers(min_value=0, max_value=2**40))
def test_a_difference_is_exact_for_every_whole_number(start: int, rise: int) -> None:
    assert deltas((engine(start),), (engine(start + rise),)).get("external_hit_tokens") == rise


def test_several_engines_are_added_and_one_that_is_silent_makes_the_sum_unknown() -> None:
    before = (engine(1), engine(10, "engine:1"))
    after = (engine(3), engine(15, "engine:1"))
    silent = replace(after[1], samples={}, error="refused")

    assert deltas(before, after).get("external_hit_tokens") == 7
    assert deltas(before, (after[0], silent)).get("external_hit_tokens") is None
    assert deltas(before, (after[0], silent)).failed == {"engine:1": "refused"}
    assert deltas(before, (after[0],)).get("external_hit_tokens") is None


def test_engines_of_different_versions_are_added_by_the_names_each_of_them_knows() -> None:
    new = 'vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}'
    before = (engine(1), Scrape(source="engine:1", at_ns=0, samples={new: 5.0, HITS: 99.0}))
    after = (engine(2), Scrape(source="engine:1", at_ns=0, samples={new: 9.0, HITS: 999.0}))

    assert deltas(before, after).get("external_hit_tokens") == 1 + 4


def test_a_missing_counter_is_none_and_not_zero() -> None:
    moved = deltas((engine(1),), (engine(1),))

    assert moved.get("external_hit_tokens") == 0
    assert moved.get("local_hit_tokens") is None
    assert moved.get("store_hit_keys") is None
    assert moved.total("external_hit_tokens", "local_hit_tokens") is None
    assert moved.mean("prefill") is None


def test_a_counter_that_appears_in_between_was_born_at_zero() -> None:
    moved = deltas((scraped(other=1.0),), (engine(42),))

    assert moved.get("external_hit_tokens") == 42
    assert moved.restarted == ()


@pytest.mark.parametrize(
    ("before", "after"), [(engine(10), engine(9)), (engine(1, started_s=100.0), engine(5, started_s=200.0))]
)
def test_a_process_that_we_started_restarts_where_a_counter_falls_or_its_start_time_is_another(
    before: Scrape, after: Scrape
) -> None:
    moved = deltas((before,), (after,), identified=True)

    assert moved.restarted == ("engine:0",)
    assert moved.shared == ()
    assert moved.get("external_hit_tokens") is None


@pytest.mark.parametrize(
    ("before", "after"), [(engine(10), engine(9)), (engine(1, started_s=100.0), engine(5, started_s=200.0))]
)
def test_somebody_elses_process_may_be_another_one_and_its_counters_prove_nothing(
    before: Scrape, after: Scrape
) -> None:
    moved = deltas((before,), (after,))

    assert moved.restarted == ()
    assert moved.shared == ("engine:0",)
    assert moved.get("external_hit_tokens") is None


def test_a_source_that_other_looks_showed_to_be_several_processes_tells_nothing_at_all() -> None:
    gauge = "vllm:num_requests_running"
    before = Scrape(source="engine:0", at_ns=0, samples={HITS: 1.0, gauge: 0.0})
    after = Scrape(source="engine:0", at_ns=0, samples={HITS: 5.0, gauge: 2.0})
    moved = deltas((before,), (after,), untold={"engine:0"})

    assert moved.shared == ("engine:0",)
    assert moved.get("external_hit_tokens") is None
    assert moved.get("requests_running") is None
    assert deltas((before,), (after,)).get("requests_running") == 2


def test_a_start_time_that_is_only_rounded_otherwise_is_no_restart() -> None:
    assert deltas((engine(1, started_s=100.0),), (engine(5, started_s=100.4),)).restarted == ()


def test_falling_gauges_and_late_series_of_lmcache_are_no_restart() -> None:
    names = {"vllm:num_requests_running": 4.0, "lmcache:num_remote_read_bytes_total": 100.0}
    before = Scrape(source="engine:0", at_ns=0, samples={**names, HITS: 1.0})
    after = Scrape(source="engine:0", at_ns=0, samples={**dict.fromkeys(names, 0.0), HITS: 1.0})
    master = scraped("master", master_key_count=9.0, master_allocated_bytes=8.0, mem_cache_hit_nums_=3.0)
    emptied = scraped("master", master_key_count=0.0, master_allocated_bytes=0.0, mem_cache_hit_nums_=3.0)

    assert deltas((before, master), (after, emptied)).restarted == ()


def test_a_gauge_may_fall_and_is_read_as_it_stands() -> None:
    moved = deltas((scraped("master", master_key_count=9.0),), (scraped("master", master_key_count=4.0),))

    assert moved.get("keys") == -5
    assert moved.at_end("keys") == 4
    assert "keys" not in moved.values


def test_requests_are_split_by_how_they_ended() -> None:
    world = World()
    before = world.scrapes()
    world.serve(0, 1024, "none")
    world.add("engine:0", "vllm:request_success_total", 2, label='"abort"')
    moved = deltas(before, world.scrapes())

    assert moved.get("requests_succeeded") == 3
    assert moved.requests_by_reason == {"stop": 0, "length": 1, "abort": 2, "error": 0}


def test_ended_puts_are_those_that_ended_well() -> None:
    before = scraped("master", master_batch_put_end_items_total=10.0, master_batch_put_end_failed_items_total=1.0)
    after = scraped("master", master_batch_put_end_items_total=30.0, master_batch_put_end_failed_items_total=3.0)

    assert deltas((before,), (after,)).get("put_items_ended") == 18


def test_failures_without_a_total_count_nothing() -> None:
    assert read((scraped("master", master_put_end_failures_total=3.0),), "put_items_ended") is None


def test_a_name_that_begins_like_another_is_not_taken_for_it() -> None:
    samples = {"vllm:prompt_tokens_total": 5.0, "vllm:prompt_tokens_total_other": 7.0}

    assert read((Scrape(source="engine:0", at_ns=0, samples=samples),), "prompt_tokens") == 5


def test_a_mean_is_of_the_interval_only() -> None:
    world = World()
    world.serve(0, 1000, "none", prefill_s=9.0)
    before = world.scrapes()
    world.serve(0, 1000, "none", prefill_s=1.0)
    world.serve(0, 1000, "none", prefill_s=2.0)

    assert deltas(before, world.scrapes()).mean("prefill") == 1.5


def test_every_quantity_has_a_place_and_distinct_alternatives() -> None:
    for quantity in TABLE.values():
        assert quantity.place in Place
        assert len(set(quantity.alternatives)) == len(quantity.alternatives) > 0
        assert any(term.sign > 0 for terms in quantity.alternatives for term in terms)


def test_a_source_that_was_not_scraped_before_is_said_to_be_so() -> None:
    assert deltas((), (engine(1),)).failed == {"engine:0": "not scraped before the round"}
