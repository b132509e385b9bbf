"""Remove this run's keys from a store and nobody else's, by the tag that its requests wrote into them.

The master's admin port has no call for single keys; Mooncake's client library has `remove_by_regex`. It runs in a
process of its own (`removal`), because the library prints, starts threads and may end the process that loads it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.border.child_environment import inherited
from pytest_mooncake.cache.keys import IsOwn, count_keys, is_tagged, own_pattern
from pytest_mooncake.errors import EndpointError
from pytest_mooncake.records import Store

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Removal", "remove_own_keys"]

TIMEOUT_S = 60.0
LOOPBACK = "127.0.0.1"
MODULE = "pytest_mooncake.cache.remove_keys_process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What became of a run's keys: how many were removed and how many stay, None where that is not known; and why."""

    removed: int | None
    left: int | None
    detail: str


async def remove_own_keys(
    session: aiohttp.ClientSession,
    store: Store,
    run_id: str,
    *,
    part: str | None = None,
    protocol: str = "tcp",
    local_hostname: str = LOOPBACK,
    python: str = sys.executable,
    timeout_s: float = TIMEOUT_S,
) -> Removal:
    """Remove the keys tagged with `run_id` and count what is left. Never raises: a report says what stays.

    Args:
        session: client session, for counting.
        store: needs `rpc_address`; without it nothing is removed.
        run_id: the tag (`keys.run_tag`).
        part: remove the keys of this part of the run only.
        protocol: transport of the pool.
        local_hostname: name of the client, which gives no memory to the pool.
        python: interpreter that has Mooncake's client library.
        timeout_s: limit, seconds.
    """
    if store.rpc_address is None:
        return Removal(removed=None, left=None, detail="the master's RPC address is not known, so the keys stay")
    order = {
        "local_hostname": local_hostname,
        # removing is a call to the master alone: no segment is looked up, so no metadata server has to be named
        "metadata_server": "P2PHANDSHAKE",
        "protocol": protocol,
        "master_server_addr": store.rpc_address,
        "pattern": own_pattern(run_id, part),
    }
    removed, problem = await _in_a_process(order, python, timeout_s)
    left = await _count(session, store, is_tagged(run_id, part))
    if problem:
        return Removal(removed=None, left=left, detail=problem)
    return Removal(removed=removed, left=left, detail=f"{removed} keys of this run removed")


async def _in_a_process(order: dict[str, str], python: str, timeout_s: float) -> tuple[int | None, str | None]:
    child = await asyncio.create_subprocess_exec(
        python,
        "-m",
        MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # without it the client ends where loopback is the only interface ("not valid LAN address found")
        env=inherited("MC_")
        | {"MC_TCP_BIND_ADDRESS": LOOPBACK, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await child.communicate(json.dumps(order).encode())
    except TimeoutError:
        return None, f"the store did not remove the keys within {timeout_s:g} s"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _answer(output.decode("utf-8", errors="replace"), child.returncode)


def _answer(output: str, returncode: int | None) -> tuple[int | None, str | None]:
    """Read the last line that is ours; the library prints around it."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                reply = json.loads(line)
            except ValueError:
                continue
            return reply.get("removed"), reply.get("problem")
    return None, f"Mooncake's client ended with code {returncode} and removed nothing that it told of"


async def _count(session: aiohttp.ClientSession, store: Store, is_own: IsOwn) -> int | None:
    try:
        return (await count_keys(session, store, is_own)).own
    except EndpointError:
        return None
