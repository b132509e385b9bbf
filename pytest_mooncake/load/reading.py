"""What the events of one streamed completion mean: tokens, their times, usage, errors.

Which chunk carries output (`docs/reference`, "Definitions"):
    - a chunk with text in `content`, `reasoning`, `reasoning_content`, `tool_calls` or (completions) `text`;
    - a chunk without text whose usage says that tokens were produced with it, in two cases only: on `/v1/completions`,
      and on chat after the first token. vLLM sends such chunks when a token ends inside a UTF-8 character or is a
      special token: the token exists, was decoded and sampled, and the next chunk's text belongs to a later one.
      Leaving it out would make TTFT and ITL of byte-level or random-weight models those of another token. On chat the
      first token keeps to the contract (an empty delta never counts), since the role-only chunk looks the same.

How many tokens a chunk carries:
    - servers that send `usage` on every chunk (`continuous_usage_stats`): the growth of `completion_tokens` since the
      last chunk that carried output, so tokens of chunks that do not count are never lost;
    - otherwise one each, when there are exactly as many chunks as the final usage has tokens;
    - otherwise unknown: `chunk_tokens` stays empty and the first chunk is taken to hold one token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from pytest_mooncake.load.failures import one_line
from pytest_mooncake.load.sse import Event

__all__ = ["StreamReading"]

_DONE = b"[DONE]"
_TEXT_FIELDS = ("text", "content", "reasoning_content", "reasoning")


class StreamReading:
    """Accumulates one response. Nothing a server sends makes it raise; what is wrong ends up in `error`."""

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self._digest = hashlib.sha256()
        self._attributed = 0
        self._every_chunk_counted = True
        self._tokens: list[int] = []
        self.chunk_ns: list[int] = []
        self.first_role_ns: int | None = None
        self.usage_ns: int | None = None
        self.finish_reason: str | None = None
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.error: str | None = None
        self.began = False
        self.done = False

    @property
    def first_token_ns(self) -> int | None:
        """Arrival of the first chunk that carried output."""
        return self.chunk_ns[0] if self.chunk_ns else None

    @property
    def last_token_ns(self) -> int | None:
        """Arrival of the last chunk that carried output so far."""
        return self.chunk_ns[-1] if self.chunk_ns else None

    @property
    def chunk_tokens(self) -> tuple[int, ...]:
        """Tokens of every chunk that carried output, or empty where the server's usage does not tell."""
        if self._every_chunk_counted and sum(self._tokens) == self.output_tokens:
            return tuple(self._tokens)
        if len(self.chunk_ns) == self.output_tokens:
            return (1,) * self.output_tokens
        return ()

    @property
    def output_sha256(self) -> str | None:
        """Digest of all text received, `None` before the first token."""
        return self._digest.hexdigest() if self.chunk_ns else None

    def take(self, event: Event) -> None:
        """Read the next event; after an error or `[DONE]` nothing more is looked at."""
        self.began = True
        if self.error or self.done:
            return
        if event.data.strip() == _DONE:
            self.done = True
            return
        try:
            chunk = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            self.error = f"a chunk of the stream is not JSON: {one_line(event.data)!r}"
            return
        self._take_chunk(chunk, event)

    def _take_chunk(self, chunk: object, event: Event) -> None:
        if not isinstance(chunk, dict):
            self.error = f"a chunk of the stream is not an object: {one_line(event.data)!r}"
        elif chunk.get("error") or chunk.get("object") == "error":
            self.error = f"the server reported an error in the stream: {one_line(_message_of(chunk))}"
        else:
            self._take_usage(chunk.get("usage"), event.at_ns)
            choices = chunk.get("choices")
            for choice in choices if isinstance(choices, list) else ():
                if isinstance(choice, dict):
                    self._take_choice(choice, event.at_ns, counted=isinstance(chunk.get("usage"), dict))

    def _take_usage(self, usage: object, at_ns: int) -> None:
        if not isinstance(usage, dict):
            return
        self.usage_ns = at_ns
        output = _count(usage, "completion_tokens")
        if output is not None and self.output_tokens is not None and output < self.output_tokens:
            self.error = (
                f"the server's usage contradicts itself: completion_tokens fell {self.output_tokens} -> {output}"
            )
        self.output_tokens = self.output_tokens if output is None else output
        prompt = _count(usage, "prompt_tokens")
        self.prompt_tokens = self.prompt_tokens if prompt is None else prompt
        details = usage.get("prompt_tokens_details")
        cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
        self.cached_tokens = self.cached_tokens if cached is None else cached

    def _take_choice(self, choice: Mapping[str, Any], at_ns: int, *, counted: bool) -> None:
        reason = choice.get("finish_reason")
        self.finish_reason = one_line(reason, limit=40) if isinstance(reason, str) else self.finish_reason
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        if self.first_role_ns is None and "role" in delta:
            self.first_role_ns = at_ns
        text = _text_of(choice) + _text_of(delta)
        produced = (self.output_tokens or 0) - self._attributed if counted else 0
        token_without_text = produced > 0 and (not self._chat or bool(self.chunk_ns))
        if text or token_without_text:
            self._digest.update(text)
            self.chunk_ns.append(at_ns)
            self._tokens.append(produced)
            self._attributed += produced
            self._every_chunk_counted &= counted


def _count(usage: Mapping[str, Any], key: str) -> int | None:
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text_of(part: Mapping[str, Any]) -> bytes:
    """All output text of a choice or its delta as bytes; lone surrogates are kept, not refused."""
    pieces = [value for field in _TEXT_FIELDS if isinstance(value := part.get(field), str)]
    text = "".join(pieces).encode("utf-8", "surrogatepass")
    calls = part.get("tool_calls")
    return text + orjson.dumps(calls) if isinstance(calls, list) and calls else text


def _message_of(chunk: Mapping[str, Any]) -> str:
    error = chunk.get("error")
    if isinstance(error, dict):
        error = error.get("message") or error.get("type") or error
    return str(error or chunk.get("message") or "no message")
