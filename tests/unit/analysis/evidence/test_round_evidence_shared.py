"""In a store that others use too, what happens to their keys is no fault of the product's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mooncake.analysis.evidence.expected.told_chunks import GIVEN_CHUNK
from pytest_mooncake.analysis.evidence.round_evidence import reachable_rung
from pytest_mooncake.records import Evidence, Fault, KVGeometry, Round, Rung, Status
from tests.support.attached_cluster import ATTACHED, Cluster, broken, evidence_of
from tests.support.scripted_world import view

PROMPTS = [9000] * 10
TOLD = view(kv=KVGeometry(bytes_per_token=512, chunk_tokens=256), provisioned=False)
JOINED = replace(view(), details={"shared_store": True, "connector": "lmcache"})
MOVES = {
    "master_evicted_key_count": "no_evictions",
    "master_remove_requests_total": "nothing_removed",
    "master_remove_by_regex_requests_total": "nothing_removed",
    "master_unmount_segment_requests_total": "segments_unchanged",
    "master_mount_segment_requests_total": "segments_unchanged",
}


def moved(this: Round, series: str, amount: float, *, keys: float = 0.0) -> Round:
    def scraped(source: str, samples: dict[str, float]) -> dict[str, float]:
        if source != "master":
            return samples
        extra = {series: samples.get(series, 0.0) + amount, "master_key_count": samples["master_key_count"] + keys}
        return samples | extra

    zero = tuple(
        replace(one, samples={series: 0.0, **one.samples}) if one.source == "master" else one for one in this.before
    )
    after = tuple(replace(one, samples=scraped(one.source, dict(one.samples))) for one in this.after)
    return replace(this, before=zero, after=after)


def check(found: dict[str, Evidence], name: str) -> tuple[Status, Fault]:
    return found[name].status, found[name].fault


@pytest.mark.parametrize(("series", "name"), MOVES.items())
@pytest.mark.parametrize("seen", [ATTACHED, TOLD])
def test_what_moves_while_all_of_ours_are_served_is_told_and_held(series: str, name: str, seen: object) -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS)
    found = evidence_of(moved(warm, series, 3), cold, TOLD if seen is TOLD else ATTACHED)
    assert broken(found) == {}
    assert found[name].status is Status.HELD
    assert "not ours, for all of ours were served" in found[name].detail


@pytest.mark.parametrize(("series", "name"), MOVES.items())
def test_what_moves_in_a_cold_round_waits_for_the_warm_one(series: str, name: str) -> None:
    cold, _ = Cluster(chunk=256).trial(PROMPTS)
    found = evidence_of(moved(cold, series, 3), None)
    assert broken(found) == {}
    assert found[name].status is Status.UNAVAILABLE
    assert "whose it was is not counted" in found[name].detail


def test_an_eviction_beside_a_miss_of_our_own_is_the_products() -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS, missed=[4])
    found = evidence_of(moved(warm, "master_evicted_key_count", 35), cold)
    assert broken(found)["no_evictions"] is Fault.PRODUCT
    assert broken(found)["warm_cached_tokens"] is Fault.PRODUCT


def test_keys_that_went_between_the_rounds_were_not_ours_if_ours_were_served() -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS, lost=12)
    found = evidence_of(warm, cold)
    assert broken(found) == {}
    assert found["store_kept"].status is Status.HELD
    assert "12 of" in found["store_kept"].detail
    cold, warm = Cluster(chunk=256).trial(PROMPTS, lost=35, missed=[0])
    assert broken(evidence_of(warm, cold))["store_kept"] is Fault.PRODUCT
    cold, warm = Cluster(chunk=256, tells=False).trial([2000] * 10, lost=12, missed=range(10))
    assert evidence_of(warm, cold)["store_kept"].status is Status.UNAVAILABLE


def test_a_store_of_our_own_loses_nothing_even_if_all_was_served() -> None:
    cold, warm = Cluster(chunk=256, stored_before=0.0).trial(PROMPTS, lost=1)
    ours = view(kv=None)
    assert broken(evidence_of(warm, cold, ours)) == {"store_kept": Fault.PRODUCT}
    cold, warm = Cluster(chunk=256, stored_before=0.0).trial(PROMPTS)
    evicted = evidence_of(moved(warm, "master_evicted_key_count", 1), cold, ours)
    assert broken(evicted) == {"no_evictions": Fault.PRODUCT}


def test_engines_started_here_against_a_running_store_share_it() -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS, lost=2)
    assert broken(evidence_of(warm, cold, JOINED)) == {}


def test_others_who_store_in_our_cold_round_take_its_count_away() -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS)
    busy = moved(cold, "master_evicted_key_count", 0, keys=7)
    found = evidence_of(busy, None, TOLD)
    assert check(found, "cold_all_stored") == (Status.UNAVAILABLE, Fault.PRODUCT)
    unknown = evidence_of(warm, busy)
    assert broken(unknown) == {}
    assert unknown["warm_store_hits"].status is Status.UNAVAILABLE, "357 keys are no multiple of 350 chunks"
    assert reachable_rung(ATTACHED, tuple(unknown.values())) is Rung.ENGINE


def test_fewer_keys_than_ours_where_none_can_have_gone_were_not_stored() -> None:
    cold, _ = Cluster(chunk=256).trial(PROMPTS)
    short = moved(cold, "master_evicted_key_count", 0, keys=-50)
    assert broken(evidence_of(short, None, TOLD)) == {"cold_all_stored": Fault.PRODUCT}
    gone = moved(short, "master_remove_requests_total", 50)
    assert broken(evidence_of(gone, None, TOLD)) == {}


def test_puts_of_others_that_found_no_space_are_not_ours() -> None:
    cold, _ = Cluster(chunk=256).trial(PROMPTS)
    full = moved(cold, "master_put_start_alloc_failures_total", 4)
    assert evidence_of(full, None)["cold_puts_succeeded"].status is Status.UNAVAILABLE
    assert broken(evidence_of(full, None, view()))["cold_puts_succeeded"] is Fault.PRODUCT


def test_others_who_read_lower_the_rung_and_blame_nobody() -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS, others=9)
    for seen in (ATTACHED, TOLD):
        found = evidence_of(warm, cold, seen)
        assert broken(found) == {}
        assert found["warm_store_hits"].status is Status.UNAVAILABLE
        assert reachable_rung(seen, tuple(found.values())) is Rung.ENGINE
    reading = moved(cold, "mem_cache_hit_nums_", 9)
    assert evidence_of(reading, None)["cold_no_store_hits"].status is Status.UNAVAILABLE
    assert broken(evidence_of(reading, None, view()))["cold_no_store_hits"] is Fault.INSTRUMENT


def test_fewer_reads_in_all_than_our_prompts_need_prove_a_nearer_tier() -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS)
    none = moved(warm, "mem_cache_hit_nums_", -350)
    assert broken(evidence_of(none, cold)) == {
        "warm_store_hits": Fault.PRODUCT,
        "warm_no_lmcache_cpu": Fault.PRODUCT,
    }
    fewer = moved(warm, "mem_cache_hit_nums_", -20)
    assert evidence_of(fewer, cold)["warm_store_hits"].status is Status.UNAVAILABLE, "by larger chunks ours are fewer"
    given = replace(ATTACHED, details={GIVEN_CHUNK: 256})
    assert broken(evidence_of(fewer, cold, given)) == {"warm_store_hits": Fault.PRODUCT}


def test_fewer_reads_than_stored_keys_of_unknown_ranks_may_be_others_stored_keys() -> None:
    cold, warm = Cluster(chunk=256).trial(PROMPTS)
    busy = moved(cold, "master_evicted_key_count", 0, keys=350)
    found = evidence_of(warm, busy)
    assert broken(found) == {}
    assert found["warm_store_hits"].status is Status.UNAVAILABLE


def test_a_store_whose_engines_tell_nothing_is_held_to_what_it_stored() -> None:
    for missed, status in (([], Status.HELD), ([3], Status.UNAVAILABLE)):
        cold, warm = Cluster(chunk=256, tells=False).trial(PROMPTS, missed=missed)
        mute = [
            replace(one, before=one.before[1:], after=one.after[1:])  # the master alone
            for one in (cold, warm)
        ]
        found = evidence_of(mute[1], mute[0])
        assert broken(found) == {}
        assert found["warm_store_hits"].status is status
