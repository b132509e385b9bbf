"""One request: send it, note everything, and read what came back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from pytest_mooncake.load.http.bodies import Prepared
from pytest_mooncake.load.http.completion import StreamReading
from pytest_mooncake.load.http.failures import count_fault, describe, foreign_line
from pytest_mooncake.load.http.sse import Mark, SSEParser
from pytest_mooncake.load.http.transport import Transport
from pytest_mooncake.load.http.turnstile import Turnstile
from pytest_mooncake.load.spec import RoundSpec
from pytest_mooncake.records import RequestRecord

if TYPE_CHECKING:
    from pytest_mooncake.border.redaction import Redactor
    from pytest_mooncake.load.http.transport import StampingProtocol
    from pytest_mooncake.plan.models import Timeouts

__all__ = ["Exchange", "max_body_bytes"]

_BYTES_PER_STREAM = 4 * 2**20
_BYTES_PER_TOKEN = 4 * 2**10
_READS_PER_STREAM = 2**16
_READS_PER_TOKEN = 2**6
_SLICE = 32
"""Events read between two turns of the event loop (about 0.1 ms): reading one response must not delay other stamps."""
_QUIET_NS = 100_000_000
"""A stream silent for so long is parsed to its last read: a fault in it would not show before its time limit."""
_ERROR_BODY_BYTES = 4096
_PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


def max_body_bytes(output_tokens: int) -> int:
    """Largest response body that is read: 4 MiB and 4 KiB a token; a longer one is a failed request.

    Together with the bound on reads this is the memory that one open stream can take (about 90 bytes a read).
    """
    return _BYTES_PER_STREAM + _BYTES_PER_TOKEN * output_tokens


def endpoint_of(spec: RoundSpec, engine: int) -> URL:
    """Where requests for `engine` go."""
    return URL(spec.engines[engine].url + _PATHS[spec.api])


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """One request on its way. Times are written by the transport, limits are enforced by `watch`."""

    spec: RoundSpec
    prepared: Prepared
    request_id: str
    intended_ns: int
    ready_ns: int | None
    started_ns: int
    marks: list[Mark] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)
    """What has arrived and was not parsed yet."""
    connected_ns: int | None = None
    sent_ns: int | None = None
    stamped_by: StampingProtocol | None = None
    read_late: bool = False
    """Whether reads were stamped when this task got them, for want of aiohttp internals that we know."""
    http_status: int | None = None
    ended_ns: int | None = None
    error: str | None = None
    expired: str | None = None
    reading: StreamReading = field(init=False)
    _parser: SSEParser = field(init=False)
    _head: bytes = b""
    _deadline: asyncio.Timeout | None = None

    def __post_init__(self) -> None:
        chat, keeps_ids = self.spec.api == "chat", self.prepared.keeps_ids
        self.reading = StreamReading(chat=chat, keeps_ids=keeps_ids, redactor=self.spec.redactor)
        self._parser = SSEParser(self.marks)

    async def perform(self, transport: Transport) -> None:
        """Send the request and wait for the end of the response; what goes wrong ends up in `error`."""
        try:
            async with asyncio.timeout(None) as self._deadline:
                await self._converse(transport)
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            expired = self._deadline is not None and self._deadline.expired()
            self.error = self._excess() or (self.expired if expired else self._describe(error))
        self._deadline = None
        self.ended_ns = transport.clock()

    @property
    def most_bytes(self) -> int:
        """Largest response body that is read."""
        return max_body_bytes(self.prepared.output_tokens)

    def _describe(self, error: BaseException) -> str:
        return describe(
            error,
            sent=self.sent_ns is not None,
            output=self._arrived_bytes > 0,
            redactor=self.spec.redactor,
        )

    async def _converse(self, transport: Transport) -> None:
        url = endpoint_of(self.spec, self.prepared.engine)
        async with transport.post(url, self.prepared.body, self, request_id=self.request_id) as response:
            self.http_status = response.status
            if response.status == 200:
                await self._receive(response, transport)
            else:
                self.error = await _refusal(response, self.spec.redactor)

    async def _receive(self, response: aiohttp.ClientResponse, transport: Transport) -> None:
        content = response.content
        if self.stamped_by is not None and self.stamped_by.take_over(content, is_framed=_is_framed(response)):
            await _end_of(content)
            self.error = self._excess()
            return
        self.read_late = True
        self.marks.clear()
        total = 0
        async for data in content.iter_any():
            total += len(data)
            self.marks.append((transport.clock(), total))
            self.held.append(data)
            self.error = self._excess()
            if self.error is not None:
                return

    def expire(self, reason: str | None) -> None:
        """Give up waiting, now; `reason` becomes the request's error."""
        self.expired = reason
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def overdue(self, now_ns: int) -> str | None:
        """Say which limit the request has passed; `None` while it is within all of them."""
        limits = self.spec.timeouts
        if self.stamped_by is not None:
            self.stamped_by.catch_up(quiet_since_ns=now_ns - _QUIET_NS)
        excess = self._excess()
        if excess is not None:
            return excess
        if _passed(now_ns, self.started_ns, limits.request_s):
            return f"not complete within {limits.request_s:g} s (limit request)"
        if self._is_silent(now_ns, limits):
            self.advance()
            return self._silence(now_ns, limits)
        return None

    def _excess(self) -> str | None:
        tokens = self.prepared.output_tokens
        if self._arrived_bytes > self.most_bytes:
            return f"the response is longer than {self.most_bytes} bytes: no completion of {tokens} tokens"
        if len(self.marks) > _READS_PER_STREAM + _READS_PER_TOKEN * tokens:
            return f"the response came in more than {len(self.marks) - 1} pieces: no completion of {tokens} tokens"
        return None

    @property
    def _arrived_bytes(self) -> int:
        return self.marks[-1][1] if self.marks else 0

    def _is_silent(self, now_ns: int, limits: Timeouts) -> bool:
        return self._silence(now_ns, limits) is not None

    def _silence(self, now_ns: int, limits: Timeouts) -> str | None:
        last_ns = self.reading.last_token_ns
        if last_ns is None:
            since_ns = self.started_ns if self.sent_ns is None else self.sent_ns
            late = _passed(now_ns, since_ns, limits.first_token_s)
            return f"no output within {limits.first_token_s:g} s (limit first-token)" if late else None
        late = _passed(now_ns, last_ns, limits.between_chunks_s)
        return f"no further output within {limits.between_chunks_s:g} s (limit between-chunks)" if late else None

    def advance(self) -> None:
        """Read what has arrived so far. Late by design: the marks, not this moment, say when."""
        for event in self._parser.feed(self._pull()):
            self.reading.take(event)

    async def read_rest(self, turnstile: Turnstile) -> None:
        """Read what has not been read yet, in slices that leave the loop free for other requests' bytes."""
        await turnstile.wait_turn(priority=False)
        events = self._parser.feed(self._pull())
        if self.error is None:
            # What a broken connection leaves of its last event is no fault of its own.
            events += self._parser.finish()
        if not (events or self.reading.began or self.error):
            said = foreign_line(self._head, self.spec.redactor)
            self.error = f"HTTP {self.http_status}, but no event stream: {said or 'an empty body'!r}"
        for start in range(0, len(events), _SLICE):
            await turnstile.wait_turn(priority=False)
            for event in events[start : start + _SLICE]:
                self.reading.take(event)

    def _pull(self) -> bytes:
        if self.stamped_by is not None:
            self.stamped_by.catch_up()
        data = b"".join(self.held)
        self.held.clear()
        self._head = self._head or data[:_ERROR_BODY_BYTES]
        return data

    @property
    def free_ns(self) -> int:
        """When the slot that this request held became free: its last byte, or when it was given up."""
        return self.marks[-1][0] if self.marks and self.error is None else self.ended_ns or self.started_ns

    def fault(self) -> str | None:
        """Say why the request failed, `None` when it did not. What the server said explains best, so it goes first."""
        reading = self.reading
        if reading.error or self.error:
            return reading.error or self.error
        if reading.output_tokens is None and reading.miscount:
            return reading.miscount
        return count_fault(
            prompt_planned=self.prepared.prompt_tokens,
            prompt=reading.prompt_tokens,
            output_planned=self.prepared.output_tokens,
            output=reading.output_tokens,
        )

    def record(self) -> RequestRecord:
        """Everything measured, as the journal keeps it."""
        reading, prepared = self.reading, self.prepared
        return RequestRecord(
            round=self.spec.round,
            kind=self.spec.kind,
            phase=self.spec.phase,
            index=prepared.index,
            engine=prepared.engine,
            request_id=self.request_id,
            prompt_tokens_planned=prepared.prompt_tokens,
            output_tokens_planned=prepared.output_tokens,
            intended_ns=self.intended_ns,
            ready_ns=self.ready_ns,
            connected_ns=self.connected_ns,
            sent_ns=self.sent_ns,
            first_byte_ns=self.marks[0][0] if self.marks else None,
            first_role_ns=reading.first_role_ns,
            first_token_ns=reading.first_token_ns,
            last_token_ns=reading.last_token_ns,
            usage_ns=reading.usage_ns,
            done_ns=self.marks[-1][0] if self.marks else self.ended_ns,
            prompt_tokens=reading.prompt_tokens,
            output_tokens=reading.output_tokens,
            cached_tokens=reading.cached_tokens,
            chunk_ns=tuple(reading.chunk_ns),
            chunk_tokens=reading.chunk_tokens,
            finish_reason=reading.finish_reason,
            output_sha256=reading.output_sha256,
            http_status=self.http_status,
            error=self.fault(),
        )


def _is_framed(response: aiohttp.ClientResponse) -> bool:
    """Whether a body's framing tells its end, and a read is no more than it seems, as a compressed one may be."""
    return (
        response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        and "Content-Encoding" not in response.headers
    )


def _passed(now_ns: int, since_ns: int, limit_s: float) -> bool:
    return now_ns - since_ns > limit_s * 1e9


async def _end_of(content: aiohttp.StreamReader) -> None:
    """Wait for the end of a body without being woken in between; `wait_eof` alone would miss an error already there."""
    error = content.exception()
    if error is not None:
        raise error
    await content.wait_eof()


async def _refusal(response: aiohttp.ClientResponse, redactor: Redactor) -> str:
    if 300 <= response.status < 400:
        target = foreign_line(response.headers.get("Location", "nowhere"), redactor)
        return f"HTTP {response.status}: a redirect to {target!r}, not followed"
    body = foreign_line(await response.content.read(_ERROR_BODY_BYTES), redactor)
    return f"HTTP {response.status}: {body or foreign_line(response.reason or 'no message', redactor)}"
