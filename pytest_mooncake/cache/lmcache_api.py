"""Where LMCache's internal API listens: the only way to what its workers keep in CPU memory.

A worker of rank r listens on port 7000 + r of its own machine, if it was told to and how; a stack that we started says
itself where. Whatever else listens there is left alone: what answers has to name LMCache's version first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_mooncake.border.http import NoReply, send
from pytest_mooncake.records import StackView

if TYPE_CHECKING:
    import aiohttp

__all__ = ["FIRST_PORT", "connectors_of"]

FIRST_PORT = 7000
"""LMCache's default, `internal_api_server_port_start` (6999) and one for the scheduler (`api_server.py`)."""
MOST_RANKS = 64
TIMEOUT_S = 2.0
MAX_BYTES = 2**12
VERSION = re.compile(r'"?\d+\.\d+[\w.+-]*"?')


async def connectors_of(session: aiohttp.ClientSession, view: StackView) -> tuple[str, ...]:
    """URLs of the workers whose memory can be cleared; empty where the API is off, which it is by default."""
    known = view.details.get("lmcache_api_urls")
    if known is not None:
        return tuple(known)
    if view.simulated:
        return ()
    hosts = dict.fromkeys(urlsplit(engine.url).hostname for engine in view.engines)
    found: list[str] = []
    for host in hosts:
        named = f"[{host}]" if host and ":" in host else host
        for rank in range(MOST_RANKS):
            url = f"http://{named}:{FIRST_PORT + rank}"
            if not await _is_lmcache(session, url):
                break
            found.append(url)
    return tuple(found)


async def _is_lmcache(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        reply = await send(session, "GET", f"{url}/lmc_version", timeout_s=TIMEOUT_S, most_bytes=MAX_BYTES)
    except NoReply:
        return False
    return reply.status == 200 and VERSION.fullmatch(reply.text.strip()) is not None
