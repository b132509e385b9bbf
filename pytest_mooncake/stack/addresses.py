"""Addresses as people write them, brought into one form or refused with a line that says what was meant."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from pytest_mooncake.errors import UsageError

_STORE_SCHEME = "mooncakestore"


def engine_url(text: str, option: str = "--mooncake-url") -> str:
    """Return the base URL of an engine: no trailing slash, no `/v1`.

    >>> engine_url(" http://localhost:8000/v1/ ")
    'http://localhost:8000'

    Raises:
        UsageError: not `http(s)://host[:port][/path]`, credentials inside, a query, or the path of one endpoint.
    """
    if text.strip().lower().startswith(f"{_STORE_SCHEME}:"):
        raise UsageError(
            f"{option} {_shown(text)}: names a store and no engine; give the http(s):// address of "
            "engines that use it, with --mooncake-master http://host:9003 for its counters"
        )
    parts = _split(text, option)
    path = parts.path.rstrip("/")
    for ending in ("/completions", "/models"):
        if path.endswith(ending):
            raise UsageError(
                f"{option} {_shown(text)}: give the base of the API, not one of its paths: "
                f"{_join(parts, path[: path.find('/v1')] if '/v1' in path else '')}"
            )
    return _join(parts, path.removesuffix("/v1").rstrip("/"))


def admin_url(text: str, option: str = "--mooncake-master") -> str:
    """Return the base URL of an admin port: no trailing slash, no `/metrics`.

    Raises:
        UsageError: as `engine_url`.
    """
    parts = _split(text, option)
    return _join(parts, parts.path.rstrip("/").removesuffix("/metrics").rstrip("/"))


def metrics_url(text: str, option: str = "--mooncake-metrics") -> str:
    """Return the full URL of a metrics page; an address without a path means `/metrics`.

    Raises:
        UsageError: as `engine_url`.
    """
    parts = _split(text, option)
    return _join(parts, parts.path.rstrip("/") or "/metrics")


def _split(text: str, option: str) -> SplitResult:
    text = text.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{option} {_shown(text)}: {error}; expected http(s)://host:port") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{option} {parts.scheme}://***@{parts.hostname}: no credentials in an address (they would end up in "
            "reports); put the key into an environment variable and name it with --mooncake-api-key-env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or any(char.isspace() for char in text):
        raise UsageError(f"{option} {_shown(text)}: expected http(s)://host:port, e.g. http://127.0.0.1:8000")
    if port == 0:
        raise UsageError(f"{option} {_shown(text)}: port 0 is no port; expected 1 to 65535")
    if parts.query or parts.fragment:
        raise UsageError(f"{option} {_shown(_join(parts, parts.path))}: an address takes no '?…' or '#…'")
    return parts


def _join(parts: SplitResult, path: str) -> str:
    return f"{parts.scheme}://{parts.netloc}{path}"


def _shown(text: str) -> str:
    """Return `text` as it may be printed: what could be credentials is left out."""
    scheme, separator, rest = text.strip().partition("?")[0].rpartition("://")
    secret, at, host = rest.rpartition("@")
    return repr(scheme + separator + ("***" if secret else "") + at + host)
