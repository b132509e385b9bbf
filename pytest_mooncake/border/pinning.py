"""Connections to one of several addresses that a host name stands for; name, certificate and secrets stay its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextvars import ContextVar

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

__all__ = ["PinnedResolver", "addresses_of", "at_address"]

_wanted: ContextVar[str | None] = ContextVar("wanted", default=None)


@contextlib.contextmanager
def at_address(address: str | None) -> Iterator[None]:
    """Connect to `address` (IPv4 or IPv6) whatever host a URL names, as long as this lasts; None looks names up."""
    token = _wanted.set(address)
    try:
        yield
    finally:
        _wanted.reset(token)


class PinnedResolver(AbstractResolver):
    """Looks names up, except inside `at_address`. Its connector must keep neither names nor connections."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where to connect to."""
        address = _wanted.get()
        if address is None:
            return await self._names.resolve(host, port, family)
        found = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(hostname=host, host=address, port=port, family=found, proto=0, flags=socket.AI_NUMERICHOST)
        ]

    async def close(self) -> None:
        """Release what looking up names took."""
        await self._names.close()


async def addresses_of(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses that a host name stands for, each once, in order; IPv6 ones only where there are no others.

    A process that is reached by both families would be counted twice.

    Raises:
        OSError: the name cannot be looked up.
    """
    import asyncio

    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    four = [str(where[0]) for family, _, _, _, where in found if family == socket.AF_INET]
    six = [str(where[0]) for family, _, _, _, where in found if family == socket.AF_INET6]
    return tuple(dict.fromkeys(four or six))
