"""What an endpoint puts in front of every prompt is served to everybody: neither a warm prompt nor a wrong tier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_mooncake.analysis.evidence.hit_share import warm_hit_share
from pytest_mooncake.records import Fault, KVGeometry, Round, Status
from tests.support.attached_cluster import ATTACHED, Cluster, broken, evidence_of, planned
from tests.support.scripted_world import view

PROMPTS = [2050] * 10


def with_plan(rounds: Sequence[Round], common_tokens: int | None) -> list[Round]:
    return [replace(one, planned=planned(10, common_tokens=common_tokens)) for one in rounds]


def with_cached(this: Round, cached: Sequence[int | None]) -> Round:
    records = zip(this.requests, cached, strict=True)
    return replace(this, requests=tuple(replace(record, cached_tokens=one) for record, one in records))


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("counts", [True, False])
def test_a_templates_blocks_are_allowed_for_in_every_round(counts: bool, tells: bool) -> None:
    cold, warm = with_plan(Cluster(chunk=256, template=16, counts=counts, tells=tells).trial(PROMPTS), 31)
    assert broken(evidence_of(cold, None)) == {}
    found = evidence_of(warm, cold)
    assert broken(found) == {}
    assert found["warm_external_tokens"].status is (Status.HELD if counts else Status.UNAVAILABLE)
    assert found["warm_cached_tokens"].status is (Status.HELD if tells else Status.UNAVAILABLE)
    if counts or tells:
        assert warm_hit_share(warm, ATTACHED, reference=cold, least=0.99) == 1.0


def test_it_is_expected_in_words() -> None:
    cold, warm = with_plan(Cluster(chunk=256, template=16).trial(PROMPTS), 31)
    of_cold, of_warm = evidence_of(cold, None), evidence_of(warm, cold)
    asked = "at most 310 cached tokens in the replies, a common beginning of 31 tokens"
    assert of_cold["cold_no_cached_tokens"].expected == asked
    assert of_warm["warm_no_local_hits"].expected.startswith("at most 310 tokens from the engine's own prefix cache")


def test_one_block_more_than_the_template_has_is_a_prompt_that_had_been_cached() -> None:
    cold, _ = with_plan(Cluster(chunk=256, template=16, counts=False).trial(PROMPTS), 31)
    found = evidence_of(with_cached(cold, [32, *[16] * 9]), None)
    assert broken(found) == {"cold_no_cached_tokens": Fault.INSTRUMENT}


def test_more_than_the_template_from_the_engines_cache_is_the_wrong_tier() -> None:
    cold, warm = with_plan(Cluster(chunk=256, template=48).trial(PROMPTS), 31)
    assert broken(evidence_of(cold, None))["cold_no_local_hits"] is Fault.INSTRUMENT
    assert broken(evidence_of(warm, cold))["warm_no_local_hits"] is Fault.PRODUCT


def test_a_miss_behind_a_template_that_was_served_is_a_miss() -> None:
    for counts in (True, False):
        cluster = Cluster(chunk=256, template=16, counts=counts)
        cold, warm = with_plan(cluster.trial([9000] * 10, missed=[2, 5]), 31)
        found = evidence_of(warm, cold)
        assert broken(found)["warm_cached_tokens"] is Fault.PRODUCT
        assert found["warm_cached_tokens"].observed.endswith("2 of 10 replies had none")
        cold, warm = with_plan(cluster.trial([9000] * 10, missed=range(10)), 31)
        assert broken(evidence_of(warm, cold))["warm_cached_tokens"] is Fault.PRODUCT


def test_a_gateways_own_prompt_is_what_the_server_counts_beyond_the_plan() -> None:
    cold, warm = with_plan(Cluster(chunk=256, template=64).trial(PROMPTS), 0)
    added = [
        replace(one, requests=tuple(replace(r, prompt_tokens_planned=2050 - 70) for r in one.requests))
        for one in (cold, warm)
    ]
    assert broken(evidence_of(added[0], None)) == broken(evidence_of(added[1], added[0])) == {}
    assert broken(evidence_of(cold, None)) == {
        "cold_no_local_hits": Fault.INSTRUMENT,
        "cold_no_cached_tokens": Fault.INSTRUMENT,
    }


@pytest.mark.parametrize("plan", [True, False])
def test_a_template_of_unknown_length_is_the_same_few_tokens_of_every_prompt(plan: bool) -> None:
    prompts = [2050, 3000, 4100, 2050]
    cold, warm = Cluster(chunk=256, template=160).trial(prompts)
    if plan:
        cold, warm = (replace(one, planned=planned(4, common_tokens=None)) for one in (cold, warm))
    assert broken(evidence_of(cold, None)) == broken(evidence_of(warm, cold)) == {}


@pytest.mark.parametrize("cached", [[16, 32, 16, 16], [1040] * 4, [16, 0, 0, 0], [2032] * 4])
def test_what_no_common_beginning_explains_makes_the_round_not_cold(cached: list[int]) -> None:
    cold, _ = Cluster(chunk=256, counts=False).trial([2050] * 4)
    found = evidence_of(with_cached(cold, cached), None)
    assert broken(found) == {"cold_no_cached_tokens": Fault.INSTRUMENT}


def test_the_first_requests_of_a_run_find_no_template_yet() -> None:
    cold, _ = Cluster(chunk=256, counts=False).trial([2050] * 4)
    assert broken(evidence_of(with_cached(cold, [0, 0, 16, 16]), None)) == {}


def test_sums_alone_do_not_tell_a_template_of_unknown_length_from_prompts() -> None:
    cold, warm = with_plan(Cluster(chunk=256, template=64, tells=False).trial(PROMPTS), None)
    of_cold, of_warm = evidence_of(cold, None), evidence_of(warm, cold)
    assert of_cold["cold_no_local_hits"].status is of_warm["warm_no_local_hits"].status is Status.UNAVAILABLE
    assert "--enable-prompt-tokens-details" in of_cold["cold_no_local_hits"].detail
    cold, warm = with_plan(Cluster(chunk=256, template=1536, tells=False).trial(PROMPTS), None)
    assert broken(evidence_of(cold, None)) == {"cold_no_local_hits": Fault.INSTRUMENT}
    assert broken(evidence_of(warm, cold))["warm_no_local_hits"] is Fault.PRODUCT


def test_chunks_of_a_long_template_are_stored_once_and_read_by_whoever_is_nearest() -> None:
    seen = view(kv=KVGeometry(bytes_per_token=512, chunk_tokens=256), provisioned=False)
    cold, warm = with_plan(Cluster(chunk=256, template=512).trial(PROMPTS), 520)
    stored = 10 * 8 - 9 * 2
    after = tuple(
        replace(scrape, samples={**scrape.samples, "master_key_count": 5000.0 + stored})
        if scrape.source == "master"
        else scrape
        for scrape in cold.after
    )
    cold = replace(cold, planned=replace(planned(10, common_tokens=520), distinct_chunks=80), after=after)
    read = tuple(
        replace(scrape, samples={**scrape.samples, "mem_cache_hit_nums_": 60.0})
        if scrape.source == "master"
        else scrape
        for scrape in warm.after
    )
    assert evidence_of(cold, None, seen)["cold_all_stored"].status is Status.HELD
    assert evidence_of(replace(warm, after=read), cold, seen)["warm_store_hits"].status is Status.HELD
