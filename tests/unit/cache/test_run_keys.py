"""What a run does to a store that is not its alone: tagged, taken away part by part, and what stays is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from aiohttp import ClientSession

from pytest_mooncake.cache import run_keys
from pytest_mooncake.cache.remove_keys import Removal
from pytest_mooncake.cache.run_keys import RunKeys, can_carry_tags
from pytest_mooncake.records import Engine, Kind, Scrape, StackView, Store

NONCES = ("a" * 32, "b" * 32, "c" * 32)
LMCACHE = {"vllm:prompt_tokens_total": 1.0, "lmcache:num_lookup_tokens_total": 1.0}


@dataclass
class World:
    """A store whose removals are counted, and whose counters are scripted."""

    view: StackView
    removal: Removal = field(default_factory=lambda: Removal(removed=10, left=0, detail="10 keys of this run removed"))
    parts: list[str | None] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    evicted: float = 0.0
    engine: dict[str, float] = field(default_factory=lambda: dict(LMCACHE))

    async def read(self) -> tuple[Scrape, ...]:
        engine = Scrape(source="engine:0", at_ns=0, samples=self.engine)
        master = Scrape(source="master", at_ns=0, samples={"master_evicted_key_count": self.evicted})
        return (engine, master)

    async def remove(self, _session: object, _store: Store, run: str, *, part: str | None, timeout_s: float) -> Removal:
        assert timeout_s > 0
        self.parts.append(part)
        self.tags.append(run)
        return self.removal

    def note(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    def keys(self, *, keep_full: bool = False) -> RunKeys:
        session = cast("ClientSession", None)  # nothing is cleared or listed here
        return RunKeys(
            session, self.view, "run-1", read=self.read, keep_full=keep_full, note=self.note, remove=self.remove
        )

    @property
    def sentences(self) -> list[str]:
        return next(values["sentences"] for event, values in self.events if event == "store_care")


@pytest.fixture
async def rpc() -> AsyncIterator[str]:
    """A port on which something listens."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


def local(rpc: str | None, **changes: Any) -> StackView:
    view = StackView(
        name="s",
        provisioned=True,
        engines=(Engine(url="http://127.0.0.1:1"),),
        model="m",
        store=Store(master_url="http://127.0.0.1:9003", rpc_address=rpc),
        details={"connector": "lmcache"},
    )
    return replace(view, **changes)


async def chain(keys: RunKeys) -> None:
    """A left-out round and the chain C0 W1 C1."""
    await keys.start()
    for kind, nonce in ((Kind.COLD, 0), (Kind.COLD, 1), (Kind.WARM, 1), (Kind.COLD, 2)):
        await keys.prepare(kind, NONCES[nonce])


async def test_a_cold_rounds_keys_go_as_soon_as_its_warm_round_is_over_and_all_at_the_end(rpc: str) -> None:
    world = World(local(rpc))
    keys = world.keys()
    await chain(keys)
    assert world.parts == [NONCES[0][:12], NONCES[1][:12]]
    await keys.finish()
    assert world.parts[-1] is None
    assert world.events == [("store_care", {"removed_keys": 30, "sentences": []})]


async def test_requests_carry_the_run_and_the_nonce_that_a_warm_round_shares(rpc: str) -> None:
    keys = World(local(rpc)).keys()
    await keys.start()
    assert keys.body(NONCES[0]) == {"kv_transfer_params": {"lmcache.tag.run": "run-1", "lmcache.tag.part": "a" * 12}}
    assert keys.removes_keys


@pytest.mark.parametrize("connector", ["mooncakestore", "none"])
async def test_other_connectors_get_no_tag_and_lose_no_key(rpc: str, connector: str) -> None:
    world = World(local(rpc, details={"connector": connector}))
    keys = world.keys()
    await chain(keys)
    await keys.finish()
    assert keys.body(NONCES[0]) == {}
    assert world.parts == []


async def test_an_attached_stack_gets_tags_only_where_every_engine_shows_lmcache(rpc: str) -> None:
    world = World(local(rpc, provisioned=False, details={}))
    seen = await world.read()
    assert can_carry_tags(world.view, seen)
    two = replace(world.view, engines=world.view.engines * 2)
    assert not can_carry_tags(two, seen)
    further = replace(seen[0], source="engine:0.1")
    assert can_carry_tags(world.view, (*seen, further)), "another process of the same engine's address"
    assert not can_carry_tags(two, (*seen, further))
    world.engine.pop("lmcache:num_lookup_tokens_total")
    assert not can_carry_tags(world.view, await world.read())


async def test_where_the_keys_cannot_be_removed_the_report_says_that_they_stay_and_why() -> None:
    world = World(local("127.0.0.1:1", provisioned=False))
    keys = world.keys()
    await chain(keys)
    await keys.finish()
    assert world.parts == []
    assert world.sentences == [
        "keys of this run stay in the store, recognisable by @run%run-1: "
        "nothing listens on the master's RPC address 127.0.0.1:1"
    ]


async def test_the_masters_usual_rpc_port_is_tried_where_only_its_admin_port_is_known(
    rpc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_keys, "RPC_PORT", int(rpc.rpartition(":")[2]))
    keys = World(local(None, provisioned=False)).keys()
    await keys.start()
    assert keys.removes_keys


async def test_a_removal_that_fails_is_not_tried_again_and_said_where_the_store_goes_on(rpc: str) -> None:
    failed = Removal(removed=None, left=7, detail="the master removed nothing (error -900)")
    world = World(local(rpc, provisioned=False), removal=failed)
    keys = world.keys()
    await chain(keys)
    await keys.finish()
    assert len(world.parts) == 1
    assert world.sentences[0].endswith("the master removed nothing (error -900)")


async def test_a_store_that_ends_with_the_run_needs_no_sentence() -> None:
    world = World(local(None))
    keys = world.keys()
    await keys.start()
    await keys.finish()
    assert world.sentences == []


@pytest.mark.parametrize(("provisioned", "others"), [(True, ""), (False, "; some of them may be somebody else's")])
async def test_evictions_while_the_run_was_on_are_reported(rpc: str, provisioned: bool, others: str) -> None:
    world = World(local(rpc, provisioned=provisioned))
    keys = world.keys()
    await keys.start()
    world.evicted = 1200.0
    await keys.finish()
    assert world.sentences[-1] == f"1,200 keys were evicted from the store while this run was on{others}"


async def test_a_store_that_is_to_stay_full_keeps_its_keys_until_the_end(rpc: str) -> None:
    world = World(local(rpc))
    keys = world.keys(keep_full=True)
    await chain(keys)
    assert world.parts == []
    assert not keys.removes_keys
    await keys.finish()
    assert world.parts == [None]


async def test_without_a_store_nothing_is_said() -> None:
    world = World(local(None, store=None))
    keys = world.keys()
    await chain(keys)
    await keys.finish()
    assert world.events == []


async def test_what_the_engines_stored_to_prove_themselves_goes_from_a_store_that_stays(rpc: str) -> None:
    shared = {"connector": "lmcache", "shared_store": True, "proof_tag": "proof-1"}
    world = World(local(rpc, details=shared))
    await world.keys().start()
    assert world.tags == ["proof-1"]
    own = World(local(rpc, details=shared | {"shared_store": False}))
    await own.keys().start()
    assert own.tags == []


async def test_a_shared_store_is_never_said_to_end_with_the_run() -> None:
    world = World(local("127.0.0.1:1", details={"connector": "lmcache", "shared_store": True}))
    keys = world.keys()
    await keys.start()
    await keys.finish()
    assert world.sentences[0].startswith("keys of this run stay in the store")
