"""One careful HTTP request to somebody else's server, with every way it can go wrong told in one line."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp

from pytest_mooncake.errors import EndpointError
from pytest_mooncake.plan.credentials import Credentials

_BODY_BYTES = 4 * 2**20
"""More of an answer is never read."""
_EXCERPT_CHARS = 160


def printable(text: object) -> str:
    """Return `text` on one line with every character that could move a cursor or colour a terminal escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: status, the text (at most 4 MiB), a few headers. `remedy` helps who is refused."""

    method: str
    url: str
    status: int
    text: str
    content_type: str
    location: str
    retry_after: str
    server: str
    remedy: str

    def error(self, what: str) -> EndpointError:
        """Return the error that says `what` of this answer."""
        return EndpointError(f"{self.url} {what}")

    def require_welcome(self) -> None:
        """Raise if the server knows us not, is busy or sends us elsewhere: what no other path would change."""
        if self.status in (401, 403):
            raise self.error(f"refuses us ({self._reason()}): {self.remedy}{self._said()}")
        if self.status == 429:
            wait = f", Retry-After {self.retry_after}" if self.retry_after else ""
            raise self.error(f"limits our rate ({self._reason()}{wait}): try later, or raise the limit{self._said()}")
        if 300 <= self.status < 400:
            raise self.error(f"redirects ({self._reason()}) to {self.location or 'nowhere'}: give the final address")

    def require_ok(self, *, hint: str = "") -> None:
        """Raise unless the status is 200; `hint` says what to look at when it is none of the usual ones."""
        self.require_welcome()
        if self.status == HTTPStatus.OK:
            return
        raise self.error(f"answers {self._reason()}" + (f": {hint}" if hint else "") + self._said())

    def json(self, *, expected: str) -> Any:
        """Return the body as JSON; `expected` says what it should have been."""
        try:
            return json.loads(self.text)
        except ValueError:
            kind = self.content_type or "no content type"
            raise self.error(
                f"does not answer with {expected} but with {kind}{self._said()}; is the port right?"
            ) from None

    def _reason(self) -> str:
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    def _said(self) -> str:
        words = _excerpt(self.text)
        return f"; it says: {words}" if words else ""


class Prober:
    """Sends single requests; secrets go where they belong and are never shown, not even when a server repeats them.

    Args:
        credentials: what requests to the endpoint's own origins carry.
        timeout_s: limit of a whole request.
    """

    def __init__(self, credentials: Credentials, timeout_s: float) -> None:
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session: no proxies, no cookies, a connection for each request."""
        self._session = aiohttp.ClientSession(
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str) -> Answer:
        """Send a GET.

        Raises:
            EndpointError: nothing that is HTTP came back.
        """
        return await self._send("GET", url, body=None)

    async def post_nothing(self, url: str) -> Answer:
        """Send an empty JSON object, which a generation endpoint refuses and any other address does not know.

        Raises:
            EndpointError: nothing that is HTTP came back.
        """
        return await self._send("POST", url, body=b"{}")

    async def try_get(self, url: str) -> Answer | None:
        """Send a GET and return `None` where `get` raises."""
        try:
            return await self.get(url)
        except EndpointError:
            return None

    async def _send(self, method: str, url: str, *, body: bytes | None) -> Answer:
        assert self._session is not None  # noqa: S101 - only ever called inside the context
        headers = {"Accept": "application/json, text/plain, */*", **self._credentials.headers_for(url)}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method, url, headers=headers, data=body, allow_redirects=False
            ) as response:
                return self._answer(method, url, response, await _text(response))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise EndpointError(f"{url} {self._credentials.redacted(_why(error, url, self._timeout_s))}") from None

    def _answer(self, method: str, url: str, response: aiohttp.ClientResponse, text: str) -> Answer:
        def header(name: str) -> str:
            return _excerpt(self._credentials.redacted(response.headers.get(name, "")))

        return Answer(
            method=method,
            url=url,
            status=response.status,
            text=self._credentials.redacted(text),
            content_type=header("Content-Type"),
            location=re.sub(r"//[^/@]*@", "//***@", header("Location")),
            retry_after=header("Retry-After"),
            server=header("Server"),
            remedy=self._credentials.remedy,
        )


async def _text(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) >= _BODY_BYTES:
            break
    return body[:_BODY_BYTES].decode("utf-8", "replace")


def _excerpt(text: str) -> str:
    """Return what an error body says: its message where it is JSON, else its first line; escaped and cut."""
    line = next((line for line in (_message(text) or text).splitlines() if line.strip()), "").strip()
    line = printable(line)
    return line if len(line) <= _EXCERPT_CHARS else line[: _EXCERPT_CHARS - 1] + "…"


def _message(text: str) -> str | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    for name in ("error", "detail", "message"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    return body if isinstance(body, str) else None


def _why(error: Exception, url: str, timeout_s: float) -> str:
    """Return what a failed request means and what to do about it."""
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
    return f"cannot be asked: {printable(error) or type(error).__name__}"


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
