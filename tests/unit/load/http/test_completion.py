"""What the chunks of a stream mean: first token, tokens per chunk, usage, errors."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.border.redaction import Redactor
from pytest_mooncake.load.http.completion import StreamReading

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
FIELDS = ["choices", "text", "delta", "content", "role", "tool_calls", "usage", "completion_tokens", "prompt_tokens"]
FIELDS += ["prompt_tokens_details", "cached_tokens", "finish_reason", "token_ids", "error", "message", "object"]
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


# --- what no server can mean ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [-1, "7", 7.0, 1e300, 2**31, 2**63, 2**64 - 1, True, [7], {"n": 7}])
def test_a_count_of_tokens_that_can_be_none_is_told_and_kept_out_of_the_record(count: Any) -> None:
    reading = read(text("a"), {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": count}})
    assert reading.error is None
    assert reading.miscount is not None
    assert reading.miscount.startswith("the server's usage makes no sense: completion_tokens ")
    assert len(reading.miscount) < 120
    assert reading.output_tokens is None
    assert reading.chunk_tokens == ()


@pytest.mark.parametrize("field", ["prompt_tokens", "cached_tokens"])
@pytest.mark.parametrize("count", [-1, "7", 7.5, 2**31, True, [], None])
def test_other_counts_that_can_be_none_are_not_measured(field: str, count: Any) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}
    usage |= {"prompt_tokens": count} if field == "prompt_tokens" else {"prompt_tokens_details": {field: count}}
    reading = read(text("a"), {"choices": [], "usage": usage})
    assert getattr(reading, field) is None
    assert reading.error is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"usage": {"completion_tokens": 1e309}}',
        b'{"usage": {"completion_tokens": NaN}}',
        b'{"choices": [{"text": "\\ud800"}]}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
)
def test_json_that_nothing_could_write_is_an_error_in_one_line(data: bytes) -> None:
    reading = read(data)
    assert reading.error is not None
    assert reading.error.startswith("a chunk of the stream is not JSON: ")
    assert len(reading.error) < 260


@pytest.mark.parametrize("where", ["error", "message", "tool_calls", "choices", "usage", "delta", "count", "token_ids"])
@pytest.mark.parametrize("depth", [100, 300, 900])
def test_no_depth_of_nesting_makes_the_reading_raise(where: str, depth: int) -> None:
    deep = b"[" * depth + b"1" + b"]" * depth
    chunk = {
        "error": b'{"error": %s}',
        "message": b'{"error": {"message": %s}}',
        "tool_calls": b'{"choices": [{"delta": {"tool_calls": %s}}]}',
        "choices": b'{"choices": %s}',
        "usage": b'{"usage": %s, "choices": []}',
        "delta": b'{"choices": [{"delta": {"role": %s, "content": %s}}]}',
        "count": b'{"usage": {"completion_tokens": %s}}',
        "token_ids": b'{"choices": [{"text": "a", "token_ids": %s}]}',
    }[where].replace(b"%s", deep)
    reading = StreamReading(chat=True, keeps_ids=True)
    reading.take((1, chunk))
    assert reading.output_sha256 is None or len(reading.output_sha256) == 64
    assert reading.error is None or len(reading.error) < 320


def test_ids_that_are_none_are_left_out() -> None:
    reading = StreamReading(chat=False, keeps_ids=True)
    ids = [-1, 0, 7, 2**31, 2**63, True, "8", None]
    reading.take((1, orjson.dumps({"choices": [{"text": "a", "token_ids": ids}]})))
    assert reading.token_ids == [0, 7]


FIELDS = ["choices", "text", "delta", "content", "role", "tool_calls", "usage", "completion_tokens", "prompt_tokens"]
FIELDS += ["prompt_tokens_details", "cached_tokens", "finish_reason", "token_ids", "error", "message", "object"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(chunks=st.lists(JSON, max_size=4), chat=st.booleans())
def test_whatever_is_read_the_journal_can_write_and_columns_can_hold(chunks: list[Any], chat: bool) -> None:
    reading = StreamReading(chat=chat, keeps_ids=True)
    for at_ns, chunk in enumerate(chunks):
        reading.take((at_ns, orjson.dumps(chunk)))
    counts = (reading.output_tokens, reading.prompt_tokens, reading.cached_tokens)
    assert all(count is None or 0 <= count < 2**31 for count in (*counts, *reading.chunk_tokens, *reading.token_ids))
    written = orjson.dumps([reading.error, reading.finish_reason, reading.output_sha256, *counts, reading.chunk_ns])
    assert orjson.loads(written)


def test_what_a_server_repeats_of_a_secret_is_in_nothing_that_is_read() -> None:
    secret = "sk-live-9f2aZq7LwXc4"
    chunks = (
        {"choices": [{"text": "a", "finish_reason": f"bad {secret}"}]},
        {"choices": [], "usage": {"completion_tokens": secret}},
        {"error": {"message": f"no such key: {secret[:9]} {secret[9:]}"}},
    )
    reading = StreamReading(chat=False, redactor=Redactor([secret]))
    for chunk in chunks:
        reading.take((1, orjson.dumps(chunk)))
    assert reading.finish_reason == "bad ***"
    assert reading.error == "the server reported an error in the stream: no such key: ***"
    assert secret[:8] not in str(vars(reading)["miscount"])
