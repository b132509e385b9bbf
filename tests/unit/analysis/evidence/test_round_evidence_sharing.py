"""Evidence of rounds whose prompts share chunks: the round's own reuse proves no foreign warmth, anything more does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mooncake.analysis.evidence.round_evidence import judge_rung, round_evidence
from pytest_mooncake.records import Evidence, Fault, Kind, PlannedReuse, Round, Rung, Status
from tests.support.scripted_world import World, play, record, view, without_cached_tokens

PROMPTS = (1000, 1000, 1000)
"""Three chunks each; the first two are the same in all."""
PLANNED = PlannedReuse(
    requests=3,
    chunk_tokens=256,
    chunks=9,
    distinct_chunks=5,
    cold_chunks=4,
    cold_cached_tokens=1024,
    warm_cached_tokens=2304,
    in_order=True,
)


def cold(
    world: World,
    *,
    hits: tuple[int, ...] = (0, 2, 2),
    planned: PlannedReuse | None = PLANNED,
    stored: int = 5,
    label: str = "external_kv_transfer",
) -> Round:
    """A cold round in which request i finds `hits[i]` chunks."""
    before, records = world.scrapes(), []
    for i, (prompt, found) in enumerate(zip(PROMPTS, hits, strict=True)):
        cached = 256 * found
        for source, tokens in ((label, cached), ("local_compute", prompt - cached)):
            world.add("engine:0", "vllm:prompt_tokens_by_source_total", tokens, label=source)
        world.add("engine:0", "vllm:prompt_tokens_total", prompt)
        world.add("engine:0", "vllm:prompt_tokens_cached_total", cached)
        world.add("engine:0", "vllm:request_success_total", 1, label='"length"')
        world.add("engine:0", "vllm:request_prefill_time_seconds_sum", 0.1)
        world.add("engine:0", "vllm:request_prefill_time_seconds_count", 1)
        if label == "external_kv_transfer":
            world.hand_out(found)
        records.append(record(i, prompt, cached, Kind.COLD))
    world.store(stored)
    measured = play(world, Kind.COLD, prompts=())
    return replace(measured, before=before, after=world.scrapes(), requests=tuple(records), planned=planned)


def by_id(evidence: tuple[Evidence, ...]) -> dict[str, Evidence]:
    return {item.id: item for item in evidence}


def broken(evidence: tuple[Evidence, ...]) -> set[str]:
    return {item.id for item in evidence if item.status is Status.BROKEN}


def test_a_cold_round_may_find_what_it_stored_itself_by_every_counter() -> None:
    evidence = round_evidence(cold(World()), view(), reference=None)
    assert broken(evidence) == set()
    held = by_id(evidence)
    assert held["cold_own_reuse"].status is Status.HELD
    assert held["cold_own_reuse"].expected == "1,024 tokens of what earlier requests of this round stored"
    assert held["cold_no_store_hits"].expected == "at most 4 keys handed out by Mooncake, this round's own reuse"
    assert held["cold_all_stored"].expected == "5 keys more in the store"
    assert judge_rung(Rung.STORE, view(), evidence).reached is Rung.STORE


def test_one_chunk_more_than_planned_makes_the_round_not_cold() -> None:
    evidence = round_evidence(cold(World(), hits=(1, 2, 2)), view(), reference=None)
    assert broken(evidence) == {"cold_no_external_hits", "cold_no_cached_tokens", "cold_no_store_hits"}
    assert {by_id(evidence)[name].fault for name in broken(evidence)} == {Fault.INSTRUMENT}
    assert by_id(evidence)["cold_all_stored"].status is Status.UNAVAILABLE


def test_without_a_plan_every_hit_of_a_cold_round_is_one_too_many() -> None:
    evidence = round_evidence(cold(World(), planned=None, stored=9), view(), reference=None)
    assert broken(evidence) >= {"cold_no_external_hits", "cold_no_cached_tokens", "cold_no_store_hits"}
    assert "cold_own_reuse" not in by_id(evidence)


def test_a_plan_without_reuse_leaves_the_checks_as_sharp_as_without_a_plan() -> None:
    nothing = replace(PLANNED, distinct_chunks=9, cold_chunks=0, cold_cached_tokens=0)
    for measured in (
        cold(World(), planned=nothing, stored=9),
        cold(World(), planned=nothing, hits=(0, 0, 0), stored=9),
    ):
        bare = round_evidence(replace(measured, planned=None), view(), reference=None)
        assert round_evidence(measured, view(), reference=None) == bare


@pytest.mark.parametrize("in_order", [True, False])
def test_reuse_short_of_its_plan_is_no_sound_round_unless_others_could_overtake(in_order: bool) -> None:
    planned = replace(PLANNED, in_order=in_order)
    evidence = by_id(round_evidence(cold(World(), hits=(0, 0, 2), planned=planned), view(), reference=None))
    own = evidence["cold_own_reuse"]
    assert own.observed == "512 tokens (50.0%)"
    assert own.status is (Status.BROKEN if in_order else Status.HELD)
    assert own.fault is Fault.INSTRUMENT
    assert ("not there yet" if in_order else "overtake") in own.detail
    assert evidence["cold_all_stored"].status is Status.HELD


def test_fewer_keys_than_distinct_chunks_were_not_all_stored() -> None:
    assert broken(round_evidence(cold(World(), stored=4), view(), reference=None)) == {"cold_all_stored"}


def test_keys_of_shared_chunks_stored_twice_are_somebody_elses() -> None:
    stored = by_id(round_evidence(cold(World(), stored=9), view(), reference=None))["cold_all_stored"]
    assert (stored.status, stored.fault) == (Status.BROKEN, Fault.INSTRUMENT)


def test_an_engines_own_cache_may_serve_the_rounds_reuse_in_smaller_blocks() -> None:
    measured = cold(World(), hits=(0, 3, 2), label="local_cache_hit")
    evidence = by_id(round_evidence(measured, view(), reference=None))
    assert evidence["cold_no_local_hits"].status is Status.HELD
    assert evidence["cold_no_cached_tokens"].status is Status.HELD
    assert evidence["cold_no_external_hits"].observed == "0 tokens"


def test_own_reuse_is_judged_by_replies_where_the_engines_do_not_count() -> None:
    world = World(hidden={"engine:0"})
    own = by_id(round_evidence(cold(world), view(), reference=None))["cold_own_reuse"]
    assert (own.status, own.rung) == (Status.HELD, Rung.USAGE)
    mute = without_cached_tokens(cold(World(hidden={"engine:0"})))
    own = by_id(round_evidence(mute, view(), reference=None))["cold_own_reuse"]
    assert (own.status, own.rung) == (Status.UNAVAILABLE, Rung.USAGE)


def test_keys_cannot_be_told_apart_where_the_ranks_are_unknown() -> None:
    hits = by_id(round_evidence(cold(World()), view(kv=None), reference=None))["cold_no_store_hits"]
    assert hits.status is Status.UNAVAILABLE
    assert "own reuse cannot be told" in hits.detail


def test_a_warm_round_of_a_sharing_workload_reads_every_chunk_of_every_prompt() -> None:
    world = World()
    before = cold(world)
    warm = replace(play(world, Kind.WARM, number=1, prompts=PROMPTS, prefill_s=0.2), planned=PLANNED)
    evidence = round_evidence(warm, view(), reference=before)
    assert broken(evidence) == set()
    assert by_id(evidence)["warm_store_hits"].expected == "9 keys handed out by Mooncake"
    assert by_id(evidence)["warm_prefill_fell"].status is Status.UNAVAILABLE


def test_a_warm_miss_of_a_sharing_workload_is_the_products_fault() -> None:
    world = World()
    before = cold(world)
    warm = replace(play(world, Kind.WARM, number=1, prompts=PROMPTS, tier="none"), planned=PLANNED)
    evidence = round_evidence(warm, view(), reference=before)
    assert {"warm_external_tokens", "warm_store_hits", "warm_hit_share"} <= broken(evidence)
    assert {by_id(evidence)[name].fault for name in broken(evidence)} == {Fault.PRODUCT}
