"""What a run does to a store that is not its alone: tag what it writes, take it away again, say what stays.

Cold rounds are cold by their prompts, not by clearing, so every one of them adds its KV to the store. Requests carry
the run's id into LMCache's keys (`lmcache.tag.run`) and the nonce of their round. As soon as the warm round that reads
them is over, the keys of a cold round are removed; at the end all keys of the run are. Nobody else's keys are touched.

A stack that was here before is only sent tags where that is known to be safe: where every engine shows LMCache's own
counters. Other connectors give `kv_transfer_params` meanings of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_mooncake.analysis.evidence.counters.deltas import deltas
from pytest_mooncake.analysis.evidence.store_ownership import ends_with_the_run
from pytest_mooncake.cache.clear import Layer, Permission, clear, plan_clear
from pytest_mooncake.cache.keys import is_tagged, run_tag
from pytest_mooncake.cache.lmcache_api import connectors_of
from pytest_mooncake.cache.remove_keys import Removal, remove_own_keys
from pytest_mooncake.records import Kind, Scrape, StackView, Store

if TYPE_CHECKING:
    import aiohttp

__all__ = ["RunKeys", "can_carry_tags", "ends_with_the_run"]

RPC_PORT = 50051
"""Mooncake's default, tried where only the master's admin port is known."""
CONNECT_S = 2.0
REMOVAL_S = 20.0
NONCE_DIGITS = 12

NEARER = (Layer.ENGINE, Layer.CONNECTOR)
"""What stands nearer to an engine than the store: emptied before each warm round, for that has to read the store."""

Note = Callable[..., None]
Read = Callable[[], Awaitable[tuple[Scrape, ...]]]
Remove = Callable[..., Awaitable[Removal]]


def can_carry_tags(view: StackView, seen: tuple[Scrape, ...]) -> bool:
    """Whether requests may carry `lmcache.tag.*`: in-process LMCache is known to stand behind every engine."""
    if view.simulated:
        return True
    if view.provisioned:
        return view.details.get("connector") == "lmcache"
    engines = [scrape for scrape in seen if scrape.source.startswith("engine:")]
    shown = {scrape.source.partition(".")[0] for scrape in engines}
    return len(shown) == len(view.engines) and all(
        any(series.startswith("lmcache:") for series in scrape.samples) for scrape in engines
    )


class RunKeys:
    """Keeps one run's keys apart and takes them away.

    Args:
        session: client session.
        view: the stack.
        run_id: enters every key.
        read: scrapes the stack.
        permission: what may really be cleared.
        keep_full: keys stay until the end, so that the store is as full in every round (a steady state).
        note: called with an event's name and values, for the journal.
        remove: takes keys away; another one in tests.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        view: StackView,
        run_id: str,
        *,
        read: Read,
        permission: Permission = Permission.NONE,
        keep_full: bool = False,
        note: Note,
        remove: Remove = remove_own_keys,
    ) -> None:
        self._session = session
        self._view = view
        self._run_id = run_id
        self._read = read
        self._permission = permission
        self._keep_full = keep_full
        self._note = note
        self._remove = remove
        self._seen: tuple[Scrape, ...] = ()
        self._tagged = False
        self._store: Store | None = None
        self._why_kept = ""
        self._read_by_warm: str | None = None
        self._removed = 0
        self._connectors: tuple[str, ...] = ()
        self._not_cleared: dict[str, None] = {}

    async def start(self) -> None:
        """Look at the stack, and clear it where that was allowed.

        Raises:
            UsageError: clearing would take keys of somebody else.
            EndpointError: the keys that clearing would take cannot be listed.
        """
        self._seen = await self._read()
        self._tagged = can_carry_tags(self._view, self._seen)
        self._store, self._why_kept = await _removable(self._view, tagged=self._tagged)
        proof_tag = self._view.details.get("proof_tag")
        if self._store is not None and isinstance(proof_tag, str) and not ends_with_the_run(self._view):
            await self._remove(self._session, self._store, proof_tag, part=None, timeout_s=REMOVAL_S)
        if self.may_clear:
            self._connectors = await connectors_of(self._session, self._view)
            await self._clear((*NEARER, Layer.STORE) if self._view.store else NEARER)

    @property
    def tags_requests(self) -> bool:
        """Whether requests carry the run's tag."""
        return self._tagged

    @property
    def removes_keys(self) -> bool:
        """Whether keys go again while the run lasts, so that one cold round's lie in the store at a time."""
        return self._store is not None and not self._keep_full

    @property
    def seen(self) -> tuple[Scrape, ...]:
        """The counters at the start."""
        return self._seen

    def body(self, nonce: str) -> Mapping[str, Mapping[str, str]]:
        """Fields that the requests of a round carry; a warm round has the nonce of the cold one it repeats."""
        return {"kv_transfer_params": self.params(nonce[:NONCE_DIGITS])} if self._tagged else {}

    def params(self, part: str) -> dict[str, str]:
        """The `kv_transfer_params` of a part of the run."""
        return run_tag(self._run_id, part)

    async def prepare(self, kind: Kind, nonce: str) -> None:
        """Before a round: take away what no round reads any more, and what stands nearer than the store if allowed."""
        if kind is Kind.WARM:
            await self.clear_nearer()
            return
        done, self._read_by_warm = self._read_by_warm, nonce[:NONCE_DIGITS]
        if done is not None and not self._keep_full:
            await self._take_away(done)

    @property
    def may_clear(self) -> bool:
        """Whether clearing was permitted."""
        return self._permission is not Permission.NONE

    async def clear_nearer(self) -> None:
        """Before what has to read the store: empty what stands nearer to the engines, if that was permitted."""
        if self.may_clear:
            await self._clear(NEARER)

    async def finish(self) -> None:
        """After the last round: take away all keys of the run, and say what stays and what was evicted meanwhile."""
        sentences = [f"not seen to be empty after clearing: {what}" for what in self._not_cleared]
        if self._view.store is not None:
            await self._take_away(None)
            evicted = _evicted(self._seen, await self._read(), ours_alone=ends_with_the_run(self._view))
            sentences += [*self._what_stays(), *evicted]
        elif not sentences:
            return
        self._note("store_care", removed_keys=self._removed, sentences=sentences)

    async def _take_away(self, part: str | None) -> None:
        """Remove keys; after one failure nothing is tried again, for every try costs its time limit."""
        store = self._store
        if store is None:
            return
        if not await _listens(store.rpc_address or ""):
            self._store, self._why_kept = None, f"nothing listens on the master's RPC address {store.rpc_address}"
            return
        done = await self._remove(self._session, store, self._run_id, part=part, timeout_s=REMOVAL_S)
        self._removed += done.removed or 0
        if done.removed is None:
            self._store, self._why_kept = None, done.detail

    def _what_stays(self) -> list[str]:
        ends_with_us = ends_with_the_run(self._view)
        if self._store is not None or ends_with_us:
            return []
        how = f", recognisable by @run%{self._run_id}" if self._tagged else ", and nothing in them says whose they are"
        return [f"keys of this run stay in the store{how}: {self._why_kept}"]

    async def _clear(self, layers: tuple[Layer, ...]) -> None:
        proof = self._view.details.get("proof_tag")
        tags = [is_tagged(tag) for tag in (self._run_id, proof) if isinstance(tag, str)]

        def is_own(key: str) -> bool:
            """Stored by this run, or by a stack started for it, which proves itself with a few chunks."""
            return any(tagged(key) for tagged in tags)

        plan = await plan_clear(
            self._session, self._view, layers=layers, is_own=is_own, connector_urls=self._connectors
        )
        self._note("clearing", plan=plan.lines())
        done = await clear(self._session, self._view, plan, self._permission, is_own=is_own)
        self._note("cleared", plan=plan.lines(), outcome=done)
        not_empty = (f"{one.layer} {one.target}: {one.detail}" for one in done if not one.verified)
        self._not_cleared.update(dict.fromkeys(not_empty))


async def _removable(view: StackView, *, tagged: bool) -> tuple[Store | None, str]:
    """The store with an RPC address under which keys can be removed; or why they cannot."""
    store = view.store
    if store is None:
        return None, "no master is known (--mooncake-master)"
    if not tagged:
        return None, "requests carry no tag, because this connector is not known to take one"
    if view.simulated:
        return None, "a simulated master has no RPC port"
    address = store.rpc_address or f"{urlsplit(store.master_url).hostname}:{RPC_PORT}"
    if not await _listens(address):
        return None, f"nothing listens on the master's RPC address {address}"
    return replace(store, rpc_address=address), ""


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, ValueError, TimeoutError):
        return False
    writer.close()
    return True


def _evicted(before: tuple[Scrape, ...], after: tuple[Scrape, ...], *, ours_alone: bool) -> list[str]:
    keys = deltas(before, after).get("evicted_keys")
    if not keys:
        return []
    others = "" if ours_alone else "; some of them may be somebody else's"
    return [f"{keys:,.0f} keys were evicted from the store while this run was on{others}"]
