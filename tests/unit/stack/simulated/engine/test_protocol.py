from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.stack.simulated.engine.protocol import (
    ApiError,
    GenerationRequest,
    ServedModel,
    answer_tokens,
    parse_generation,
)
from pytest_mooncake.stack.simulated.engine.stream import Answer, Usage, error_event
from pytest_mooncake.stack.simulated.engine.tokenizer import Vocabulary

SERVED = ServedModel(name="m", max_model_len=100, vocabulary=Vocabulary(8192))
FIXED: dict[str, Any] = {"ignore_eos": True, "max_tokens": 8}


def parse(chat: bool = False, **fields: Any) -> GenerationRequest:
    return parse_generation(fields, SERVED, chat=chat)


def refusal(chat: bool = False, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        parse(chat=chat, **fields)
    return raised.value


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6, 7]]])
def test_token_ids_are_the_prompt(prompt: Any) -> None:
    assert list(parse(prompt=prompt, **FIXED).prompt) == [5, 6, 7]


@pytest.mark.parametrize("prompt", ["one two", ["one two"]])
def test_a_text_has_a_token_for_each_word(prompt: Any) -> None:
    assert list(parse(prompt=prompt, **FIXED).prompt) == SERVED.vocabulary.encode("one two")


def test_messages_go_through_the_chat_template() -> None:
    parts = [{"type": "text", "text": "a b"}, {"type": "text", "text": "c"}]
    whole = parse(chat=True, messages=[{"role": "user", "content": "a b c"}], **FIXED).prompt
    assert list(whole) == SERVED.vocabulary.encode_chat([("user", "a b c")])
    assert parse(chat=True, messages=[{"role": "user", "content": parts}], **FIXED).prompt == whole


def test_a_prompt_and_answer_may_fill_the_context_and_not_one_token_more() -> None:
    assert parse(prompt=[5] * 92, **FIXED).output_tokens == 8
    refused = refusal(prompt=[5] * 93, **FIXED)
    assert refused.status == 400
    assert "maximum context length is 100 tokens" in str(refused)
    assert "you requested 8 output tokens and your prompt contains 93 input tokens" in str(refused)
    assert refused.body["error"]["code"] == 400
    assert refused.body["error"]["type"] == "BadRequestError"


