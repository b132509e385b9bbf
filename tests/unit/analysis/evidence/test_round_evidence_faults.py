"""Each fault that happens in the field with HTTP 200 is named, and blamed on the right side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mooncake.analysis.evidence.round_evidence import round_evidence
from pytest_mooncake.records import Evidence, Fault, Kind, Round, Settle, StackView, Status
from tests.support.scripted_world import CHUNKS, World, play, record, view, without_cached_tokens


def broken(measured: Round, reference: Round | None = None, seen: StackView | None = None) -> dict[str, Evidence]:
    evidence = round_evidence(measured, seen or view(), reference=reference)
    return {item.id: item for item in evidence if item.status is Status.BROKEN}


def faults(found: dict[str, Evidence]) -> set[Fault]:
    return {item.fault for item in found.values()}


def test_a_cold_round_that_was_warm_is_an_instrument_fault_and_nothing_else() -> None:
    world = World()
    play(world, Kind.COLD)
    found = broken(play(world, Kind.COLD, number=1, tier="mooncake", stored=0))

    assert set(found) == {"cold_no_external_hits", "cold_no_cached_tokens", "cold_no_store_hits"}
    assert faults(found) == {Fault.INSTRUMENT}
    assert "not cold" in found["cold_no_external_hits"].detail


def test_a_cold_round_served_by_the_prefix_cache_is_an_instrument_fault_and_nothing_else() -> None:
    found = broken(play(World(), Kind.COLD, tier="gpu", stored=0))

    assert set(found) == {"cold_no_local_hits", "cold_no_cached_tokens"}
    assert faults(found) == {Fault.INSTRUMENT}


def test_a_stranger_who_reads_from_the_store_in_a_cold_round_is_told_from_a_warm_round() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.hand_out(3)
    found = broken(replace(cold, after=world.scrapes()))

    assert set(found) == {"cold_no_store_hits"}
    assert "somebody else" in found["cold_no_store_hits"].detail


def test_a_degraded_connector_stores_nothing_in_the_cold_round() -> None:
    found = broken(play(World(), Kind.COLD, stored=0))

    assert set(found) == {"cold_all_stored"}
    assert faults(found) == {Fault.PRODUCT}
    assert "degraded" in found["cold_all_stored"].detail


def test_dropped_writes_are_told_from_a_full_pool() -> None:
    dropped = broken(play(World(), Kind.COLD, stored=CHUNKS - 2))
    world = World()
    cold = play(world, Kind.COLD, stored=CHUNKS - 2)
    world.master["master_put_start_alloc_failures_total"] += 2
    full = broken(replace(cold, after=world.scrapes()))

    assert "transfer_timeout" in dropped["cold_all_stored"].detail
    assert "global_segment_size" in full["cold_all_stored"].detail
    assert full["cold_puts_succeeded"].observed == "2 without space, 0 revoked, 0 abandoned"


def test_keys_that_a_stranger_stored_are_the_instruments_fault() -> None:
    found = broken(play(World(), Kind.COLD, stored=CHUNKS + 7))

    assert set(found) == {"cold_all_stored"}
    assert faults(found) == {Fault.INSTRUMENT}


def test_a_warm_round_served_by_the_gpu_prefix_cache_fails_and_is_named() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    found = broken(play(world, Kind.WARM, number=1, tier="gpu"), cold)

    assert set(found) == {"warm_external_tokens", "warm_no_local_hits", "warm_store_hits", "warm_hit_share"}
    assert faults(found) == {Fault.PRODUCT}
    assert "--no-enable-prefix-caching" in found["warm_no_local_hits"].detail
    assert "prefix cache answered first" in found["warm_store_hits"].detail


def test_a_warm_round_served_by_lmcaches_cpu_tier_fails_although_the_engine_counts_external_hits() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    found = broken(play(world, Kind.WARM, number=1, tier="lmcache_cpu"), cold)

    assert set(found) == {"warm_store_hits", "warm_no_lmcache_cpu"}
    assert faults(found) == {Fault.PRODUCT}
    assert "local_cpu: false" in found["warm_store_hits"].detail
    assert "local_cpu: false" in found["warm_no_lmcache_cpu"].detail


def test_lmcaches_own_gauge_only_corroborates() -> None:
    world = World()
    world.sources["engine:0"]["lmcache:local_cpu_hot_cache_count"] = 12
    cold = play(world, Kind.COLD)
    evidence = round_evidence(play(world, Kind.WARM, number=1), view(), reference=cold)
    tier = next(item for item in evidence if item.id == "warm_no_lmcache_cpu")

    assert tier.status is Status.HELD
    assert tier.detail == "LMCache itself reports 12 chunks in CPU memory"


def wiped(world: World, how: str) -> None:
    world.master["master_key_count"] = 0
    if how == "master":
        world.restart("master")
    elif how != "died":
        world.master[how] += 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("master_remove_all_requests_total", "somebody removed them (1 removal requests)"),
        ("master_evicted_key_count", "evicted"),
        ("master_unmount_segment_requests_total", "a storage node left the pool"),
        ("master", "the master restarted"),
        ("died", "a storage node may have died"),
    ],
)
def test_a_store_emptied_between_the_rounds_is_named_with_what_emptied_it(how: str, words: str) -> None:
    world = World()
    cold = play(world, Kind.COLD)
    wiped(world, how)
    found = broken(play(world, Kind.WARM, number=1, tier="none"), cold)

    assert {"store_kept", "warm_external_tokens", "warm_store_hits", "warm_cached_tokens"} <= set(found)
    assert found["warm_external_tokens"].fault is Fault.PRODUCT
    assert words in found["warm_external_tokens"].detail


def test_a_killed_master_is_named_and_takes_the_store_rung_away() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.down["master"] = "http://127.0.0.1:9003/metrics: connection refused"
    warm = play(world, Kind.WARM, number=1, tier="none")
    found = broken(warm, cold)

    assert found["sources_answer"].fault is Fault.PRODUCT
    assert found["sources_answer"].observed == "no answer any more from master"
    assert "master does not answer" in found["warm_external_tokens"].detail
    assert "warm_store_hits" not in found, "what could not be read is unavailable, not broken"


def test_a_slow_source_is_not_a_dead_one() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.down["master"] = "no answer within 5 s from http://127.0.0.1:9003/metrics"

    assert broken(play(world, Kind.WARM, number=1), cold) == {}


def test_a_second_engine_with_another_hash_seed_stores_everything_again() -> None:
    world = World(engines=2)
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1, tier="none")
    world.store(CHUNKS)
    found = broken(replace(warm, after=world.scrapes()), cold, view(engines=2))

    assert found["warm_external_tokens"].fault is Fault.PRODUCT
    assert "PYTHONHASHSEED" in found["warm_external_tokens"].detail


def test_a_warm_round_after_a_cold_one_that_stored_nothing_says_so() -> None:
    world = World()
    cold = play(world, Kind.COLD, stored=0)
    found = broken(play(world, Kind.WARM, number=1, tier="none"), cold)

    assert "had stored nothing" in found["warm_hit_share"].detail


def test_without_a_connector_the_replies_say_that_nothing_was_cached() -> None:
    world = World(hidden={"master"})
    long = (9000, 5000)
    cold = play(world, Kind.COLD, prompts=long)
    found = broken(play(world, Kind.WARM, number=1, tier="none", prompts=long), cold, view(store=False, kv=None))

    assert found["warm_cached_tokens"].observed == "0 tokens; 2 of 2 replies had none"
    assert "without a connector nothing is ever found" in found["warm_cached_tokens"].detail


def test_evictions_are_a_product_fault_in_either_round() -> None:
    world = World()
    cold = play(world, Kind.COLD, stored=CHUNKS - 4)
    world.master["master_evicted_key_count"] += 4
    found = broken(replace(cold, after=world.scrapes()))

    assert found["no_evictions"].observed == "4 evicted keys"
    assert found["no_evictions"].fault is Fault.PRODUCT
    warm = broken(play(world, Kind.WARM, number=1, tier="none"), replace(cold, after=world.scrapes()))
    assert "4 keys were evicted" in warm["warm_store_hits"].detail


def test_a_failed_request_is_the_products_fault_and_spoils_the_sums_without_breaking_them() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    evidence = round_evidence(play(world, Kind.WARM, number=1, failed=2), view(), reference=cold)
    found = {item.id: item for item in evidence if item.status is Status.BROKEN}
    sums = next(item for item in evidence if item.id == "warm_external_tokens")

    assert set(found) == {"requests_served"}
    assert found["requests_served"].fault is Fault.PRODUCT
    assert found["requests_served"].observed == "2 served, 2 failed"
    assert found["requests_served"].detail == "connection refused"
    assert sums.status is Status.UNAVAILABLE
    assert "2 requests failed" in sums.detail


def test_requests_that_were_never_sent_are_the_instruments_fault() -> None:
    evidence = round_evidence(play(World(), Kind.COLD), view(), reference=None, planned=6)
    served = next(item for item in evidence if item.id == "requests_served")

    assert (served.status, served.fault) == (Status.BROKEN, Fault.INSTRUMENT)
    assert served.observed == "4 served, 0 failed, 2 not sent"


def test_a_round_that_was_cut_short_says_why() -> None:
    cut = replace(play(World(), Kind.COLD), cut_short="the first 4 requests all failed")

    assert broken(cut)["requests_served"].detail == "the first 4 requests all failed"


def test_other_traffic_is_an_instrument_fault_and_no_sum_is_held_against_the_product() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    found = broken(play(world, Kind.WARM, number=1, foreign=3), cold)

    assert set(found) == {"only_our_requests"}
    assert faults(found) == {Fault.INSTRUMENT}
    assert found["only_our_requests"].observed == "7 requests served (length 7)"


def test_a_miss_is_still_a_product_fault_beside_other_traffic_because_the_replies_tell() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    found = broken(play(world, Kind.WARM, number=1, tier="none", foreign=3), cold)

    assert set(found) == {"only_our_requests", "warm_cached_tokens", "warm_hit_share"}
    assert found["warm_cached_tokens"].fault is Fault.PRODUCT


def test_engines_that_are_missing_from_the_metrics_make_their_sums_unavailable() -> None:
    world = World(engines=2, hidden={"engine:1"})
    cold = play(world, Kind.COLD)
    evidence = round_evidence(play(world, Kind.WARM, number=1), view(engines=2), reference=cold)
    external = next(item for item in evidence if item.id == "warm_external_tokens")

    assert [item.id for item in evidence if item.status is Status.BROKEN] == []
    assert external.status is Status.UNAVAILABLE
    assert external.detail == "the counters saw only 2 of our 4 requests: engines are missing (1 of them read, 2 known)"


def test_a_restarted_engine_is_named_and_nothing_is_concluded_from_its_counters() -> None:
    world = World()
    play(world, Kind.COLD)
    cold = play(world, Kind.COLD, number=1)
    world.restart("engine:0")
    found = broken(replace(cold, after=world.scrapes()))

    assert set(found) == {"no_restart"}
    assert found["no_restart"].observed == "restarted: engine:0"


def test_a_pool_that_changed_is_the_products_fault_only_where_it_is_ours() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.master["master_unmount_segment_requests_total"] += 1
    changed = replace(cold, after=world.scrapes())

    assert broken(changed)["segments_unchanged"].fault is Fault.PRODUCT
    assert "segments_unchanged" not in broken(changed, seen=view(provisioned=False)), "nodes of others come and go"


@pytest.mark.parametrize(
    ("source", "series", "check"),
    [
        ("master", "master_remove_by_regex_requests_total", "nothing_removed"),
        ("engine:0", "vllm:num_preemptions_total", "no_preemptions"),
    ],
)
def test_what_others_did_to_the_stack_is_an_instrument_fault(source: str, series: str, check: str) -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.add(source, series, 1)
    found = broken(replace(cold, after=world.scrapes()))

    assert set(found) == {check}
    assert faults(found) == {Fault.INSTRUMENT}


def test_a_store_that_never_settled_is_told() -> None:
    settle = Settle(seconds=30, settled=False, how="until idle", detail="gave up after 30 s: 3 puts not ended")
    found = broken(play(World(), Kind.COLD, settle=settle))

    assert found["settled"].observed == "not settled after 30.0 s"
    assert "3 puts not ended" in found["settled"].detail


def test_objects_of_another_size_mean_that_the_geometry_is_wrong() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1)
    world.master["mem_cache_hit_bytes_total"] -= 100
    found = broken(replace(warm, after=world.scrapes()), cold)

    assert set(found) == {"warm_store_bytes"}
    assert faults(found) == {Fault.INSTRUMENT}


@pytest.mark.parametrize("series", ["mem_cache_hit_nums_", "vllm:prompt_tokens_by_source_total"])
def test_more_than_our_prompts_can_explain_is_the_instruments_fault(series: str) -> None:
    world = World()
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1)
    source = "master" if series.startswith("mem") else "engine:0"
    world.add(source, series, 256, label="external" if source != "master" else "")
    found = broken(replace(warm, after=world.scrapes()), cold)

    assert {"warm_store_hits", "warm_external_tokens"} & set(found)
    assert faults(found) == {Fault.INSTRUMENT}


def test_replies_and_counters_that_disagree_are_told() -> None:
    cold = play(World(), Kind.COLD)
    lied = replace(cold, requests=(*cold.requests[:-1], record(3, 257, 256, Kind.COLD)))
    found = broken(lied)

    assert found["cached_tokens_agree"].observed == "256 in the replies, 0 in the counters"


def test_a_cold_round_that_hit_is_no_measure_of_the_warm_prefill() -> None:
    world = World()
    hit = play(world, Kind.COLD, tier="mooncake", prefill_s=0.03)
    warm = play(world, Kind.WARM, number=1, prefill_s=0.05)
    evidence = {e.id: e for e in round_evidence(warm, view(), reference=hit)}
    assert evidence["warm_prefill_fell"].status is Status.UNAVAILABLE
    assert "was not cold" in evidence["warm_prefill_fell"].detail


def test_a_warm_prefill_that_is_no_faster_is_told() -> None:
    world = World()
    cold = play(world, Kind.COLD, prefill_s=0.125)
    noisy = play(world, Kind.WARM, number=1, prefill_s=0.13)
    assert broken(noisy, cold) == {}, "two rounds differ by that much without any cause"
    found = broken(play(world, Kind.WARM, number=2, prefill_s=0.16), cold)

    assert set(found) == {"warm_prefill_fell"}
    assert found["warm_prefill_fell"].expected == "mean prefill below the cold round's 0.125 s"


def test_why_store_counters_prove_nothing_is_said() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.restart("master")
    restarted = replace(cold, after=world.scrapes())
    hidden = play(World(hidden={"master"}), Kind.COLD)

    assert why(restarted, "cold_no_store_hits") == "the master restarted during the round"
    assert why(hidden, "cold_no_store_hits") == "the master's counters were not read"
    assert why(hidden, "cold_no_store_hits", view(store=False)).startswith("no Mooncake master is known")


def test_why_engine_counters_prove_nothing_is_said() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.down["engine:0"] = "no answer within 5 s from http://127.0.0.1:8000/metrics"

    assert "engine:0 could not be read (no answer within 5 s" in why(
        replace(cold, after=world.scrapes()), "cold_no_external_hits"
    )
    assert "--mooncake-metrics" in why(play(World(hidden={"engine:0"}), Kind.COLD), "cold_no_external_hits")


def why(measured: Round, check: str, seen: StackView | None = None) -> str:
    evidence = round_evidence(measured, seen or view(), reference=None)
    return next(item.detail for item in evidence if item.id == check and item.status is Status.UNAVAILABLE)


def test_an_older_engine_without_a_quantity_says_so() -> None:
    world = World()
    for series in [s for s in world.sources["engine:0"] if "by_source" in s]:
        del world.sources["engine:0"][series]

    assert "does not count" in why(play_blind(world), "cold_no_external_hits")


def play_blind(world: World) -> Round:
    """A cold round whose engine counts requests and nothing of where their tokens came from."""
    before = world.scrapes()
    world.add("engine:0", "vllm:request_success_total", 1, label='"length"')
    healthy = play(World(), Kind.COLD)
    return replace(healthy, requests=healthy.requests[:1], before=before, after=world.scrapes())


def test_without_a_cold_round_there_is_nothing_to_compare_times_with() -> None:
    world = World(hidden={"engine:0", "master"})
    warm = without_cached_tokens(play(world, Kind.WARM))

    assert why(warm, "warm_ttft_fell", view(store=False, kv=None)) == "there is no cold round to compare with"
