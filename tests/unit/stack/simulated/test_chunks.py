from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.stack.simulated.chunks import chained_hashes, external_hit, object_keys

TOKENS = st.lists(st.integers(0, 8191), max_size=40)


@given(TOKENS, st.integers(1, 16))
def test_there_is_one_hash_for_each_whole_chunk(tokens: list[int], size: int) -> None:
    assert len(chained_hashes(tokens, size)) == len(tokens) // size


@given(TOKENS, TOKENS, TOKENS)
def test_equal_prefixes_share_hashes_and_nothing_after_a_difference_does(
    shared: list[int], left: list[int], right: list[int]
) -> None:
    size = 4
    one, other = chained_hashes([*shared, 1, *left], size), chained_hashes([*shared, 2, *right], size)
    common = len(shared) // size
    assert one[:common] == other[:common]
    assert not set(one[common:]) & set(other[common:])


def test_a_nonce_at_the_first_token_changes_every_hash() -> None:
    assert not set(chained_hashes([1, *range(1000)], 256)) & set(chained_hashes([2, *range(1000)], 256))


def test_keys_have_the_form_of_lmcache_with_tags_at_the_end() -> None:
    assert object_keys("m", ["ab"], {}) == ["m@1@0@ab@bfloat16"]
    assert object_keys("m", ["ab"], {"run": "7", "a": "b"}) == ["m@1@0@ab@bfloat16@a%b@run%7"]


@pytest.mark.parametrize(
    ("prompt_tokens", "expected"),
    [(255, 0), (256, 255), (257, 256), (511, 256), (512, 511), (513, 512), (9728, 9727), (16384, 16383)],
)
def test_a_full_hit_counts_whole_chunks_less_a_recomputed_last_token(prompt_tokens: int, expected: int) -> None:
    # LMCache 0.5.6, get_num_new_matched_tokens: edge table of the 255/256/257 rule
    assert external_hit(prompt_tokens, prompt_tokens // 256, 256) == expected


@given(st.integers(1, 5000), st.data())
def test_at_least_one_token_is_always_computed(prompt_tokens: int, data: st.DataObject) -> None:
    chunks = data.draw(st.integers(0, prompt_tokens // 256))
    local = data.draw(st.integers(0, (prompt_tokens - 1) // 128)) * 128
    external = external_hit(prompt_tokens, chunks, 256, local)
    assert external >= 0
    assert prompt_tokens - local - external >= 1
