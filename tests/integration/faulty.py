"""A scripted OpenAI-compatible server on loopback that does exactly what a test tells it to, wrong things included.

It speaks HTTP by hand over asyncio streams, so that a test decides what lies in one write, where a chunk is cut and
when the connection breaks. Nothing but the standard library, one server per test, its own port.

    async with FaultyServer() as server:                # works as it is: lists a model, streams right answers
        ...client talks to server.url...
        assert server.received[0].path == "/v1/completions"

    with FaultyServer({...}) as server:                 # the same from a thread of its own, for synchronous tests

What a path answers is a *reply*, a function from the request to a reply, or a list of those: the nth request to the
path gets the nth, the last one repeats.

    FaultyServer({"/v1/models": error(401, "no key")})
    FaultyServer({"/v1/completions": [Stream(), Stream(disconnect_after=3), hang_up()]})
    FaultyServer({"/v1/chat/completions": Stream(role_s=0.0, first_token_s=0.05)})
    FaultyServer({"/v1/completions": Stream(split_at=7)})          # every event arrives in pieces of 7 bytes
    FaultyServer({"/v1/completions": Stream(together=True)})       # all events in one write
    FaultyServer({"/v1/completions": Stream(error_after=2)})       # error event inside a 200 stream
    FaultyServer({"/metrics": text("vllm:prompt_tokens_total 1\n")})

Replies: `json_reply`, `text`, `error`, `limited` (429), `redirect`, `garbage` (not HTTP at all), `hang_up` (closes
without a byte), `silent` (never answers), `stream` (any steps), `Stream` (a whole answer with switches for what goes
wrong; its token counts follow the request, so a client that checks them is content).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

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


class FaultyServer:
    """The server. `routes` override the defaults: a model list, and `Stream()` for both generation paths.

    Args:
        routes: replies by path; a path that is not there answers 404.
        tls: serve https with this context.
    """

    def __init__(self, routes: Routes | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Answering | Sequence[Answering]] = {
            "/v1/models": models(MODEL, max_model_len=32768),
            "/v1/completions": Stream(),
            "/v1/chat/completions": Stream(),
            **(routes or {}),
        }
        self.received: list[Received] = []
        self.port = 0
        self._tls = tls
        self._counts: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: _Thread | None = None

    @property
    def url(self) -> str:
        """Base URL without `/v1`."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def requests_to(self, path: str) -> list[Received]:
        """Return the requests that came to `path`, in order."""
        return [one for one in self.received if one.path == path]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def __enter__(self) -> Self:
        self._thread = _Thread(self)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._thread.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (received := await _read(reader)) is not None:
                self.received.append(received)
                if not await _write(writer, self._reply(received)):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, which is its right
        finally:
            writer.transport.abort() if self._tls is None else writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _reply(self, received: Received) -> Reply:
        answering = self.routes.get(received.path, error(404, "Not Found"))
        if isinstance(answering, Sequence):
            place = min(self._counts[received.path], len(answering) - 1)
            answering = answering[place]
        self._counts[received.path] += 1
        return answering if isinstance(answering, Reply) else answering(received)


@dataclass(eq=False)
class _Thread:
    """Runs a server in a loop of its own."""

    server: FaultyServer
    _ready: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the faulty server did not start"

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.server:
            self._ready.set()
            await self._stop.wait()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = target.partition("?")
    return Received(method=method, path=path, query=query, headers=headers, body=body)


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Write a reply; return whether the connection can be used again."""
    if not reply.raw:
        writer.write(_head_of(reply))
    for step in reply.steps:
        if isinstance(step, Disconnect):
            await writer.drain()
            return False
        if isinstance(step, Hang):
            await asyncio.Event().wait()
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif step:
            writer.write(b"%x\r\n%s\r\n" % (len(step), step) if reply.chunked else step)
            await writer.drain()
    if reply.chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return not reply.raw


def _head_of(reply: Reply) -> bytes:
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    length = sum(len(step) for step in reply.steps if isinstance(step, bytes))
    framing = ("Transfer-Encoding", "chunked") if reply.chunked else ("Content-Length", str(length))
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in (*reply.headers, framing))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


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