def test_another_model_is_not_found() -> None:
    refused = refusal(model="x", prompt="a")
    assert refused.status == 404
    assert str(refused) == "The model `x` does not exist."
    assert parse(model="m", prompt="a", **FIXED).output_tokens == 8


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": None},
        {"prompt": 5},
        {"prompt": ""},
        {"prompt": []},
        {"prompt": ["a", "b"]},
        {"prompt": [[1], [2]]},
        {"prompt": [1.5]},
        {"prompt": [-1]},
        {"prompt": [8192]},
        {"prompt": [2**40]},
        {"prompt": "a", "max_tokens": 0},
        {"prompt": "a", "max_tokens": -1},
        {"prompt": "a", "max_tokens": "8"},
        {"prompt": "a", "max_tokens": True},
        {"prompt": "a", "max_tokens": 4, "min_tokens": 5},
        {"prompt": "a", "n": 2},
        {"prompt": "a", "stream_options": {"include_usage": True}},
        {"prompt": "a", "stream": True, "stream_options": 1},
        {"prompt": "a", "kv_transfer_params": [1]},
    ],
)
def test_a_body_that_cannot_be_meant_is_a_400_in_the_form_of_vllm(fields: dict[str, Any]) -> None:
    refused = refusal(**{"max_tokens": 8, **fields})
    assert refused.status == 400
    assert set(refused.body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("messages", [None, [], "hi", ["hi"]])
def test_messages_that_are_none_are_refused(messages: Any) -> None:
    assert refusal(chat=True, messages=messages).status == 400


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(ApiError, match="JSON object"):
        parse_generation([], SERVED, chat=False)


def test_stream_options_cache_tags_and_skip_save_are_read() -> None:
    asked = parse(
        prompt="a",
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
        kv_transfer_params={"lmcache.tag.run": "7", "lmcache.skip_save": True, "other": 1},
        **FIXED,
    )
    assert (asked.stream, asked.include_usage, asked.continuous_usage) == (True, True, True)
    assert asked.tags == {"run": "7"}
    assert asked.skip_save


def test_the_default_length_is_16_for_completions_and_the_rest_of_the_context_for_chat() -> None:
    assert parse(prompt="a", ignore_eos=True).output_tokens == 16
    chat = parse(chat=True, messages=[{"role": "user", "content": "a"}], ignore_eos=True)
    assert chat.output_tokens == 100 - len(chat.prompt)
    named = parse(chat=True, messages=[{"role": "user", "content": "a"}], max_completion_tokens=5, ignore_eos=True)
    assert named.output_tokens == 5


@given(st.lists(st.integers(0, 8191), min_size=1, max_size=40), st.integers(1, 60), st.integers(0, 60))
def test_a_text_ends_by_itself_unless_told_not_to_and_never_before_its_least_length(
    prompt: Any, limit: int, least: int
) -> None:
    least = min(least, limit)
    asked = parse(prompt=prompt, max_tokens=limit, min_tokens=least)
    assert least <= asked.output_tokens <= limit
    assert asked.finish_reason == ("length" if asked.output_tokens == limit else "stop")
    assert parse(prompt=prompt, max_tokens=limit, ignore_eos=True).output_tokens == limit


def test_answers_depend_on_the_prompt_alone_and_a_shorter_one_begins_a_longer_one() -> None:
    long = answer_tokens([5, 6], 50, SERVED.vocabulary)
    assert answer_tokens([5, 6], 20, SERVED.vocabulary) == long[:20]
    assert answer_tokens([5, 7], 50, SERVED.vocabulary) != long
    assert min(long) >= 3


def event_body(data: bytes) -> Any:
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    return orjson.loads(data[6:])


def test_a_completion_chunk_has_the_shape_of_vllm() -> None:
    answer = Answer(identifier="cmpl-1", model="m", chat=False, created_s=5)
    assert event_body(answer.text('a"b', completed=1, finish_reason=None)) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 5,
        "model": "m",
        "choices": [{"index": 0, "text": 'a"b', "logprobs": None, "finish_reason": None}],
    }


def test_a_chat_begins_with_a_role_and_no_content() -> None:
    answer = Answer(identifier="c", model="m", chat=True, created_s=5)
    role = event_body(answer.role())
    assert role["object"] == "chat.completion.chunk"
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    last = event_body(answer.text(" x", completed=2, finish_reason="length"))
    assert last["choices"][0]["delta"] == {"content": " x"}
    assert last["choices"][0]["finish_reason"] == "length"


def test_running_usage_counts_up_with_the_chunks() -> None:
    answer = Answer(identifier="c", model="m", chat=True, created_s=5, usage_prompt_tokens=7)
    assert event_body(answer.role())["usage"]["completion_tokens"] == 0
    assert event_body(answer.text("x", completed=3, finish_reason=None))["usage"] == {
        "prompt_tokens": 7,
        "total_tokens": 10,
        "completion_tokens": 3,
    }


def test_the_usage_chunk_has_no_choices_and_tells_cached_tokens_where_known() -> None:
    answer = Answer(identifier="c", model="m", chat=False, created_s=5)
    body = event_body(answer.usage(Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=6)))
    assert body["choices"] == []
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 6}
    unknown = event_body(answer.usage(Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=None)))
    assert unknown["usage"]["prompt_tokens_details"] is None


@pytest.mark.parametrize("chat", [False, True])
def test_a_whole_answer_carries_its_text_and_usage(chat: bool) -> None:
    answer = Answer(identifier="c", model="m", chat=chat, created_s=5)
    usage = Usage(prompt_tokens=1, completion_tokens=1, cached_tokens=0)
    body = orjson.loads(answer.whole("hello", finish_reason="stop", usage=usage))
    choice = body["choices"][0]
    assert (choice["message"]["content"] if chat else choice["text"]) == "hello"
    assert body["object"] == ("chat.completion" if chat else "text_completion")
    assert body["usage"]["total_tokens"] == 2
    assert orjson.loads(answer.whole("hello", finish_reason="stop", usage=None))["usage"] is None


def test_an_error_inside_a_stream_is_an_event_with_an_error() -> None:
    assert event_body(error_event("no"))["error"]["message"] == "no"
