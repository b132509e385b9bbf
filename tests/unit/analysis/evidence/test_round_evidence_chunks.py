"""Whatever its chunks are and however its connector ends a prompt, a healthy cluster is never blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mooncake.analysis.evidence.expected.formulae import HitRule
from pytest_mooncake.analysis.evidence.expected.told_chunks import GIVEN_CHUNK
from pytest_mooncake.analysis.evidence.hit_share import warm_hit_share
from pytest_mooncake.analysis.evidence.round_evidence import reachable_rung
from pytest_mooncake.records import Fault, KVGeometry, Rung, Status
from tests.support.attached_cluster import ATTACHED, DECISIVE, Cluster, broken, evidence_of, statuses
from tests.support.scripted_world import view

SIZES = (16, 64, 128, 256, 512, 544, 1024, 2048)
clusters = st.builds(
    Cluster,
    chunk=st.sampled_from(SIZES),
    rule=st.sampled_from(HitRule),
    ranks=st.sampled_from((1, 2, 8)),
    template=st.just(0),
    counts=st.booleans(),
    tells=st.booleans(),
)
lengths = st.lists(st.integers(1, 20_000) | st.sampled_from((2048, 9000, 16_384)), min_size=1, max_size=8)
whole = st.lists(st.integers(1, 8), min_size=1, max_size=6)


@settings(deadline=None)
@given(clusters, lengths)
def test_a_healthy_cluster_of_unknown_chunks_is_never_blamed(cluster: Cluster, prompts: list[int]) -> None:
    cold, warm = cluster.trial(prompts)
    assert broken(evidence_of(cold, None)) == {}
    assert broken(evidence_of(warm, cold)) == {}
    share = warm_hit_share(warm, ATTACHED, reference=cold, least=0.99)
    assert share is None or share >= 0.99


@settings(deadline=None)
@given(clusters, whole)
def test_neither_is_one_whose_prompts_are_whole_chunks(cluster: Cluster, times: list[int]) -> None:
    cold, warm = cluster.trial([cluster.chunk * each for each in times])
    assert broken(evidence_of(warm, cold)) == {}


@settings(deadline=None)
@given(clusters, lengths)
def test_a_given_chunk_size_judges_a_healthy_cluster_by_every_source_that_tells(
    cluster: Cluster, prompts: list[int]
) -> None:
    cold, warm = cluster.trial(prompts)
    found = evidence_of(warm, cold, replace(ATTACHED, details={GIVEN_CHUNK: cluster.chunk}))
    assert broken(found) == {}
    short = all(cluster.external(prompt) == 0 for prompt in prompts)
    for name, shown in (("warm_external_tokens", cluster.counts), ("warm_cached_tokens", cluster.tells)):
        assert short or found[name].status is (Status.HELD if shown else Status.UNAVAILABLE)


@settings(deadline=None)
@given(clusters, st.integers(2, 12), st.integers(20, 20_000), st.data())
def test_a_request_that_missed_beside_its_like_is_never_held(
    cluster: Cluster, requests: int, length: int, data: st.DataObject
) -> None:
    if not cluster.external(length) or not (cluster.tells or cluster.counts):
        return
    missed = data.draw(st.sets(st.integers(0, requests - 1), min_size=1, max_size=requests - 1))
    cold, warm = cluster.trial([length] * requests, missed=sorted(missed))
    found = evidence_of(warm, cold)
    if cluster.tells:
        assert found["warm_cached_tokens"].status is Status.BROKEN
        assert found["warm_cached_tokens"].fault is Fault.PRODUCT
        assert (warm_hit_share(warm, ATTACHED, reference=cold, least=0.99) or 0) < 0.99
        assert Status.HELD not in statuses(found)
    assert found["warm_store_hits"].status is not Status.HELD, (
        "a sum of tokens may be that of larger chunks, keys are not"
    )


@settings(deadline=None)
@given(clusters, st.lists(st.integers(4097, 20_000), min_size=1, max_size=6))
def test_long_prompts_of_which_nothing_is_served_are_a_miss_by_any_chunk_size(
    cluster: Cluster, prompts: list[int]
) -> None:
    cold, warm = cluster.trial(prompts, missed=range(len(prompts)))
    found = broken(evidence_of(warm, cold))
    assert set(found.values()) <= {Fault.PRODUCT}
    assert ("warm_cached_tokens" in found) is cluster.tells
    assert ("warm_external_tokens" in found) is cluster.counts


def test_short_prompts_of_which_nothing_is_served_may_be_shorter_than_a_chunk() -> None:
    cold, warm = Cluster(chunk=2048).trial([2000] * 4)
    found = evidence_of(warm, cold)
    assert broken(found) == {}
    assert found["warm_cached_tokens"].status is Status.UNAVAILABLE
    assert "--mooncake-chunk-tokens" in found["warm_cached_tokens"].detail
    assert reachable_rung(ATTACHED, tuple(found.values())) is Rung.TIMING
    given_ = evidence_of(warm, cold, replace(ATTACHED, details={GIVEN_CHUNK: 2048}))
    assert "shorter than one chunk" in given_["warm_cached_tokens"].detail


@pytest.mark.parametrize(("chunk", "length"), [(1024, 9000), (1024, 2500), (544, 9000), (544, 2048), (2048, 9000)])
def test_a_chunk_size_other_than_the_usual_is_found_in_the_replies(chunk: int, length: int) -> None:
    cold, warm = Cluster(chunk=chunk).trial([length] * 10)
    found = evidence_of(warm, cold)
    assert statuses(found) == [Status.HELD] * len(DECISIVE)
    assert "found in the replies" in found["warm_hit_share"].observed


def test_a_size_that_was_given_is_not_overruled_by_replies_that_fit_another() -> None:
    cold, warm = Cluster(chunk=1024).trial([9000] * 4)
    found = evidence_of(warm, cold, replace(ATTACHED, details={GIVEN_CHUNK: 256}))
    assert broken(found)["warm_cached_tokens"] is Fault.PRODUCT
    assert found["warm_hit_share"].observed == "91.43% (32,768 of 35,840 tokens in chunks of 256 (given))"


def test_a_sum_that_only_another_chunk_size_explains_cannot_be_told() -> None:
    """35 requests in chunks of 256 of which one missed make the sum of 35 that are served in chunks of 512."""
    cold, warm = Cluster(chunk=256, tells=False).trial([9000] * 35, missed=[3])
    assert evidence_of(warm, cold)["warm_external_tokens"].status is Status.UNAVAILABLE


def test_requests_served_by_a_nearer_tier_beside_others_are_no_miss() -> None:
    cold, warm = Cluster(chunk=1024, counts=False).trial([9000] * 10)
    nearer = tuple(replace(one, cached_tokens=8992) if one.index < 7 else one for one in warm.requests)
    found = evidence_of(replace(warm, requests=nearer), cold)
    assert broken(found) == {}
    assert found["warm_cached_tokens"].status is Status.UNAVAILABLE, "or seven of 16 tokens, and three that missed"


def test_the_rounds_of_a_run_have_one_chunk_size_and_what_contradicts_it_cannot_be_told() -> None:
    cluster = Cluster(chunk=1024, counts=False)
    cold, first = cluster.trial([9000] * 4)
    later = replace(first, round=3, requests=tuple(replace(one, cached_tokens=6144) for one in first.requests))
    alone, together = evidence_of(later, cold), evidence_of(later, cold, rounds=(cold, first, later))
    assert alone["warm_cached_tokens"].status is Status.HELD, "6,144 tokens are two chunks of 3,072"
    assert together["warm_cached_tokens"].status is Status.UNAVAILABLE


def test_a_chunk_that_was_lost_now_and_then_is_within_what_is_allowed() -> None:
    cold, warm = Cluster(chunk=256, counts=False).trial([9000] * 20)
    lost = (replace(warm.requests[0], cached_tokens=8960 - 256), *warm.requests[1:])
    found = evidence_of(replace(warm, requests=lost), cold)
    assert found["warm_cached_tokens"].status is Status.HELD
    assert found["warm_hit_share"].observed.startswith("99.86%")


def test_the_connectors_own_series_tell_its_rule() -> None:
    series = 'vllm:mooncake_store_operation_keys_total{operation="save_put"}'
    cluster = Cluster(chunk=256, rule=HitRule.LAST_CHUNK, tells=False, series=series)
    cold, warm = cluster.trial([2048] * 4)
    seen = replace(ATTACHED, details={GIVEN_CHUNK: 256})
    assert evidence_of(warm, cold, seen)["warm_external_tokens"].expected.startswith(f"{4 * 1792:,} tokens")
    lmcache = replace(cluster, rule=HitRule.LAST_TOKEN, series="lmcache:num_requested_tokens_total")
    cold, warm = lmcache.trial([2048] * 4)
    assert evidence_of(warm, cold, seen)["warm_external_tokens"].expected.startswith(f"{4 * 2047:,} tokens")


@pytest.mark.parametrize("chunk", [16, 128, 256])
def test_vllms_own_store_connector_is_healthy_with_prompts_of_whole_blocks_where_nothing_tells_of_it(
    chunk: int,
) -> None:
    cold, warm = Cluster(chunk=chunk, rule=HitRule.LAST_CHUNK).trial([16_384] * 10)
    assert statuses(evidence_of(warm, cold)) == [Status.HELD] * len(DECISIVE)


def test_a_told_geometry_with_an_unknown_connector_expects_either_end_of_a_prompt() -> None:
    seen = view(kv=KVGeometry(bytes_per_token=512, chunk_tokens=256), provisioned=False)
    for rule in HitRule:
        cold, warm = Cluster(chunk=256, rule=rule, tells=False).trial([16_384] * 10)
        assert broken(evidence_of(warm, cold, seen)) == {}
    cold, warm = Cluster(chunk=256, tells=False).trial([16_384] * 10, missed=[1])
    assert broken(evidence_of(warm, cold, seen))["warm_store_hits"] is Fault.PRODUCT


def test_a_warm_round_without_any_hit_says_what_that_may_mean_and_what_to_do() -> None:
    cold, warm = Cluster(chunk=4096).trial([2048] * 4)
    found = evidence_of(warm, cold)["warm_cached_tokens"]
    assert found.status is Status.UNAVAILABLE
    assert "nothing was cached of prompts of 2,048 tokens" in found.detail
    assert "--mooncake-chunk-tokens N" in found.detail
    assert "--mooncake-prompt-tokens" in found.detail
