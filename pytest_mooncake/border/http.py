"""The one way in which anything but the measuring client asks a server: bounded, never redirected, limited in time.

A server that was attached to may be anybody's: it may send us elsewhere (with our secrets), never end, drip, or pack
gigabytes into a few megabytes. So redirects are never followed, a limit holds for the whole exchange, and bytes are
counted twice, as they arrive and as they are unpacked, piece by piece: the library's own unpacking is switched off,
since it may unpack a whole read at once. We ask for answers that are not packed; gzip and deflate are read anyway.

`tests/unit/border/test_http_lint.py` and ruff's banned imports keep other ways out of the package.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pytest_mooncake.border.unpacking import Unpacking, Unreadable
from pytest_mooncake.border.values import Redact, parse_json, printable, whole_text
from pytest_mooncake.errors import BorderError

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

__all__ = [
    "MOST_BYTES",
    "NoReply",
    "Reply",
    "each_line",
    "open_session",
    "reason_of",
    "redacted",
    "send",
    "send_now",
]

MOST_BYTES = 4 * 2**20
"""Of an answer that was asked for and not said to be larger: a list of models, a completion, tokens of a text."""
MOST_REFUSAL_BYTES = 2**16
"""Of an answer that is no success: only its first words are shown, the rest is not read and no reason to complain."""
MOST_LINE_BYTES = 2**16

_redactions: WeakKeyDictionary[aiohttp.ClientSession, Redact] = WeakKeyDictionary()
"""What is taken out of everything that is read through a session of `open_session`."""


class NoReply(BorderError):
    """No answer that could be read; `why` says so without the address, `timed_out` whether it only was too slow."""

    def __init__(self, url: str, why: str, *, timed_out: bool = False) -> None:
        super().__init__(f"{url} {why}")
        self.why = why
        self.timed_out = timed_out


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer. Names of `headers` are in lower case.

    `raw` is the body as it came, for what is parsed and not shown; secrets that the session takes out are in no other
    part of an answer.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    raw: str = field(repr=False)
    redact: Redact | None = field(default=None, repr=False)

    @cached_property
    def text(self) -> str:
        """The body, secrets taken out."""
        return self.redact(self.raw) if self.redact else self.raw

    def json(self) -> Any:
        """Return the body as JSON: finite, whole, shallow (`border.values`), secrets taken out of decoded texts.

        Raises:
            NotJson: it is no JSON.
            BorderError: it is JSON that cannot be taken in.
        """
        # its size was bounded when it was read
        return parse_json(self.raw, self.url, most_bytes=len(self.raw), redact=self.redact)


def open_session(
    *,
    headers_for: Callable[[str], Mapping[str, str]] | None = None,
    redact: Redact | None = None,
    keep_alive: bool = True,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """Open connections for `send`: no proxies of the environment, no cookies.

    Args:
        headers_for: what a request to a URL carries beyond its own headers: secrets, at their own origins only.
        redact: takes secrets out of all that is read.
        keep_alive: False takes a new connection for each request.
        resolver: looks names up; what it finds is then not kept.
    """
    import aiohttp

    async def carry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        for name, value in headers_for(str(request.url)).items() if headers_for else ():
            request.headers.setdefault(name, value)
        return await handler(request)

    session = aiohttp.ClientSession(
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(force_close=not keep_alive, resolver=resolver, use_dns_cache=resolver is None),
        auto_decompress=False,
        middlewares=(carry,) if headers_for else (),
    )
    if redact is not None:
        _redactions[session] = redact
    return session


def redacted(session: aiohttp.ClientSession, text: str) -> str:
    """Return `text`, which a server sent, without the secrets that this session carries."""
    redact = _redactions.get(session)
    return redact(text) if redact else text


async def send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    timeout_s: float,
    most_bytes: int = MOST_BYTES,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """Send one request and read the answer, whatever its status; redirects are answers like others.

    Args:
        session: of `open_session`.
        method: `GET`, `POST`, …
        url: full address.
        timeout_s: limit of the whole exchange, from looking up the name to the last byte.
        most_bytes: a success that is longer is refused, packed or unpacked; of other answers the beginning is read.
        headers: further headers.
        body: JSON to send.

    Raises:
        NoReply: nothing that is HTTP came back, it was too slow or too long.
    """
    async with _asked(session, method, url, timeout_s, headers, body) as response:
        raw = await _text(response, url, most_bytes)
        return Reply(
            method=method,
            url=url,
            status=response.status,
            headers=_headers(session, response),
            raw=raw,
            redact=_redactions.get(session),
        )


async def each_line(
    session: aiohttp.ClientSession,
    url: str,
    take: Callable[[str], None],
    *,
    timeout_s: float,
    most_bytes: int,
) -> int:
    """GET a long list and give its lines to `take` as they arrive, so that it is never held; return the status.

    Lines are as the server sent them (`redacted` is for those that are shown); of an answer that is no success none is
    taken.

    Raises:
        NoReply: as `send`, or a line is longer than 64 KiB.
    """
    rest = ""

    def cut(text: str) -> None:
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        if len(rest) > MOST_LINE_BYTES:
            raise NoReply(url, f"sends a line of more than {MOST_LINE_BYTES // 2**10} KiB: is the port right?")
        for line in lines:
            take(line)

    async with _asked(session, "GET", url, timeout_s) as response:
        if _is_success(response):
            async with contextlib.aclosing(_texts(response, url, most_bytes)) as texts:
                async for text in texts:
                    cut(text)
        if rest:
            take(rest)
        return response.status


def send_now(
    method: str, url: str, *, timeout_s: float, most_bytes: int = MOST_BYTES, body: bytes | None = None
) -> Reply:
    """`send` for code that does not wait in an event loop, over a connection of its own.

    Raises:
        NoReply: as `send`.
    """

    async def once() -> Reply:
        async with open_session(keep_alive=False) as session:
            return await send(session, method, url, timeout_s=timeout_s, most_bytes=most_bytes, body=body)

    # a loop factory leaves the thread's own event loop alone
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(once())


@contextlib.asynccontextmanager
async def _asked(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send, and give the response while its body is read; what goes wrong meanwhile becomes one line.

    Raises:
        NoReply: see `send`.
    """
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError

    own = {"Accept": "application/json, text/plain, */*", "Accept-Encoding": "identity"}
    own |= {"Content-Type": "application/json"} if body is not None else {}
    try:
        async with session.request(
            method,
            url,
            headers={**own, **(headers or {})},
            data=body,
            allow_redirects=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            yield response
    except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ValueError) as error:
        why = redacted(session, _why(error, url, timeout_s))
        raise NoReply(url, why, timed_out=isinstance(error, TimeoutError)) from None


