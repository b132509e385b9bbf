from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.workload.tokens.pools import WordPool, ordinary_ids, pool_of_ids
from pytest_mooncake.workload.tokens.words import WORDS


def test_a_pool_holds_each_id_once() -> None:
    assert pool_of_ids([*range(100), *range(50)], "test").ids == tuple(range(100))


def test_a_vocabulary_above_two_bytes_is_thinned_evenly() -> None:
    ids = pool_of_ids(range(150_000), "test").ids
    assert len(ids) <= 65_536
    assert ids[:3] == (0, 3, 6)


def test_too_small_a_vocabulary_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        WorkloadError, match=r"only 10 ordinary token ids came from here, 64 are needed.*--mooncake-api"
    ):
        pool_of_ids(range(10), "here")


@given(
    words=st.lists(st.integers(10, 99), min_size=2, max_size=40, unique=True),
    head=st.lists(st.integers(0, 4), max_size=2),
    tail=st.lists(st.integers(5, 9), max_size=2),
)
def test_marks_around_every_text_are_not_ordinary(words: list[int], head: list[int], tail: list[int]) -> None:
    first, second = [*head, *words, *tail], [*head, *reversed(words), *tail]
    assert ordinary_ids(first, second) == set(words)


def test_plain_words_are_distinct_and_not_exact() -> None:
    assert len(set(WORDS)) == len(WORDS) > 500
    assert not WordPool().is_exact
    assert WordPool(overhead_tokens=3).is_exact
