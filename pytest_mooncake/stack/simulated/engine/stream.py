"""Answers as bytes: server-sent events and whole JSON bodies, in the form of vLLM's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of an answer; `cached_tokens` is left out where it is `None`."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None

    def as_json(self) -> dict[str, Any]:
        """Return the value of `usage`."""
        details = None if self.cached_tokens is None else {"cached_tokens": self.cached_tokens}
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
            "prompt_tokens_details": details,
        }


class Answer:
    """Formats one answer. Everything that does not change from event to event is encoded once.

    Args:
        identifier: the answer's `id`.
        model: name of the model.
        chat: whether chunks are chat deltas.
        created_s: Unix time.
        usage_prompt_tokens: add running usage with this many prompt tokens to every chunk; `None`: do not.
        shows_ids: add its token ids to every chunk (`return_token_ids`).
    """

    def __init__(
        self,
        *,
        identifier: str,
        model: str,
        chat: bool,
        created_s: int,
        usage_prompt_tokens: int | None = None,
        shows_ids: bool = False,
    ) -> None:
        self._chat = chat
        self._shows_ids = shows_ids
        self._head = {
            "id": identifier,
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": created_s,
            "model": model,
        }
        self._prefix = b"data: " + orjson.dumps(self._head)[:-1]
        self._usage_prompt_tokens = usage_prompt_tokens

    def role(self) -> bytes:
        """Return the first chunk of a chat: a role and no content."""
        choice = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        return self._prefix + b',"choices":[' + choice + b"]" + self._running_usage(0) + b"}\n\n"

    def text(self, text: str, *, completed: int, finish_reason: str | None, token_ids: Sequence[int] = ()) -> bytes:
        """Return a chunk with `text`; `completed` is the number of tokens with this chunk, `token_ids` its own."""
        encoded = orjson.dumps(text)
        body = b'"delta":{"content":' + encoded + b"}" if self._chat else b'"text":' + encoded
        end = b"null" if finish_reason is None else b'"' + finish_reason.encode() + b'"'
        ids = b',"token_ids":' + orjson.dumps(list(token_ids)) if self._shows_ids else b""
        choice = b'{"index":0,' + body + ids + b',"logprobs":null,"finish_reason":' + end + b"}"
        return self._prefix + b',"choices":[' + choice + b"]" + self._running_usage(completed) + b"}\n\n"

    def usage(self, usage: Usage) -> bytes:
        """Return the last chunk before the end: no choices, only usage."""
        return self._prefix + b',"choices":[],"usage":' + orjson.dumps(usage.as_json()) + b"}\n\n"

    def whole(
        self, text: str, *, finish_reason: str, usage: Usage | None, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        """Return the body of an answer that is not streamed."""
        message = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **message, "logprobs": logprobs, "finish_reason": finish_reason}
        body = {**self._head, "choices": [choice], "usage": usage.as_json() if usage else None}
        if self._chat:
            body["object"] = "chat.completion"
        return orjson.dumps(body)

    def _running_usage(self, completed: int) -> bytes:
        prompt = self._usage_prompt_tokens
        if prompt is None:
            return b""
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
            prompt,
            prompt + completed,
            completed,
        )


def certain_logprobs(tokens: Sequence[int]) -> dict[str, Any]:
    """Return `logprobs` of an answer whose every token was all but certain: each 0.95, nothing else worth a mention."""
    names, nats = [f"token_id:{token}" for token in tokens], math.log(0.95)
    return {
        "tokens": names,
        "token_logprobs": [nats] * len(names),
        "top_logprobs": [{name: nats, "token_id:0": math.log(0.01)} for name in names],
        "text_offset": [],
    }


def error_event(message: str) -> bytes:
    """Return the event by which vLLM reports an error inside a stream that began with 200."""
    body = {"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}}
    return b"data: " + orjson.dumps(body) + b"\n\n"
