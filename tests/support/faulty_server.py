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
import ssl
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

from tests.support.replies import (
    DONE,
    MODEL,
    Answering,
    Disconnect,
    Hang,
    Pause,
    Received,
    Reply,
    Routes,
    Stream,
    error,
    event,
    garbage,
    hang_up,
    json_reply,
    limited,
    models,
    redirect,
    silent,
    stream,
    text,
)

__all__ = [
    "DONE",
    "MODEL",
    "Disconnect",
    "FaultyServer",
    "Hang",
    "Pause",
    "Received",
    "Reply",
    "Stream",
    "error",
    "event",
    "garbage",
    "hang_up",
    "json_reply",
    "limited",
    "models",
    "redirect",
    "silent",
    "stream",
    "text",
]


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
        self.tls_reply = error(400, "Invalid HTTP request received.")
        """What a client gets that tries TLS on the plain port."""
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
                if received.method == "TLS":
                    await _write(writer, self.tls_reply)
                    break
                self.received.append(received)
                if not await _write(writer, self._reply(received)):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, which is its right
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
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


_TLS_HANDSHAKE = b"\x16"


async def _read(reader: asyncio.StreamReader) -> Received | None:
    """Return the next request, or `None` at the end; something that begins as TLS is left unread."""
    begin = await reader.read(1)
    if begin == b"":
        return None
    if begin == _TLS_HANDSHAKE:
        return Received(method="TLS", path="", query="", headers={}, body=b"")
    head = (begin + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
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
