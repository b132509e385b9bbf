"""Requests, replies and streamed answers of the faulty server; `faulty` shows how they are used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MODEL = "faulty-model"


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before the next step."""

    seconds: float


class Disconnect:
    """Abort the connection (a TCP reset, or a close in the middle of a chunked body)."""


class Hang:
    """Say nothing more and keep the connection open until the client gives up or the server stops."""


Step = bytes | Pause | Disconnect | Hang


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back: a status, headers and steps. `chunked` bodies are written step by step; `raw` has no head."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    steps: tuple[Step, ...] = ()
    chunked: bool = False
    raw: bool = False


Answering = Reply | Callable[[Received], Reply]
Routes = Mapping[str, Answering | Sequence[Answering]]


def text(body: str, status: int = 200, content_type: str = "text/plain") -> Reply:
    """Answer with a text."""
    return Reply(status=status, headers=(("Content-Type", content_type),), steps=(body.encode(),))


def json_reply(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with JSON."""
    given = (("Content-Type", "application/json"), *(headers or {}).items())
    return Reply(status=status, headers=given, steps=(json.dumps(body).encode(),))


def error(status: int, message: str = "it went wrong", headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with an error in vLLM's form."""
    return json_reply({"error": {"message": message, "type": "Error", "code": status}}, status, headers)


def limited(retry_after_s: int = 30) -> Reply:
    """Answer 429."""
    return error(429, "rate limit reached", {"Retry-After": str(retry_after_s)})


def redirect(location: str, status: int = 307) -> Reply:
    """Send the client elsewhere."""
    return Reply(status=status, headers=(("Location", location),))


def garbage(data: bytes = b"SSH-2.0-OpenSSH_9.2\r\n") -> Reply:
    """Answer with bytes that are no HTTP, then close."""
    return Reply(raw=True, steps=(data, Disconnect()))


def hang_up() -> Reply:
    """Close without a byte."""
    return Reply(raw=True, steps=(Disconnect(),))


def silent() -> Reply:
    """Take the request and never answer."""
    return Reply(raw=True, steps=(Hang(),))


def stream(*steps: Step) -> Reply:
    """Answer 200 with a chunked event stream made of `steps`, each of bytes in a write of its own."""
    return Reply(headers=(("Content-Type", "text/event-stream"),), steps=steps, chunked=True)


def models(*names: str, **card: object) -> Reply:
    """Answer with a model list; `card` goes into every entry."""
    entries = [{"id": name, "object": "model", "owned_by": "vllm", **card} for name in names]
    return json_reply({"object": "list", "data": entries})


def event(body: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A streamed answer to `/v1/completions` or `/v1/chat/completions`, right unless told otherwise.

    Token counts follow the request: prompt tokens are the ids, or the words of the text; output tokens `max_tokens`.
    """

    first_token_s: float = 0.0
    """Pause before the first token."""
    gap_s: float = 0.0
    """Pause between events that carry tokens."""
    role_s: float | None = 0.0
    """Chat: pause before the role-only chunk; `None`: there is none."""
    tokens_per_event: int = 1
    tokens: int | None = None
    """Tokens really sent, where they differ from what was asked."""
    cached_tokens: int | None = 0
    """`None`: no `prompt_tokens_details`."""
    usage: bool = True
    """Send usage where it was asked for."""
    extra_prompt_tokens: int = 0
    extra_output_tokens: int = 0
    """What `usage` says too much."""
    done: bool = True
    """End with `[DONE]`."""
    finish_reason: str = "length"
    split_at: int | None = None
    """Write every event in pieces of so many bytes, in separate reads."""
    together: bool = False
    """Write all events at once."""
    comments: bool = False
    """Put a comment line (`: ping`), as proxies do to keep a connection alive, before every event."""
    line_end: bytes = b"\n"
    """`b"\\r\\n"`: lines end as the standard also allows."""
    disconnect_after: int | None = None
    """Break the connection after so many events with tokens."""
    hang_after: int | None = None
    """Fall silent after so many events with tokens."""
    error_after: int | None = None
    """Send an error event after so many events with tokens, then end."""
    error_message: str = "EngineCore encountered an issue"

    def __call__(self, received: Received) -> Reply:
        """Return the reply to one request."""
        return stream(*self._steps(received))

    def _steps(self, received: Received) -> Iterable[Step]:
        tokens = self._tokens(received)
        broken = self._broken()
        events = tokens if broken is None else tokens[: broken[0]]
        steps: list[Step] = []
        if self.role_s is not None and received.path.endswith("/chat/completions"):
            steps += [Pause(self.role_s), _chunk(received, {"role": "assistant", "content": ""}, None)]
        for place, data in enumerate(events):
            steps += [Pause(self.gap_s if place else self.first_token_s), data]
        steps += broken[1] if broken else self._end(received)
        return self._written(steps)

    def _tokens(self, received: Received) -> list[bytes]:
        count = self.tokens if self.tokens is not None else _asked(received)
        chat = received.path.endswith("/chat/completions")
        events = []
        for start in range(0, count, self.tokens_per_event):
            until = min(start + self.tokens_per_event, count)
            words = "".join(f" t{number}" for number in range(start, until))
            delta: object = {"content": words} if chat else words
            running = self._running_usage(received, until)
            events.append(_chunk(received, delta, self.finish_reason if until == count else None, running))
        return events

    def _broken(self) -> tuple[int, list[Step]] | None:
        if self.disconnect_after is not None:
            return self.disconnect_after, [Disconnect()]
        if self.hang_after is not None:
            return self.hang_after, [Hang()]
        if self.error_after is not None:
            body = {"error": {"message": self.error_message, "type": "InternalServerError", "code": 500}}
            return self.error_after, [event(body), DONE]
        return None

    def _end(self, received: Received) -> list[Step]:
        options = received.json().get("stream_options") or {}
        usage = self._usage(received, self.tokens if self.tokens is not None else _asked(received))
        steps: list[Step] = []
        if self.usage and options.get("include_usage"):
            steps.append(event({**_head(received), "choices": [], "usage": usage}))
        return [*steps, DONE] if self.done else steps

    def _usage(self, received: Received, output_tokens: int) -> dict[str, Any]:
        prompt = _prompt_tokens(received) + self.extra_prompt_tokens
        output = output_tokens + self.extra_output_tokens
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
        }
        if self.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        return usage

    def _running_usage(self, received: Received, completed: int) -> dict[str, Any] | None:
        options = received.json().get("stream_options") or {}
        return self._usage(received, completed) if self.usage and options.get("continuous_usage_stats") else None

    def _written(self, steps: list[Step]) -> list[Step]:
        steps = [self._dressed(step) if isinstance(step, bytes) else step for step in steps]
        if self.together:
            whole = b"".join(step for step in steps if isinstance(step, bytes))
            return [whole, *(step for step in steps if isinstance(step, (Disconnect, Hang)))]
        if self.split_at is None:
            return steps
        pieces: list[Step] = []
        for step in steps:
            pieces += _pieces(step, self.split_at) if isinstance(step, bytes) else [step]
        return pieces

    def _dressed(self, data: bytes) -> bytes:
        return (b": ping\n\n" if self.comments else b"").replace(b"\n", self.line_end) + data.replace(
            b"\n", self.line_end
        )


def _pieces(data: bytes, size: int) -> list[Step]:
    pieces: list[Step] = []
    for start in range(0, len(data), size):
        pieces += [data[start : start + size], Pause(0.0005)]
    return pieces


def _head(received: Received) -> dict[str, Any]:
    chat = received.path.endswith("/chat/completions")
    return {
        "id": "cmpl-faulty",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": 1,
        "model": received.json().get("model", MODEL),
    }


def _chunk(received: Received, delta: object, finish: str | None, usage: dict[str, Any] | None = None) -> bytes:
    content = {"delta": delta} if received.path.endswith("/chat/completions") else {"text": delta}
    body = {**_head(received), "choices": [{"index": 0, **content, "logprobs": None, "finish_reason": finish}]}
    return event(body if usage is None else {**body, "usage": usage})


def _asked(received: Received) -> int:
    body = received.json()
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 4)


def _prompt_tokens(received: Received) -> int:
    body = received.json()
    if "messages" in body:
        return sum(len(str(message.get("content", "")).split()) for message in body["messages"])
    prompt = body.get("prompt", "")
    return len(prompt.split()) if isinstance(prompt, str) else len(prompt)
