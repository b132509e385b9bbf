"""One careful HTTP request to somebody else's server, with every way it can go wrong told in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pytest_mooncake.border.http import MOST_BYTES, Reply, open_session, reason_of, send
from pytest_mooncake.border.pinning import PinnedResolver
from pytest_mooncake.border.values import NotJson, parse_json, printable
from pytest_mooncake.errors import BorderError, EndpointError
from pytest_mooncake.plan.secrets.credentials import Credentials

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Answer", "Prober", "printable"]

_EXCERPT_CHARS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: status, the text, a few headers. `remedy` helps who is refused."""

    reply: Reply
    content_type: str
    location: str
    retry_after: str
    server: str
    remedy: str

    @property
    def url(self) -> str:
        """What was asked."""
        return self.reply.url

    @property
    def status(self) -> int:
        """HTTP's."""
        return self.reply.status

    @property
    def text(self) -> str:
        """The body, without secrets; of an answer that is no success at most its first 64 KiB."""
        return self.reply.text

    @property
    def raw(self) -> str:
        """The body as it came: for counters, which are many and not shown."""
        return self.reply.raw

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
        """Return the body as JSON; `expected` says what it should have been.

        Raises:
            EndpointError: it is not JSON, or none that can be taken in (`border.values`).
        """
        try:
            return self.reply.json()
        except NotJson:
            kind = self.content_type or "no content type"
            raise self.error(
                f"does not answer with {expected} but with {kind}{self._said()}; is the port right?"
            ) from None

    def _reason(self) -> str:
        return reason_of(self.status)

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
        self._session = open_session(
            headers_for=self._credentials.headers_for,
            redact=self._credentials.redacted,
            keep_alive=False,
            resolver=PinnedResolver(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str, *, most_bytes: int = MOST_BYTES) -> Answer:
        """Send a GET; a success of more than `most_bytes` is refused.

        Raises:
            EndpointError: nothing that is HTTP came back.
        """
        return await self._send("GET", url, body=None, most_bytes=most_bytes)

    async def post_nothing(self, url: str) -> Answer:
        """Send an empty JSON object, which a generation endpoint refuses and any other address does not know.

        Raises:
            EndpointError: nothing that is HTTP came back.
        """
        return await self._send("POST", url, body=b"{}")

    async def try_get(self, url: str, *, most_bytes: int = MOST_BYTES) -> Answer | None:
        """Send a GET and return `None` where `get` raises."""
        try:
            return await self.get(url, most_bytes=most_bytes)
        except EndpointError:
            return None

    async def _send(self, method: str, url: str, *, body: bytes | None, most_bytes: int = MOST_BYTES) -> Answer:
        assert self._session is not None  # noqa: S101 - only ever called inside the context
        reply = await send(self._session, method, url, timeout_s=self._timeout_s, most_bytes=most_bytes, body=body)

        def header(name: str) -> str:
            return _excerpt(reply.headers.get(name, ""))

        return Answer(
            reply=reply,
            content_type=header("content-type"),
            location=re.sub(r"//[^/@]*@", "//***@", header("location")),
            retry_after=header("retry-after"),
            server=header("server"),
            remedy=self._credentials.remedy,
        )


def _excerpt(text: str) -> str:
    """Return what an error body says: its message where it is JSON, else its first line; escaped and cut."""
    line = next((line for line in (_message(text) or text).splitlines() if line.strip()), "").strip()
    line = printable(line)
    return line if len(line) <= _EXCERPT_CHARS else line[: _EXCERPT_CHARS - 1] + "…"


def _message(text: str) -> str | None:
    try:
        body = parse_json(text, "", most_bytes=len(text))
    except BorderError:
        return None
    for name in ("error", "detail", "message"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    return body if isinstance(body, str) else None
