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
    - otherwise unknown: `chunk_tokens` stays empty (what becomes of the figures then: `analysis.figures.columns`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from pytest_mooncake.border.redaction import Redactor
from pytest_mooncake.load.http.failures import foreign_line
from pytest_mooncake.load.http.sse import Event

__all__ = ["StreamReading"]

_DONE = b"[DONE]"
_MOST = 2**31 - 1
"""Of tokens, and of an id: what the columns of a record hold. More is nothing that a server can have counted."""
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning")


class StreamReading:
    """Accumulates one response. Nothing a server sends makes it raise; what is wrong ends up in `error`."""

    def __init__(self, *, chat: bool, keeps_ids: bool = False, redactor: Redactor | None = None) -> None:
        self._redactor = redactor or Redactor()
        self._chat = chat
        self._keeps_ids = keeps_ids
        self.token_ids: list[int] = []
        self._texts: list[str] = []
        self._usage: Mapping[str, Any] = {}
        self._prompt_details: object = None
        self._attributed = 0
        self._every_chunk_counted = True
        self._tokens: list[int] = []
        self.chunk_ns: list[int] = []
        self.first_role_ns: int | None = None
        self.usage_ns: int | None = None
        self.finish_reason: str | None = None
        self.output_tokens: int | None = None
        self.error: str | None = None
        self.miscount: str | None = None
        """A count of output tokens that can be none: why the request failed, unless another usage counts them."""
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
        if not self.chunk_ns:
            return None
        return hashlib.sha256("".join(self._texts).encode()).hexdigest()

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens as the last usage counts them."""
        return _count(self._usage, "prompt_tokens")

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens served from a cache, where any usage told."""
        details = self._prompt_details
        return _count(details, "cached_tokens") if isinstance(details, dict) else None

    def take(self, event: Event) -> None:
        """Read the next event; after an error or `[DONE]` nothing more is looked at."""
        self.began = True
        if self.error or self.done:
            return
        at_ns, data = event
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.done = data.strip() == _DONE
            self.error = None if self.done else f"a chunk of the stream is not JSON: {self._line(data)!r}"
            return
        if not isinstance(chunk, dict):
            self.error = f"a chunk of the stream is not an object: {self._line(data)!r}"
        elif chunk.get("error") or chunk.get("object") == "error":
            self.error = f"the server reported an error in the stream: {self._line(_message_of(chunk))}"
        else:
            self._take_chunk(chunk, at_ns)

    def _line(self, text: object, limit: int = 200) -> str:
        return foreign_line(text, self._redactor, limit)

    def _shown(self, value: object) -> str:
        """What a value is, on a line. Only plain ones are spelt out: `repr` would walk as deep as others nest."""
        plain = isinstance(value, str | int | float)
        return repr(self._line(value, limit=40)) if plain else f"a {type(value).__name__}"

    def _take_chunk(self, chunk: Mapping[str, Any], at_ns: int) -> None:
        usage = chunk.get("usage")
        counted = False
        if isinstance(usage, dict):
            counted = True
            self._take_usage(usage, at_ns)
        choices = chunk.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._take_choice(choice, at_ns, counted)
                    if self._keeps_ids:
                        self._take_ids(choice.get("token_ids"))

    def _take_ids(self, ids: object) -> None:
        if isinstance(ids, list):
            self.token_ids.extend(one for one in ids if type(one) is int and 0 <= one <= _MOST)

    def _take_usage(self, usage: Mapping[str, Any], at_ns: int) -> None:
        self.usage_ns = at_ns
        self._usage = usage
        if usage.get("prompt_tokens_details"):
            self._prompt_details = usage["prompt_tokens_details"]
        output = _count(usage, "completion_tokens")
        if output is None:
            said = usage.get("completion_tokens")
            if said is not None:
                self.miscount = f"the server's usage makes no sense: completion_tokens {self._shown(said)}"
            return
        if output < (self.output_tokens or 0):
            self.error = (
                f"the server's usage contradicts itself: completion_tokens fell {self.output_tokens} -> {output}"
            )
        self.output_tokens = output

    def _take_choice(self, choice: Mapping[str, Any], at_ns: int, counted: bool) -> None:
        text = choice.get("text")
        text = text if isinstance(text, str) else ""
        delta = choice.get("delta")
        if isinstance(delta, dict):
            text += self._text_of(delta, at_ns)
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self.finish_reason = self._line(reason, limit=40)
        produced = (self.output_tokens or 0) - self._attributed if counted else 0
        token_without_text = produced > 0 and (not self._chat or bool(self.chunk_ns))
        if text or token_without_text:
            self._texts.append(text)
            self.chunk_ns.append(at_ns)
            self._tokens.append(produced)
            self._attributed += produced
            self._every_chunk_counted &= counted

    def _text_of(self, delta: Mapping[str, Any], at_ns: int) -> str:
        if self.first_role_ns is None and "role" in delta:
            self.first_role_ns = at_ns
        text = "".join([value for field in _TEXT_FIELDS if isinstance(value := delta.get(field), str)])
        calls = delta.get("tool_calls")
        return text + _written(calls) if isinstance(calls, list) and calls else text


def _count(usage: Mapping[str, Any], key: str) -> int | None:
    value = usage.get(key)
    return value if type(value) is int and 0 <= value <= _MOST else None


def _written(value: object) -> str:
    """JSON of what was read; what nests deeper than orjson writes (254, it reads 1,024) is only told from nothing."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return "[…]"


def _message_of(chunk: Mapping[str, Any]) -> str:
    error = chunk.get("error")
    if isinstance(error, dict):
        error = error.get("message") or error.get("type") or error
    said = error or chunk.get("message") or "no message"
    return said if isinstance(said, str) else _written(said)
