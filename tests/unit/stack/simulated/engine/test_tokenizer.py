from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.stack.simulated.engine.tokenizer import SPECIAL, Vocabulary

VOCABULARY = Vocabulary(8192)
IDS = st.lists(st.integers(0, 8191), max_size=60)


@pytest.mark.parametrize("size", [4, 60, 3603, 8192, 70000])
def test_every_id_has_a_word_of_its_own(size: int) -> None:
    words = Vocabulary(size).words
    assert len(words) == len(set(words)) == size
    assert all(len(word.split()) == 1 for word in words)


@given(IDS)
def test_encoding_undoes_decoding(ids: list[int]) -> None:
    assert VOCABULARY.encode(VOCABULARY.decode(ids)) == ids


@given(st.text())
def test_any_text_has_as_many_tokens_as_words_and_none_is_special_by_chance(text: str) -> None:
    ids = VOCABULARY.encode(text)
    assert len(ids) == len(text.split())
    assert all(number >= len(SPECIAL) for number, word in zip(ids, text.split(), strict=True) if word not in SPECIAL)


@given(st.text(), st.text())
def test_joined_texts_have_joined_tokens(left: str, right: str) -> None:
    assert VOCABULARY.encode(f"{left} {right}") == VOCABULARY.encode(left) + VOCABULARY.encode(right)


def test_a_token_outside_the_vocabulary_has_no_word() -> None:
    with pytest.raises(IndexError):
        VOCABULARY.decode([8192])


@given(st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text()), max_size=4))
def test_the_chat_template_adds_three_tokens_a_message_and_two_at_the_end(messages: Any) -> None:
    plain = sum(len(text.split()) for _, text in messages)
    with_prompt = VOCABULARY.encode_chat(messages)
    assert len(with_prompt) == plain + 3 * len(messages) + 2
    assert VOCABULARY.encode_chat(messages, generation_prompt=False) == with_prompt[:-2]
