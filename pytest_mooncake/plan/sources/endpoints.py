"""Addresses of endpoints, and the one that a run is compared with."""

from __future__ import annotations

from urllib.parse import urlsplit

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import StackPlan

__all__ = ["STORE_SCHEME", "check_store_url", "check_url", "versus_of"]

STORE_SCHEME = "mooncakestore://"

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "::1")


def versus_of(url: str | None, stack: StackPlan) -> StackPlan | None:
    """The endpoint that `stack` replaces: asked for the same model, with the same key and header.

    Args:
        url: of `--mooncake-versus`.
        stack: of the run.

    Raises:
        UsageError: it is no address, the run has no endpoint of its own or several, or both are the same one.
    """
    if url is None:
        return None
    if stack.kind != "attached" or len(stack.urls) != 1:
        raise UsageError(
            "--mooncake-versus OLD is compared with one endpoint: give one --mooncake-url http(s)://… as NEW"
        )
    check_url("--mooncake-versus", url)
    if _place(url) == _place(stack.urls[0]):
        raise UsageError(f"--mooncake-versus {url} is the endpoint of --mooncake-url itself: give the one it replaces")
    return StackPlan(
        name="versus",
        kind="attached",
        urls=(url,),
        model_name=stack.model_name,
        api_key_env=stack.api_key_env,
        header_env=stack.header_env,
    )


def _place(url: str) -> tuple[str | None, int | None, str]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname in _LOOPBACK else parts.hostname
    return host, parts.port or _PORTS.get(parts.scheme), parts.path.strip("/").removesuffix("v1").strip("/")


def check_store_url(flag: str, url: str) -> None:
    """Refuse what is no address of a master's RPC port.

    Raises:
        UsageError: it is none, or carries a password or a path.
    """
    try:
        parts = urlsplit(url)
        complete = url.startswith(STORE_SCHEME) and bool(parts.hostname and parts.port)
        complete = complete and not parts.username and not parts.path.strip("/")
    except ValueError:
        complete = False
    if not complete:
        raise UsageError(
            f"{flag} {STORE_SCHEME}…: expected {STORE_SCHEME}host:port, with the master's RPC port (50051 by default)"
        )


def check_url(flag: str, url: str) -> None:
    """Refuse what is no http address, or carries a password.

    Raises:
        UsageError: it is none, or does.
    """
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError as error:
        raise UsageError(f"{flag} {url}: not a URL ({error}); write http://host:port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok:
        raise UsageError(f"{flag} {url}: not an address; write http://host:port or https://host")
    if parts.username or parts.password:
        raise UsageError(f"{flag}: a URL with a password in it would end in logs; use --mooncake-api-key-env VAR")
