from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.workload.tokens.pools import WordPool, ordinary_ids, pool_from_tokenizer, pool_of_ids
from pytest_mooncake.workload.tokens.words import WORDS


def tokenizer_file(path: Path, model: dict[str, Any], added: list[dict[str, Any]] | None = None) -> Path:
    file = path / "tokenizer.json"
    file.write_text(json.dumps({"model": model, "added_tokens": added or []}), encoding="utf-8")
    return file


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


def test_special_and_byte_tokens_of_a_tokenizer_file_are_left_out(tmp_path: Path) -> None:
    vocab = {f"w{i}": i for i in range(100)} | {"<0x0A>": 100, "</s>": 101, "[odd]": 102}
    file = tokenizer_file(tmp_path, {"vocab": vocab}, [{"id": 102, "content": "[odd]"}])
    assert pool_from_tokenizer(file).ids == tuple(range(100))


def test_a_unigram_vocabulary_is_a_list_with_scores(tmp_path: Path) -> None:
    file = tokenizer_file(tmp_path, {"vocab": [["<unk>", 0.0], *([f"w{i}", -1.0] for i in range(80))]})
    assert pool_from_tokenizer(file).ids == tuple(range(1, 81))


@pytest.mark.parametrize("text", ["no json", "{}", '{"model": {"vocab": 3}}', "[]"])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(WorkloadError, match=r"tokenizer\.json: not a tokenizer\.json"):
        pool_from_tokenizer(file)


def test_a_missing_tokenizer_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"tokenizer\.json: cannot be read \(No such file"):
        pool_from_tokenizer(tmp_path / "tokenizer.json")


def test_plain_words_are_distinct_and_not_exact() -> None:
    assert len(set(WORDS)) == len(WORDS) > 500
    assert not WordPool().is_exact
    assert WordPool(overhead_tokens=3).is_exact
