"""Read an HTTP answer to its end, but no further than a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mooncake.border.http import NoReply, read_body

if TYPE_CHECKING:
    import aiohttp

__all__ = ["read_text"]


async def read_text(response: aiohttp.ClientResponse, max_bytes: int) -> str:
    """Return the whole body as text; bytes that are no UTF-8 are replaced.

    Raises:
        ValueError: the body is larger than `max_bytes`.
    """
    try:
        return await read_body(response, max_bytes)
    except NoReply as problem:
        raise ValueError(problem.why) from None
