"""Request bodies of the OpenAI-compatible surface, checked as vLLM checks them."""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mooncake.stack.simulated.engine.tokenizer import SPECIAL, Vocabulary

_TAG = "lmcache.tag."
_NATURAL_OUTPUT_TOKENS = (16, 256)
"""Where a text ends by itself when the end is not ignored: a length between these, fixed by the prompt."""


class ApiError(Exception):
    """A refusal with its HTTP status, in vLLM's form of error body."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What is served: name, context length in tokens, vocabulary."""

    name: str
    max_model_len: int
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A completion or chat completion that will be answered."""

    prompt: Sequence[int]
    output_tokens: int
    finish_reason: str
    chat: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    tags: Mapping[str, str]
    skip_save: bool
    logprobs: bool
    return_token_ids: bool


def parse_generation(body: object, served: ServedModel, *, chat: bool) -> GenerationRequest:
    """Check a request body.

    Raises:
        ApiError: 404 for another model, 400 for anything else that vLLM would refuse.
    """
    fields = _object(body)
    check_model(fields, served)
    stream = bool(fields.get("stream"))
    options = _object(fields.get("stream_options") or {}, "stream_options")
    if options and not stream:
        raise ApiError(400, "Stream options can only be defined when `stream=True`.", param="stream_options")
    if fields.get("n") not in (None, 1):
        raise ApiError(400, "The simulated engine gives one answer a request: `n` must be 1.", param="n")
    prompt = chat_prompt(fields, served.vocabulary) if chat else prompt_tokens(fields.get("prompt"), served.vocabulary)
    count, finish_reason = _output(fields, prompt, served, chat=chat)
    transfer = _object(fields.get("kv_transfer_params") or {}, "kv_transfer_params")
    return GenerationRequest(
        prompt=prompt,
        output_tokens=count,
        finish_reason=finish_reason,
        chat=chat,
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("continuous_usage_stats")),
        tags={name.removeprefix(_TAG): str(value) for name, value in transfer.items() if name.startswith(_TAG)},
        skip_save=bool(transfer.get("lmcache.skip_save")),
        logprobs=bool(fields.get("logprobs")) and not chat and not stream,
        return_token_ids=bool(fields.get("return_token_ids")) and stream,
    )


def check_model(fields: Mapping[str, Any], served: ServedModel) -> None:
    """Refuse another model's name; no name at all means the one that is served."""
    name = fields.get("model")
    if name not in (None, served.name):
        raise ApiError(404, f"The model `{name}` does not exist.", kind="NotFoundError", param="model")


def prompt_tokens(prompt: object, vocabulary: Vocabulary) -> array[int]:
    """Return the ids of a prompt given as text or ids, alone or as the only one of a list."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return _not_empty(array("I", vocabulary.encode(prompt)))
    if not isinstance(prompt, list):
        raise ApiError(400, "`prompt` must be a string or a list of token ids.", param="prompt")
    try:
        tokens = _not_empty(array("I", prompt))
    except (TypeError, OverflowError):
        raise ApiError(400, "`prompt` must hold one prompt: a string or token ids.", param="prompt") from None
    if (largest := max(tokens)) >= vocabulary.size:
        raise ApiError(400, f"Token id {largest} is out of vocabulary", param="prompt")
    return tokens


def chat_prompt(fields: Mapping[str, Any], vocabulary: Vocabulary) -> array[int]:
    """Return the ids of `messages` under the chat template."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "`messages` must be a list of at least one message.", param="messages")
    pairs = [(str(_object(message, "messages").get("role")), _content(message)) for message in messages]
    generation_prompt = bool(fields.get("add_generation_prompt", True))
    return array("I", vocabulary.encode_chat(pairs, generation_prompt=generation_prompt))


def answer_tokens(prompt: Sequence[int], count: int, vocabulary: Vocabulary) -> list[int]:
    """Return `count` token ids that depend on nothing but the prompt: the greedy answer."""
    digest = hashlib.blake2b(array("I", prompt).tobytes(), digest_size=16).digest()
    return random.Random(digest).choices(range(len(SPECIAL), vocabulary.size), k=count)  # noqa: S311 - no secret


def _object(value: object, param: str | None = None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ApiError(400, f"{param or 'The body'} must be a JSON object.", param=param)
    return value


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _not_empty(tokens: array[int]) -> array[int]:
    if not tokens:
        raise ApiError(400, "The prompt must hold at least one token.", param="prompt")
    return tokens


def _output(fields: Mapping[str, Any], prompt: Sequence[int], served: ServedModel, *, chat: bool) -> tuple[int, str]:
    """Return how many tokens the answer has and why it ends."""
    room = served.max_model_len - len(prompt)
    asked = fields.get("max_completion_tokens") if chat else None
    limit = _count(asked if asked is not None else fields.get("max_tokens"), "max_tokens", room if chat else 16)
    if limit > room:
        raise ApiError(
            400,
            f"This model's maximum context length is {served.max_model_len} tokens. However, you requested {limit} "
            f"output tokens and your prompt contains {len(prompt)} input tokens, for a total of "
            f"{limit + len(prompt)} tokens. Please reduce the length of the input prompt or the number of "
            "requested output tokens.",
            param="input_tokens",
        )
    if limit < 1:
        raise ApiError(400, f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    least = _count(fields.get("min_tokens"), "min_tokens", 0)
    if least > limit:
        raise ApiError(400, f"min_tokens must be at most max_tokens={limit}, got {least}.", param="min_tokens")
    if fields.get("ignore_eos"):
        return limit, "length"
    low, high = _NATURAL_OUTPUT_TOKENS
    natural = max(least, low + sum(prompt[-8:]) % (high - low))
    return (natural, "stop") if natural < limit else (limit, "length")


def _count(value: object, param: str, default: int) -> int:
    if value is None:
        return max(1, default) if param == "max_tokens" else default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ApiError(400, f"{param} must be a whole number of at least 0.", param=param)
    return value
