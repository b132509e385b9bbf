"""HTTP through aiohttp, with the clock in the two places where it belongs.

Arrival. aiohttp hands bytes to a reader, wakes a task, and only then can the task look at the clock: under load that
is milliseconds late, and every wake-up costs CPU. `StampingProtocol` looks at the clock when the event loop delivers
the bytes and notes it with the body's byte count; `StampingReader` puts the bytes where the request keeps them, without
an account of each, and wakes nobody until the response has ended. aiohttp parses some reads late and together, where
the framing of a body tells its end: between two reads the machine's caches forget what the parser needs, and that, not
the work, is most of what parsing a read costs.

Sending. `StampedBody` looks at the clock when the last byte of the request has been handed to the socket: write buffers
are set to 0, so `drain` returns no earlier than that (over TLS: than all is encrypted and all but 64 KiB handed on).

Of aiohttp's internals this leans on `BaseConnector._factory`, `ResponseHandler._payload`, `StreamReader._protocol`, a
`StreamReader` that may become one of another class, and `StreamWriter.protocol`. All are checked when a connection is
used; where one is missing, reads are stamped when the task gets them (`Stamping` "read"), which costs accuracy under
load and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.payload import Payload
from yarl import URL

from pytest_mooncake.load.http.turnstile import Turnstile

if TYPE_CHECKING:
    from pytest_mooncake.load.http.sse import Mark

__all__ = ["Clock", "StampedBody", "StampingProtocol", "StampingReader", "Stamps", "Transport"]

Clock = Callable[[], int]

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the server drops them (uvicorn, hence vLLM: 5 s). A request sent into a
connection that is just being closed would fail, and would be counted against the product."""

ENOUGH_PUT_OFF = 16
"""Reads of one connection that are parsed together, in a turn of the loop to come: 0.05 ms or less."""
MOST_PUT_OFF = 64
_LARGE_READ_BYTES = 2**14
"""So many reads, or one so large, are parsed at once: no more than 1 MiB a connection waits for its turn."""

_BODY_END = b"\r\n\r\n"
"""How a body in chunked transfer coding ends (RFC 9112, 7.1), trailers or not. A shorter read may be a part of it."""

_READ_BUFFER_BYTES = 4 * 2**20
_CONNECT_TIMEOUT_S = 10.0


class Stamps(Protocol):
    """Where one request's times are written, and the bytes of its response."""

    marks: list[Mark]
    held: list[bytes]
    connected_ns: int | None
    sent_ns: int | None
    stamped_by: StampingProtocol | None

    @property
    def most_bytes(self) -> int:
        """Largest response body; a longer one ends the connection."""


class StampingProtocol(ResponseHandler):
    """A connection that notes every read in `marks`: `(at_ns, body bytes so far)`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, turnstile: Turnstile) -> None:
        super().__init__(loop=loop)
        self._clock = clock
        self._turnstile = turnstile
        self._marks: list[Mark] = []
        self.most_bytes = sys.maxsize
        self.held: list[bytes] = []
        self._put_off: list[tuple[int, bytes]] = []
        self._reader: aiohttp.StreamReader | None = None
        self._is_patient = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let `drain` wait until the socket has taken everything."""
        super().connection_made(transport)
        # TLS pauses a writer at its limit already, plain TCP above it: paused at nothing, `drain` would return no
        # earlier than the answer comes.
        high = 0 if transport.get_extra_info("ssl_object") is None else 1
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=high)  # uvloop's is none by inheritance

    def begin(self, stamps: Stamps) -> None:
        """Note reads in `stamps.marks` from now on; the body of the response before is over."""
        self.catch_up()
        self._payload = self._reader = None
        self._is_patient = False
        self._marks = stamps.marks
        self.most_bytes = stamps.most_bytes
        self.held = stamps.held

    def data_received(self, data: bytes) -> None:
        """Stamp first, then parse, or put that off where the framing will tell the end of the body."""
        now = self._clock()
        if not (self._is_patient and data):
            self._parse(now, data)
            return
        put_off = self._put_off
        put_off.append((now, data))
        if len(put_off) >= MOST_PUT_OFF or len(data) > _LARGE_READ_BYTES:
            self.catch_up()
        elif data[-4:] == _BODY_END or len(data) < len(_BODY_END):
            self._turnstile.schedule(self.catch_up, priority=True)
        elif len(put_off) == ENOUGH_PUT_OFF:
            self._turnstile.schedule(self.catch_up, priority=False)

    def catch_up(self, *, quiet_since_ns: int | None = None) -> None:
        """Parse what was put off; with `quiet_since_ns` only where nothing came since."""
        put_off = self._put_off
        if not put_off or (quiet_since_ns is not None and put_off[-1][0] > quiet_since_ns):
            return
        self._put_off = []
        for now, data in put_off:
            self._parse(now, data)
        self._is_patient = self._reader is not None and not self._reader.is_eof()

    def eof_received(self) -> None:
        """Parse what was put off before."""
        self.catch_up()
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Parse what was put off before, and let nobody wait for the end of a body that will not come."""
        self.catch_up()
        reader, fault = self._reader, self.exception()
        super().connection_lost(exc)
        # aiohttp tells a reader of a connection that was lost, but not of one that it closed for broken framing.
        if reader is not None and not reader.is_eof() and reader.exception() is None:
            reader.set_exception(fault or aiohttp.ClientPayloadError("the connection was closed within the body"))

    def _parse(self, now: int, data: bytes) -> None:
        super().data_received(data)
        if data:  # emptying a reader makes aiohttp call `data_received` with nothing
            payload = self._reader or self._payload  # the latter is gone once the request was given up
            total_bytes = payload.total_bytes if payload is not None else 0
            self._marks.append((now, total_bytes))
            if total_bytes > self.most_bytes and self.transport is not None:
                self.transport.abort()  # nobody reads meanwhile: what is not stopped here is held

    def take_over(self, reader: aiohttp.StreamReader, *, is_framed: bool) -> bool:
        """Put what `reader` has and all that it will get into `held`; false where aiohttp's are not as we know them.

        `is_framed` when the body ends with an empty line of its framing (chunked transfer coding): parsing may wait.
        """
        if getattr(self, "_payload", None) is not reader:
            return False
        if not reader.is_eof():
            try:
                reader.__class__ = StampingReader
            except TypeError:  # its layout is not the one that a subclass inherits
                return False
            self._reader, self._is_patient = reader, is_framed
        self.held.append(_drained(reader))
        return True

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing when reading goes on anyway: emptying a reader asks for it once per chunk.

        Arguments differ between versions of aiohttp (none in 3.12).
        """
        if self._reading_paused:
            super().resume_reading(*args, **kwargs)


