"""Evidence of a steady state: between what an exact LRU keeps and all of it, evictions are no fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mooncake.analysis.evidence.hit_share import warm_hit_share
from pytest_mooncake.analysis.evidence.round_evidence import round_evidence
from pytest_mooncake.records import Evidence, Fault, Kind, PlannedReuse, Round, Status
from tests.support.scripted_world import World, play, record, view

PROMPTS = (1000, 1000, 1000)
PLANNED = PlannedReuse(
    requests=3,
    chunk_tokens=256,
    chunks=9,
    distinct_chunks=5,
    cold_chunks=4,
    cold_cached_tokens=1024,
    warm_cached_tokens=2304,
    in_order=True,
    steady_store_chunks=4,
    steady_cold_chunks=2,
    steady_warm_chunks=6,
)


def measured(
    kind: Kind,
    hits: tuple[int, ...],
    *,
    stored: int = 0,
    evicted: int = 0,
    refused: int = 0,
    planned: PlannedReuse | None = PLANNED,
    world: World | None = None,
) -> Round:
    """A round in which request i finds `hits[i]` chunks; the key count rises by what was stored less what went."""
    world = world or World()
    before, records = world.scrapes(), []
    for i, (prompt, found) in enumerate(zip(PROMPTS, hits, strict=True)):
        cached = 256 * found
        for source, tokens in (("external_kv_transfer", cached), ("local_compute", prompt - cached)):
            world.add("engine:0", "vllm:prompt_tokens_by_source_total", tokens, label=source)
        world.add("engine:0", "vllm:prompt_tokens_total", prompt)
        world.add("engine:0", "vllm:prompt_tokens_cached_total", cached)
        world.add("engine:0", "vllm:request_success_total", 1, label='"length"')
        world.hand_out(found)
        records.append(record(i, prompt, cached, kind))
    world.store(stored)
    world.master["master_key_count"] -= evicted
    world.master["master_evicted_key_count"] += evicted
    world.master["master_put_start_alloc_failures_total"] += refused
    made = play(world, kind, prompts=())
    return replace(made, before=before, after=world.scrapes(), requests=tuple(records), planned=planned)


def evidence_of(one: Round, reference: Round | None = None) -> dict[str, Evidence]:
    return {item.id: item for item in round_evidence(one, view(), reference=reference)}


def broken(found: dict[str, Evidence]) -> dict[str, Fault]:
    return {name: item.fault for name, item in found.items() if item.status is Status.BROKEN}


def test_evictions_and_hits_that_an_lru_would_keep_are_no_fault() -> None:
    world = World()
    cold = measured(Kind.COLD, (0, 1, 1), stored=6, evicted=2, world=world)
    assert broken(evidence_of(cold)) == {}
    warm = measured(Kind.WARM, (2, 2, 2), stored=3, evicted=3, world=world)
    found = evidence_of(warm, cold)
    assert broken(found) == {}
    assert found["warm_store_hits"].expected == "6 to 9 keys handed out by Mooncake"
    assert found["warm_external_tokens"].expected == "1,521 to 2,304 cacheable tokens from outside"
    assert found["warm_hit_share"].expected == "at least 66.0% of what could be cached"
    assert "exact LRU" in found["warm_hit_share"].detail
    for check in ("no_evictions", "store_kept", "warm_prefill_fell"):
        assert found[check].status is Status.UNAVAILABLE


def test_the_same_round_without_a_steady_state_is_a_fault_of_the_product() -> None:
    bare = replace(PLANNED, steady_store_chunks=None)
    found = broken(evidence_of(measured(Kind.WARM, (2, 2, 2), stored=3, evicted=3, planned=bare)))
    assert {"warm_external_tokens", "warm_hit_share", "warm_store_hits", "no_evictions"} <= set(found)


def test_less_than_an_lru_keeps_is_a_fault_of_the_product() -> None:
    found = evidence_of(measured(Kind.WARM, (1, 2, 2), stored=4, evicted=4))
    assert set(broken(found).values()) == {Fault.PRODUCT}
    assert {"warm_external_tokens", "warm_cached_tokens", "warm_hit_share", "warm_store_hits"} == set(broken(found))


def test_more_than_all_of_it_is_somebody_elses() -> None:
    found = broken(evidence_of(measured(Kind.WARM, (3, 3, 4))))
    assert found["warm_store_hits"] is Fault.INSTRUMENT


def test_a_cold_round_is_held_to_what_an_lru_keeps_of_its_own_reuse() -> None:
    short = evidence_of(measured(Kind.COLD, (0, 0, 1), stored=5))
    assert broken(short) == {"cold_own_reuse": Fault.INSTRUMENT}
    more = broken(evidence_of(measured(Kind.COLD, (1, 2, 2), stored=5)))
    assert more["cold_no_store_hits"] is Fault.INSTRUMENT


@pytest.mark.parametrize(
    ("stored", "refused", "fault"),
    [(5, 0, None), (9, 0, None), (4, 0, Fault.PRODUCT), (4, 1, None), (10, 0, Fault.INSTRUMENT)],
)
def test_what_was_stored_is_there_or_was_evicted(stored: int, refused: int, fault: Fault | None) -> None:
    cold = evidence_of(measured(Kind.COLD, (0, 2, 2), stored=stored, evicted=3, refused=refused))
    assert broken(cold).get("cold_all_stored") is fault
    assert cold["cold_all_stored"].expected == "5 to 9 keys more in the store or evicted from it"
    assert cold["cold_puts_succeeded"].status is Status.HELD
    if refused:
        assert cold["cold_all_stored"].observed == "4 keys, 1 puts without space"


def test_a_master_without_counters_cannot_tell_what_was_stored() -> None:
    one = measured(Kind.COLD, (0, 2, 2), stored=5)
    blind = {item.id: item for item in round_evidence(one, view(store=False), reference=None)}
    assert blind["cold_all_stored"].status is Status.UNAVAILABLE


@pytest.mark.parametrize(
    ("hits", "least", "share"), [((2, 2, 2), 6, 1.0), ((3, 3, 3), 6, 1.0), ((1, 1, 1), 6, 0.5), ((0, 0, 0), 0, 1.0)]
)
def test_the_claim_counts_hits_against_what_an_lru_keeps(hits: tuple[int, ...], least: int, share: float) -> None:
    planned = replace(PLANNED, steady_warm_chunks=least)
    assert warm_hit_share(measured(Kind.WARM, hits, planned=planned), view(), reference=None) == pytest.approx(share)
