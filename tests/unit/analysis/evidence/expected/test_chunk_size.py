"""Units: what a cache of them serves, which ones fit, and who says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.evidence.expected.chunk_size import (
    ChunkSource,
    Reply,
    Unit,
    replies_of,
    rules_of,
    shares,
    units_of,
    wanted_tokens,
)
from pytest_mooncake.analysis.evidence.expected.formulae import HitRule, external_tokens
from pytest_mooncake.analysis.evidence.expected.told_chunks import GIVEN_CHUNK, chunk_tokens_of
from pytest_mooncake.records import Kind, Scrape, StackView
from tests.support.attached_cluster import ATTACHED
from tests.support.scripted_world import KV, record, view

BOTH = tuple(HitRule)


@given(st.lists(st.integers(1, 50_000), max_size=20), st.integers(1, 5000), st.sampled_from(HitRule))
def test_many_prompts_at_a_time_are_served_what_each_alone_is(lengths: list[int], size: int, rule: HitRule) -> None:
    expected = sum(external_tokens(length, size, rule=rule) for length in lengths)
    assert wanted_tokens(tuple(lengths), (Unit(size, rule),)) == (expected,)


def test_the_stack_tells_its_chunks_or_the_user_does_or_nobody() -> None:
    assert chunk_tokens_of(view()) == KV.chunk_tokens
    assert chunk_tokens_of(view(kv=None)) is None
    given_ = StackView(name="a", provisioned=False, engines=(), model="m", details={GIVEN_CHUNK: 544})
    assert chunk_tokens_of(given_) == 544
    sources = [units_of(seen, BOTH, ()).size.source for seen in (view(), given_, ATTACHED)]
    assert sources == [ChunkSource.TOLD, ChunkSource.GIVEN, ChunkSource.ASSUMED]


@pytest.mark.parametrize(
    ("details", "series", "rules"),
    [
        ({}, [], BOTH),
        ({"connector": "mooncakestore"}, [], (HitRule.LAST_CHUNK,)),
        ({"connector": "lmcache"}, [], (HitRule.LAST_TOKEN,)),
        ({}, ["lmcache:num_hit_tokens_total"], (HitRule.LAST_TOKEN,)),
        ({}, ['vllm:mooncake_store_operation_keys_total{operation="save_put"}'], (HitRule.LAST_CHUNK,)),
        ({}, ["lmcache_mp_num_submitted_stores_total"], BOTH),
    ],
)
def test_the_rule_is_the_connectors(details: dict[str, str], series: list[str], rules: tuple[HitRule, ...]) -> None:
    seen = StackView(name="a", provisioned=False, engines=(), model="m", details=details)
    scrape = Scrape(source="engine:0", at_ns=0, samples={"vllm:x": 1.0, **dict.fromkeys(series, 1.0)})
    assert rules_of(seen, (scrape,)) == rules
    mute = Scrape(source="engine:1", at_ns=0, samples={"vllm:x": 1.0})
    assert rules_of(seen, (scrape, mute)) == (rules if details else BOTH), "engines may have different connectors"


def test_a_stack_that_was_started_here_has_lmcache_unless_it_says_otherwise() -> None:
    assert rules_of(view()) == (HitRule.LAST_TOKEN,)


def test_the_usual_size_is_named_where_it_fits_among_others() -> None:
    assert units_of(ATTACHED, BOTH, [Reply(16_384, 16_383, 4)]).size.tokens == 256
    assert units_of(ATTACHED, BOTH, [Reply(2048, 2032, 4)]).size.tokens == 16
    assert units_of(ATTACHED, BOTH, [Reply(8999, 8998, 4)]).size.tokens == 1


def test_replies_that_were_served_nothing_find_nothing() -> None:
    units = units_of(ATTACHED, BOTH, [Reply(9000, 0, 9), Reply(9000, 16, 9)], common_tokens=16)
    assert (units.fitting, units.found, units.size.source) == ((), False, ChunkSource.ASSUMED)


def test_replies_that_fit_no_unit_together_find_none() -> None:
    units = units_of(ATTACHED, BOTH, [Reply(9000, 5000, 1), Reply(9000, 6000, 1), Reply(9000, 7000, 1)])
    assert not units.found


def test_a_unit_that_serves_less_than_replies_had_is_plausible_only_beside_a_nearer_tier() -> None:
    replies = [Reply(9000, 8960, 5), Reply(9000, 8192, 5)]
    larger = Unit(1024, HitRule.LAST_TOKEN)
    assert larger in units_of(ATTACHED, BOTH, replies).plausible
    assert larger not in units_of(ATTACHED, BOTH, replies, has_nearer=False).plausible


def test_what_one_request_had_beyond_its_unit_makes_up_for_no_miss_of_another() -> None:
    unit = (Unit(1024, HitRule.LAST_TOKEN),)
    assert shares((Reply(9000, 8992, 1), Reply(9000, 7168, 1)), unit) == ((8192 + 7168) / (2 * 8192),)
    assert shares((Reply(1000, 0, 3),), unit) == (1.0,), "of nothing that could be cached nothing is missing"
    assert shares((Reply(9000, 8192, 1), Reply(9000, 100, 1)), unit, common_tokens=100) == (0.5,)


def test_a_server_that_counts_what_was_found_is_read_as_what_was_saved() -> None:
    records = [record(0, 512, 512, Kind.WARM), record(1, 512, None, Kind.WARM), record(2, 9, 9, Kind.WARM, error="x")]
    assert replies_of(records) == (Reply(512, 0, 1), Reply(512, 511, 1))


def test_a_hundred_thousand_lengths_are_no_matter_of_memory() -> None:
    replies = tuple(Reply(3000 + i, (3000 + i) // 512 * 512 or 1, 1) for i in range(20_000))
    units = units_of(ATTACHED, BOTH, replies)
    assert 512 in {unit.tokens for unit in units.fitting}
