"""The formulae of what a prompt leaves in the store and brings back."""

from __future__ import annotations

import doctest
import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.evidence.expected.formulae import (
    HitRule,
    cached_tokens,
    chunks_stored,
    computed_tokens,
    expect,
    external_tokens,
    kv_bytes_per_token,
    object_bytes,
    prompt_bytes,
)
from pytest_mooncake.records import KVGeometry

prompts = st.integers(min_value=1, max_value=200_000)
chunk_sizes = st.sampled_from((16, 128, 256, 512))


@pytest.mark.parametrize(
    "module",
    [
        *("analysis.evidence.expected.formulae", "analysis.evidence.counters.sources"),
        *("analysis.evidence.checks.refusals", "analysis.evidence.checks.near_ties"),
        *("cache.keys", "cache.store_budget"),
    ],
)
def test_the_examples_in_the_docstrings_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"pytest_mooncake.{module}"))

    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    ("prompt", "external"),
    [(255, 0), (256, 255), (257, 256), (511, 256), (512, 511), (513, 512), (9728, 9727), (16384, 16383)],
)
def test_external_tokens_at_the_edges_of_a_chunk(prompt: int, external: int) -> None:
    assert external_tokens(prompt, 256) == external


@pytest.mark.parametrize(("prompt", "external"), [(127, 0), (128, 0), (129, 128), (8192, 8064), (16384, 16256)])
def test_vllms_own_connector_drops_the_last_whole_block(prompt: int, external: int) -> None:
    assert external_tokens(prompt, 128, rule=HitRule.LAST_CHUNK) == external


def test_of_a_prompt_of_whole_blocks_vllms_own_connector_reads_all_but_the_last() -> None:
    kv = KVGeometry(bytes_per_token=512, chunk_tokens=128, ranks=2)
    own, lmcache = (expect([8192, 8200, 100], kv, rule=rule) for rule in (HitRule.LAST_CHUNK, HitRule.LAST_TOKEN))

    assert (own.objects, own.objects_read) == (2 * 128, 2 * 127)
    assert (lmcache.objects, lmcache.objects_read) == (2 * 128, 2 * 128)


@pytest.mark.parametrize(("local", "external"), [(0, 1023), (128, 895), (256, 767), (384, 639), (1023, 0)])
def test_what_the_engine_already_has_is_not_served_again(local: int, external: int) -> None:
    assert external_tokens(1024, 256, local_tokens=local) == external


def test_the_first_missing_chunk_ends_the_hit() -> None:
    assert [external_tokens(1024, 256, present_chunks=n) for n in (0, 1, 3, 4, 9)] == [0, 256, 768, 1023, 1023]


@pytest.mark.parametrize(
    ("layers", "heads", "dim", "per_token", "chunk_mib"),
    [
        (80, 8, 128, 327_680, 80),
        (64, 8, 128, 262_144, 64),
        (36, 8, 128, 147_456, 36),
        (32, 8, 128, 131_072, 32),
        (28, 4, 128, 57_344, 14),
        (28, 2, 128, 28_672, 7),
        (24, 2, 64, 12_288, 3),
    ],
)
def test_kv_bytes_of_published_models(layers: int, heads: int, dim: int, per_token: int, chunk_mib: int) -> None:
    assert kv_bytes_per_token(layers, heads, dim) == per_token
    assert object_bytes(KVGeometry(bytes_per_token=per_token)) == chunk_mib * 2**20


def test_the_published_workload_of_lmcache_occupies_148_gib_in_15200_objects() -> None:
    kv = KVGeometry(bytes_per_token=327_680, ranks=8, object_header_bytes=28)
    sums = expect([9728] * 50, kv)

    assert sums.objects == 15_200
    assert round(sums.store_bytes / 2**30, 1) == 148.4
    assert sums.store_bytes == 50 * prompt_bytes(9728, kv)
    assert sums.external_tokens == 50 * 9727


@given(prompts, chunk_sizes, st.integers(min_value=0, max_value=200_000))
def test_every_prompt_token_is_cached_or_computed_and_at_least_one_is_computed(p: int, s: int, local: int) -> None:
    local = min(local, p - 1)

    assert cached_tokens(p, s, local_tokens=local) + computed_tokens(p, s, local_tokens=local) == p
    assert computed_tokens(p, s, local_tokens=local) >= 1


@given(prompts, chunk_sizes)
def test_what_is_read_is_what_was_stored(p: int, s: int) -> None:
    kv = KVGeometry(bytes_per_token=64, chunk_tokens=s)

    assert prompt_bytes(p, kv) == chunks_stored(p, s) * s * 64
    assert 0 <= chunks_stored(p, s) * s - external_tokens(p, s) <= 1


@given(st.lists(prompts, min_size=1, max_size=20), chunk_sizes)
def test_sums_over_a_round_are_the_sums_of_its_prompts(lengths: list[int], s: int) -> None:
    sums = expect(lengths, KVGeometry(bytes_per_token=512, chunk_tokens=s, ranks=2))

    assert sums.prompt_tokens == sum(lengths)
    assert sums.objects == 2 * sum(chunks_stored(p, s) for p in lengths)
    assert sums.external_tokens <= sums.chunks * s
