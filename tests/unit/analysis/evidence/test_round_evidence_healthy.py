"""On a healthy stack every check that can be made holds, with the figures in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mooncake.analysis.evidence.round_evidence import judge_rung, reachable_rung, round_evidence
from pytest_mooncake.records import Evidence, Fault, Kind, KVGeometry, Rung, Scrape, Status
from tests.support.scripted_world import CHUNKS, EXTERNAL, KV, OBJECT, PROMPTS, World, play, view, without_cached_tokens


def by_id(evidence: tuple[Evidence, ...]) -> dict[str, Evidence]:
    ids = {item.id: item for item in evidence}
    assert len(ids) == len(evidence), "every id occurs once in a round"
    return ids


def broken(evidence: tuple[Evidence, ...]) -> set[str]:
    return {item.id for item in evidence if item.status is Status.BROKEN}


def unavailable(evidence: tuple[Evidence, ...]) -> set[str]:
    return {item.id for item in evidence if item.status is Status.UNAVAILABLE}


@pytest.mark.parametrize("engines", [1, 2])
def test_every_check_of_a_healthy_trial_is_made_and_holds(engines: int) -> None:
    world = World(engines=engines)
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1)

    seen = view(engines=engines)
    of_cold = round_evidence(cold, seen, reference=warm)
    of_warm = round_evidence(warm, seen, reference=cold)

    assert broken(of_cold) | broken(of_warm) == set()
    assert unavailable(of_cold) == set()
    assert unavailable(of_warm) == {"warm_ttft_fell"}, "times alone are only looked at where nothing better is known"
    assert reachable_rung(seen, (*of_cold, *of_warm)) is Rung.STORE
    assert {item.round for item in of_warm} == {1}


def test_the_figures_stand_in_words_with_their_units() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    warm = by_id(round_evidence(play(world, Kind.WARM, number=1), view(), reference=cold))
    stored = by_id(round_evidence(cold, view(), reference=None))["cold_all_stored"]

    assert (stored.expected, stored.observed) == (f"{CHUNKS} keys more in the store", f"{CHUNKS} keys more")
    assert warm["warm_external_tokens"].expected == f"{EXTERNAL:,} cacheable tokens from outside"
    assert warm["warm_external_tokens"].observed == f"{EXTERNAL:,} tokens"
    assert warm["warm_store_hits"].observed == f"{CHUNKS} keys"
    assert warm["warm_store_bytes"].observed == f"{CHUNKS * OBJECT:,} bytes"
    assert warm["warm_hit_share"].observed == f"100.00% ({EXTERNAL:,} of {EXTERNAL:,} cacheable tokens)"
    computed = sum(PROMPTS) - EXTERNAL
    assert warm["tokens_add_up"].observed.startswith(f"0 + {EXTERNAL:,} + {computed} = {sum(PROMPTS):,}")


def test_the_cold_round_tells_how_many_keys_to_expect_where_chunks_are_unknown() -> None:
    world = World()
    cold = play(world, Kind.COLD, prompts=(10_240, 10_240))
    warm = play(world, Kind.WARM, number=1, prompts=(10_240, 10_240))

    evidence = by_id(round_evidence(warm, view(kv=None), reference=cold))

    assert evidence["warm_store_hits"].status is Status.HELD
    assert evidence["warm_store_hits"].expected == "80 keys handed out by Mooncake"
    asked = "20,478 tokens in chunks of 256 (found in the replies)"
    assert evidence["warm_external_tokens"].expected == f"{asked} from outside"
    assert evidence["warm_external_tokens"].status is Status.HELD
    assert evidence["warm_hit_share"].observed.startswith("100.00% (20,478 of 20,478 tokens in chunks of 256")
    assert evidence["warm_no_lmcache_cpu"].status is Status.UNAVAILABLE, "keys of unknown size are no tokens"
    assert evidence["warm_store_bytes"].status is Status.UNAVAILABLE


def test_several_ranks_multiply_the_keys() -> None:
    two_ranks = KVGeometry(bytes_per_token=KV.bytes_per_token * 2, ranks=2)
    world = World()
    cold = play(world, Kind.COLD, stored=2 * CHUNKS)
    warm = play(world, Kind.WARM, number=1)
    world.hand_out(CHUNKS)
    warm = replace(warm, after=world.scrapes())

    assert broken(round_evidence(cold, view(kv=two_ranks), reference=None)) == set()
    assert broken(round_evidence(warm, view(kv=two_ranks), reference=cold)) == set()


def test_a_shortage_within_the_allowed_share_is_told_and_held() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1)
    warm = replace(warm, after=with_rise(world, "mem_cache_hit_nums_", -1))

    tolerant = by_id(round_evidence(warm, view(), reference=cold, warm_hit_share=0.9))["warm_store_hits"]
    strict = by_id(round_evidence(warm, view(), reference=cold, warm_hit_share=1.0))["warm_store_hits"]

    assert (tolerant.status, tolerant.detail) == (Status.HELD, "1 keys short, within the 10% allowed")
    assert (strict.status, strict.fault) == (Status.BROKEN, Fault.PRODUCT)


def test_a_chunk_that_was_never_put_is_told_and_held_within_the_allowed_share() -> None:
    cold = play(World(), Kind.COLD, stored=CHUNKS - 1)

    tolerant = by_id(round_evidence(cold, view(), reference=None, warm_hit_share=0.9))["cold_all_stored"]
    strict = by_id(round_evidence(cold, view(), reference=None, warm_hit_share=1.0))["cold_all_stored"]

    assert tolerant.status is Status.HELD
    assert tolerant.detail.startswith(
        "1 keys short, within the 10% allowed: where prefill ends with a step of one token"
    )
    assert (strict.status, strict.fault) == (Status.BROKEN, Fault.PRODUCT)
    assert "--mooncake-prompt-tokens" in strict.detail


def with_rise(world: World, series: str, amount: float) -> tuple[Scrape, ...]:
    world.master[series] += amount
    return world.scrapes()


def test_the_usage_rung_is_reached_without_any_counters() -> None:
    world = World(hidden={"engine:0", "master"})
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1)
    seen = view(store=False, kv=None, provisioned=False)
    evidence = (*round_evidence(cold, seen, reference=warm), *round_evidence(warm, seen, reference=cold))

    assert reachable_rung(seen, evidence) is Rung.USAGE
    verdict = judge_rung(Rung.USAGE, seen, evidence)
    assert verdict.enough
    assert not verdict.tier_proven
    assert verdict.reason.startswith("tier unproven: the evidence ends at the cached_tokens of the replies")


def test_a_rung_that_cannot_be_reached_names_the_option_that_accepts_less() -> None:
    world = World(hidden={"master"})
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1)
    seen = view(store=False)
    evidence = (*round_evidence(cold, seen, reference=warm), *round_evidence(warm, seen, reference=cold))

    verdict = judge_rung(Rung.STORE, seen, evidence)

    assert (verdict.enough, verdict.reached) == (False, Rung.ENGINE)
    assert "--mooncake-evidence engine would accept the engines' counters" in verdict.reason
    assert "--mooncake-master" in verdict.reason


def test_times_alone_are_judged_when_nothing_else_is_known() -> None:
    world = World(hidden={"engine:0", "master"})
    cold = without_cached_tokens(play(world, Kind.COLD))
    warm = without_cached_tokens(play(world, Kind.WARM, number=1))
    seen = view(store=False, kv=None)

    evidence = round_evidence(warm, seen, reference=cold)

    assert by_id(evidence)["warm_ttft_fell"].status is Status.HELD
    assert by_id(evidence)["warm_ttft_fell"].expected == "mean TTFT below the cold round's: 900 ms"
    assert reachable_rung(seen, evidence) is Rung.TIMING
    slow = by_id(round_evidence(replace(cold, kind=Kind.WARM), seen, reference=cold))["warm_ttft_fell"]
    assert slow.status is Status.UNAVAILABLE, "times alone prove no miss"


def test_a_server_that_leaves_out_zero_cached_tokens_is_read_as_zero_once_it_showed_any() -> None:
    world = World()
    cold = without_cached_tokens(play(world, Kind.COLD))
    warm = play(world, Kind.WARM, number=1)

    assert by_id(round_evidence(cold, view(), reference=None))["cold_no_cached_tokens"].status is Status.UNAVAILABLE
    assert by_id(round_evidence(cold, view(), reference=warm))["cold_no_cached_tokens"].status is Status.HELD


def test_vllms_own_store_connector_drops_the_last_block_of_a_whole_prompt() -> None:
    seen = replace(view(), details={"connector": "mooncakestore"})
    evidence = by_id(round_evidence(play(World(), Kind.WARM), seen, reference=None))

    assert evidence["warm_external_tokens"].expected == "2,560 cacheable tokens from outside"


def test_prompts_shorter_than_a_chunk_have_no_share_to_judge() -> None:
    world = World()
    cold = play(world, Kind.COLD, prompts=(100, 255))
    warm = play(world, Kind.WARM, number=1, prompts=(100, 255))

    evidence = by_id(round_evidence(warm, view(), reference=cold))

    assert evidence["warm_hit_share"].status is Status.UNAVAILABLE
    assert "shorter than one chunk" in evidence["warm_hit_share"].detail
