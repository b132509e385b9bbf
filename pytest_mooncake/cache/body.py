"""Read an HTTP answer to its end, but no further than a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

__all__ = ["read_text"]


async def read_text(response: aiohttp.ClientResponse, max_bytes: int) -> str:
    """Return the whole body as text; bytes that are no UTF-8 are replaced.

    Raises:
        ValueError: the body is larger than `max_bytes`.
    """
    body = bytearray()
    async for piece in response.content.iter_chunked(2**16):
        body += piece
        if len(body) > max_bytes:
            raise ValueError(f"the answer is larger than {max_bytes / 2**20:g} MiB")
    return body.decode("utf-8", errors="replace")
