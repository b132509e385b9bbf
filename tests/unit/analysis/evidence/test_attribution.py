"""Every prompt token is attributed to exactly one tier."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.evidence.attribution import Attribution, attribute
from pytest_mooncake.analysis.evidence.counters.deltas import deltas
from pytest_mooncake.analysis.evidence.round_evidence import attribution_table
from pytest_mooncake.records import Kind, KVGeometry, Round
from tests.support.scripted_world import EXTERNAL, KV, PROMPTS, Tier, World, play, view


def table(measured: Round, kv: KVGeometry | None = KV) -> Attribution:
    return attribute(deltas(measured.before, measured.after), kv)


@pytest.mark.parametrize(
    ("tier", "row"), [("gpu", 0), ("lmcache_cpu", 1), ("mooncake", 2), ("none", 3)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("engines", [1, 2])
def test_tokens_go_to_the_tier_that_served_them(tier: Tier, row: int, engines: int) -> None:
    rows = table(play(World(engines=engines), Kind.WARM, tier=tier)).rows()
    rest = sum(PROMPTS) - EXTERNAL

    tokens = [0, 0, 0, rest]
    tokens[row] = EXTERNAL if tier != "none" else sum(PROMPTS)
    assert [count for _, count in rows] == tokens


@given(
    st.lists(
        st.tuples(st.integers(min_value=1, max_value=5000), st.sampled_from(("gpu", "mooncake", "none"))),
        min_size=1,
        max_size=12,
    )
)
def test_the_rows_add_up_to_the_engines_own_total(served: Sequence[tuple[int, Tier]]) -> None:
    world = World(engines=2)
    before = world.scrapes()
    for i, (prompt, tier) in enumerate(served):
        world.serve(i % 2, prompt, tier)
    found = attribute(deltas(before, world.scrapes()), KV)

    assert found.unexplained_tokens == 0
    assert sum(count or 0 for _, count in found.rows()) == sum(prompt for prompt, _ in served)


def test_without_store_counters_external_tokens_are_not_split() -> None:
    found = table(play(World(hidden={"master"}), Kind.WARM, tier="mooncake"))

    assert (found.external_tokens, found.mooncake_tokens, found.lmcache_cpu_tokens) == (EXTERNAL, None, None)
    assert found.unexplained_tokens == 0


def test_without_the_geometry_keys_are_no_tokens_and_nothing_is_split_by_proportion() -> None:
    found = table(play(World(), Kind.WARM), kv=None)
    assert (found.external_tokens, found.mooncake_tokens, found.lmcache_cpu_tokens) == (EXTERNAL, None, None)
    nearer = table(play(World(), Kind.WARM, tier="lmcache_cpu"), kv=None)
    assert (nearer.mooncake_tokens, nearer.lmcache_cpu_tokens) == (0, EXTERNAL), "no key at all is no token at all"


def test_without_any_counters_nothing_is_known() -> None:
    found = table(play(World(hidden={"master", "engine:0"}), Kind.WARM))

    assert [count for _, count in found.rows()] == [None] * 4
    assert found.unexplained_tokens is None


@pytest.mark.parametrize("engines", [1, 2])
def test_every_row_of_a_runs_table_holds_both_sides_of_the_account(engines: int) -> None:
    world = World(engines=engines)
    cold, warm = play(world, Kind.COLD), play(world, Kind.WARM, number=1)
    rows = attribution_table((cold, warm), view(engines=engines))

    assert [(row["round"], row["kind"], row["phase"]) for row in rows] == [(0, "cold", "chain"), (1, "warm", "chain")]
    assert [row["mooncake_tokens"] for row in rows] == [0, EXTERNAL]
    assert [row["computed_tokens"] for row in rows] == [sum(PROMPTS), sum(PROMPTS) - EXTERNAL]
    assert all(row["prompt_tokens"] == row["tokens_sent"] == sum(PROMPTS) for row in rows)
    assert all(row["unexplained_tokens"] == 0 for row in rows)


def test_a_table_without_counters_says_not_measured() -> None:
    row = attribution_table((play(World(hidden={"master", "engine:0"}), Kind.COLD),), view())[0]
    assert (row["prompt_tokens"], row["mooncake_tokens"], row["unexplained_tokens"]) == (None, None, None)
    assert row["tokens_sent"] == sum(PROMPTS)