def _is_success(response: aiohttp.ClientResponse) -> bool:
    return 200 <= response.status < 300


def _headers(session: aiohttp.ClientSession, response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): redacted(session, whole_text(value)) for name, value in response.headers.items()}


async def _text(response: aiohttp.ClientResponse, url: str, most_bytes: int) -> str:
    return "".join([text async for text in _texts(response, url, most_bytes)])


async def _texts(response: aiohttp.ClientResponse, url: str, most_bytes: int) -> AsyncGenerator[str, None]:
    """Decode the body as UTF-8, whatever it says of itself; what is none is replaced, a byte order mark left out.

    Raises:
        NoReply: a success is longer than `most_bytes` or packed in a way that cannot be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    is_success = _is_success(response)
    try:
        unpacking = Unpacking(
            response.headers.get("Content-Encoding", ""), most_bytes if is_success else MOST_REFUSAL_BYTES
        )
        async for data in response.content.iter_any():
            for piece in unpacking.pieces(data):
                yield decoder.decode(piece)
        unpacking.end()
        yield decoder.decode(b"", True)
    except Unreadable as problem:
        if is_success:
            raise NoReply(url, str(problem)) from None


def _why(error: Exception, url: str, timeout_s: float) -> str:
    """Return what a failed request means and what to do about it."""
    import aiohttp

    if isinstance(error, TimeoutError):
        return f"does not answer within {timeout_s:g} s: is it up, and does a firewall let us through?"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "has a host name that cannot be resolved: is it spelt right?"
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError)):
        return _tls(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error.os_error, url)
    if isinstance(error, aiohttp.ClientPayloadError):
        return "breaks its answer off in the middle: is something between us and the server?"
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        return f"closes the connection without an answer: {_other_scheme(url)}"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"answers, but not in HTTP: {_other_scheme(url)}"
    return f"cannot be asked: {_words(error) or type(error).__name__}"


def _words(error: object) -> str:
    """Return what an error says; the libraries repeat what a server sent, so it is cut and escaped."""
    return printable(" ".join(whole_text(str(error)[:200]).split()))


def _tls(error: Exception) -> str:
    detail = str(error)
    if "certificate" in detail.lower():
        return (
            f"has a TLS certificate that is not trusted ({_certificate_problem(detail)}): "
            "set SSL_CERT_FILE to the authority that signed it"
        )
    return "does not speak TLS: is it http:// instead of https://, or another port?"


def _certificate_problem(detail: str) -> str:
    found = re.search(r"verify failed: ([^(\]']+)", detail)
    return printable(found.group(1).strip().rstrip(".")) if found else "verification failed"


def _not_connected(error: OSError, url: str) -> str:
    if isinstance(error, ConnectionResetError):  # in the middle of the TLS handshake
        return f"closes the connection without an answer: {_other_scheme(url)}"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection: nothing listens there; is the server up, and the port right?"
    reason = error.strerror or str(error) or type(error).__name__
    return f"cannot be reached: {printable(reason)}"


def _other_scheme(url: str) -> str:
    other = "http://" if url.startswith("https:") else "https://"
    return f"is it {other}, or the port of something else?"


def reason_of(status: int) -> str:
    """Return a status as people know it.

    >>> reason_of(404), reason_of(299)
    ('404 Not Found', '299')
    """
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