class StampingReader(aiohttp.StreamReader):
    """A reader that hands what it gets to its connection; only its end is waited for, nothing is read from it.

    aiohttp's parser creates readers and asks nobody of which class: `take_over` makes one of these out of them.
    """

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Hand `data` on and wake nobody; false: the parser holds no more of it back."""
        protocol: StampingProtocol = self._protocol  # type: ignore[assignment]  # `take_over` is one's
        protocol.held.append(data)
        self.total_bytes += len(data)
        if self.total_bytes > protocol.most_bytes:
            protocol.pause_reading()  # or a compressed body would be unpacked to its end before anybody is asked
        return False

    def begin_http_chunk_receiving(self) -> None:
        """Do nothing: how the bytes were framed is of no interest."""

    def end_http_chunk_receiving(self) -> None:
        """Do nothing, as above."""


class StampedBody(Payload):
    """A request body that notes when the connection was there and when the socket had taken its last byte."""

    def __init__(self, body: bytes, stamps: Stamps, clock: Clock) -> None:
        super().__init__(body, content_type="application/json")
        self._size = len(body)
        self._stamps = stamps
        self._clock = clock

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text (aiohttp's interface asks for it)."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the body and stamp."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the body and stamp. aiohttp coalesces the headers into the same write."""
        stamps = self._stamps
        stamps.connected_ns = self._clock()
        protocol = getattr(writer, "protocol", None)
        if isinstance(protocol, StampingProtocol):
            protocol.begin(stamps)
            stamps.stamped_by = protocol
        await writer.write(self._value)
        await writer.drain()
        stamps.sent_ns = self._clock()


class Transport:
    """The connections of one round: no pool limit, no proxy, no cookies, no redirects, no retries.

    Args:
        headers: Sent with every request.
        clock: Nanoseconds, monotonic.
        stamp_on_arrival: False takes the public API only (what happens anyway when aiohttp's internals differ).
    """

    def __init__(self, *, headers: Mapping[str, str], clock: Clock, stamp_on_arrival: bool = True) -> None:
        self._headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **headers}
        self.clock = clock
        self.turnstile = Turnstile()
        self._stamp_on_arrival = stamp_on_arrival
        self.connections_opened = 0

    async def __aenter__(self) -> Self:
        self._connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=KEEPALIVE_S)
        self._install_protocol()
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            read_bufsize=_READ_BUFFER_BYTES,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def _install_protocol(self) -> None:
        factory = getattr(self._connector, "_factory", None)
        known = isinstance(factory, functools.partial) and factory.func is ResponseHandler
        loop = asyncio.get_running_loop()
        if self._stamp_on_arrival and known and hasattr(ResponseHandler(loop), "_payload"):
            self._connector._factory = self._new_protocol  # type: ignore[assignment]  # a factory is all it has to be

    def _new_protocol(self) -> StampingProtocol:
        self.connections_opened += 1
        return StampingProtocol(asyncio.get_running_loop(), self.clock, self.turnstile)

    async def open_connections(self, urls: Mapping[URL, int]) -> None:
        """Open so many connections to each of `urls` and keep them. What fails here fails again later, on record."""
        opening = [self._connect(url) for url, count in urls.items() for _ in range(count)]
        opened = await asyncio.gather(*opening, return_exceptions=True)
        for connection in opened:
            if isinstance(connection, aiohttp.connector.Connection):
                connection.release()
        self.connections_opened = 0

    async def _connect(self, url: URL) -> aiohttp.connector.Connection:
        request = aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop(), session=self._session)
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_TIMEOUT_S)
        return await self._connector.connect(request, traces=[], timeout=timeout)

    def post(
        self, url: URL, body: bytes, stamps: Stamps, *, request_id: str
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one request; the context gives the response once its headers are there."""
        payload = StampedBody(body, stamps, self.clock)
        return self._session.post(url, data=payload, headers={"X-Request-Id": request_id}, allow_redirects=False)


def _drained(content: aiohttp.StreamReader) -> bytes:
    """Take all bytes that a reader holds, also from one that ended in an error."""
    error = content.exception()
    if error is not None:
        # The reader would raise instead of giving what arrived before; whoever waits for its end has the error by now.
        content.set_exception(None)  # type: ignore[arg-type]  # "no error" is what it starts with
    data = content.read_nowait(-1)
    if error is not None:
        content.set_exception(error)
    return data
