"""What the chunks of a stream mean: first token, tokens per chunk, usage, errors."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.load.reading import StreamReading

NO_TOKENS = {"prompt_tokens": 3, "completion_tokens": 0}


def read(*chunks: Any, chat: bool = False) -> StreamReading:
    """Chunk i arrives at i; bytes are taken as they are."""
    reading = StreamReading(chat=chat)
    for at_ns, chunk in enumerate(chunks):
        reading.take((at_ns, chunk if isinstance(chunk, bytes) else orjson.dumps(chunk)))
    return reading


def text(value: str, tokens: int | None = None, finish: str | None = None) -> dict[str, Any]:
    chunk: dict[str, Any] = {"choices": [{"index": 0, "text": value, "finish_reason": finish}]}
    return chunk if tokens is None else {**chunk, "usage": counted(tokens)}


def delta(value: dict[str, Any], tokens: int | None = None) -> dict[str, Any]:
    chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": value}]}
    return chunk if tokens is None else {**chunk, "usage": counted(tokens)}


def counted(tokens: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens, **more}


def final(tokens: int, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": counted(tokens, **more)}


@pytest.mark.parametrize(
    "output",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"tool_calls": [{"index": 0, "function": {"arguments": ""}}]},
    ],
)
def test_content_reasoning_and_tool_calls_are_output(output: dict[str, Any]) -> None:
    reading = read(delta({"role": "assistant", "content": ""}), delta({}), delta(output), final(1), chat=True)
    assert reading.first_role_ns == 0
    assert reading.first_token_ns == reading.last_token_ns == 2
    assert reading.usage_ns == 3
    assert reading.chunk_tokens == (1,)


@pytest.mark.parametrize("empty", [{}, {"content": ""}, {"content": None}, {"tool_calls": []}, {"role": "assistant"}])
def test_an_empty_delta_is_no_output(empty: dict[str, Any]) -> None:
    assert read(delta(empty), chat=True).first_token_ns is None


def test_tokens_of_a_chunk_are_the_growth_of_the_count() -> None:
    reading = read(text("a", 1), text("bcd", 4), text("e", 5), final(5))
    assert reading.chunk_tokens == (1, 3, 1)


def test_on_completions_a_counted_token_without_text_is_output() -> None:
    reading = read(text("", 1), text("", 1), text("é", 2), final(2))
    assert reading.chunk_ns == [0, 2]
    assert reading.chunk_tokens == (1, 1)


def test_on_chat_a_counted_token_without_text_is_output_only_after_the_first() -> None:
    reading = read(
        delta({"role": "assistant"}, 0),
        delta({"content": ""}, 1),
        delta({"content": "é"}, 2),
        delta({"content": ""}, 3),
        final(3),
        chat=True,
    )
    assert reading.chunk_ns == [2, 3]
    assert reading.chunk_tokens == (2, 1)


def test_without_counts_an_empty_text_is_no_output() -> None:
    reading = read(text(""), text("a"), text("", finish="length"), final(1))
    assert reading.chunk_ns == [1]
    assert reading.chunk_tokens == (1,)
    assert reading.finish_reason == "length"


def test_tokens_are_unknown_where_counts_and_chunks_disagree() -> None:
    assert read(text("a"), text("b"), final(3)).chunk_tokens == ()
    assert read(text("a", 1), text("b"), final(3)).chunk_tokens == ()
    assert read(text("a", 1), text("b", 2), final(3)).chunk_tokens == ()


def test_counts_that_are_only_sometimes_there_fall_back_to_one_a_chunk() -> None:
    assert read(text("a", 1), text("b"), final(2)).chunk_tokens == (1, 1)


def test_cached_tokens_come_from_the_details() -> None:
    assert read(text("a"), final(1, prompt_tokens_details={"cached_tokens": 2})).cached_tokens == 2
    assert read(text("a"), final(1, prompt_tokens_details=None)).cached_tokens is None
    assert read(text("a"), final(1)).cached_tokens is None


def test_a_falling_count_is_a_contradiction() -> None:
    assert "fell 3 -> 2" in (read(text("a", 3), text("b", 2)).error or "")


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        ({"error": {"message": "out of memory"}}, "in the stream: out of memory"),
        ({"error": {"type": "Overloaded"}}, "in the stream: Overloaded"),
        ({"error": "plain"}, "in the stream: plain"),
        ({"object": "error", "message": "old"}, "in the stream: old"),
        ({"object": "error"}, "in the stream: no message"),
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
    ],
)
def test_an_error_in_the_stream_is_told_and_ends_the_reading(chunk: Any, reason: str) -> None:
    reading = read(text("a"), chunk, text("b"))
    assert reason in (reading.error or "")
    assert reading.chunk_ns == [0]


def test_nothing_after_done_is_looked_at() -> None:
    reading = read(text("a"), b" [DONE] ", b"{")
    assert reading.done
    assert reading.error is None


def test_a_null_error_is_none() -> None:
    assert read({**text("a"), "error": None}).error is None


def test_the_digest_is_that_of_the_text() -> None:
    from hashlib import sha256

    assert read(text("hé"), text("llo")).output_sha256 == sha256("héllo".encode()).hexdigest()
    assert read(final(0)).output_sha256 is None


@pytest.mark.parametrize(
    "odd", [{"completion_tokens": True}, {"completion_tokens": -1}, {"completion_tokens": "4"}, {}]
)
def test_counts_that_are_no_counts_are_not_measured(odd: dict[str, Any]) -> None:
    assert read({"choices": [], "usage": odd}).output_tokens is None


PARTS = ["choices", "usage", "delta", "text", "content", "role", "tool_calls", "error", "object", "message"]
COUNTS = ["completion_tokens", "prompt_tokens", "prompt_tokens_details", "cached_tokens", "finish_reason"]
KEYS = st.sampled_from(PARTS + COUNTS)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=5) | JSON, max_size=6), st.booleans())
def test_nothing_that_a_server_sends_makes_the_reader_raise(chunks: list[Any], chat: bool) -> None:
    reading = read(*chunks, chat=chat)
    assert reading.chunk_tokens == () or sum(reading.chunk_tokens) == reading.output_tokens
    assert len(reading.chunk_ns) <= sum(1 for chunk in chunks if isinstance(chunk, dict)) * 3
    assert reading.error is None or reading.error.isprintable()


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_arbitrary_bytes_make_an_error_not_an_exception(pieces: list[bytes]) -> None:
    reading = read(*pieces)
    assert reading.first_token_ns is None
