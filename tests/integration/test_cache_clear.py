"""Clearing over real sockets: it lists first, refuses what was not permitted, and believes no reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pytest_mooncake.cache import lmcache_api
from pytest_mooncake.cache.clear import Cleared, Layer, Permission, clear, plan_clear
from pytest_mooncake.cache.keys import count_keys, is_tagged, run_tag
from pytest_mooncake.cache.remove_keys import Removal, remove_own_keys
from pytest_mooncake.cache.run_keys import RunKeys
from pytest_mooncake.errors import EndpointError, UsageError
from pytest_mooncake.records import Engine, Kind, Scrape, StackView, Store

RUN = "20261124-a1"
OURS = tuple(f"m@1@0@{i:x}@bfloat16@run%{RUN}" for i in range(3))
THEIRS = ("m@1@0@ff@bfloat16", f"m@1@0@fe@bfloat16@run%{RUN}7", "other@1@0@00@float16@run%theirs")


@dataclass
class Fleet:
    """One server that is engine, LMCache worker and master at once, and remembers what was asked of it."""

    keys: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    resets: list[web.Response] = field(default_factory=list)
    stuck: int = 0
    arrivals: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    kept_tokens: list[int] = field(default_factory=lambda: [512])
    """What a worker removes from its memory, call by call; then nothing."""
    version: str = '"0.5.6"'

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/get_all_keys", self.get_all_keys)
        app.router.add_post("/reset_prefix_cache", self.reset)
        app.router.add_delete("/cache/clear", self.clear_connector)
        app.router.add_get("/lmc_version", self.lmc_version)
        app.router.add_post("/api/v1/remove_all", self.remove_all)
        return app

    async def get_all_keys(self, _: web.Request) -> web.Response:
        if "list" in self.gone:
            raise web.HTTPNotFound
        self.calls.append("list")
        listed = "".join(f"{key}\n" for key in self.keys)
        self.keys += self.arrivals
        self.arrivals = []
        return web.Response(text=listed)

    async def reset(self, _: web.Request) -> web.Response:
        self.calls.append("reset")
        return self.resets.pop(0) if self.resets else web.Response(status=404)

    async def clear_connector(self, request: web.Request) -> web.Response:
        self.calls.append(f"connector {request.query['locations']}")
        removed = self.kept_tokens.pop(0) if self.kept_tokens else 0
        return web.json_response({"status": "success", "num_removed": removed})

    async def lmc_version(self, _: web.Request) -> web.Response:
        return web.Response(text=self.version, content_type="application/json")

    async def remove_all(self, request: web.Request) -> web.Response:
        if "remove" in self.gone:
            raise web.HTTPNotFound
        self.calls.append(f"remove_all force={request.query['force']}")
        removed = len(self.keys) - self.stuck
        self.keys = self.keys[: self.stuck]
        self.stuck = max(0, self.stuck - 1)
        return web.json_response({"success": True, "removed_count": removed})


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(keys=[*OURS])


@pytest.fixture
async def view(fleet: Fleet) -> AsyncIterator[StackView]:
    server = TestServer(fleet.app(), host="127.0.0.1")
    async with server:
        url = str(server.make_url("")).rstrip("/")
        yield StackView(
            name="s",
            provisioned=False,
            engines=(Engine(url=url),),
            model="m",
            store=Store(master_url=url, rpc_address="127.0.0.1:50051"),
        )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


async def no_pause(_: float) -> None:
    return None


async def cleared(
    session: aiohttp.ClientSession, view: StackView, permission: Permission, *layers: Layer
) -> tuple[Cleared, ...]:
    plan = await plan_clear(session, view, layers=layers, is_own=is_tagged(RUN), connector_urls=(view.engines[0].url,))
    return await clear(session, view, plan, permission, is_own=is_tagged(RUN), sleep=no_pause)


async def test_a_plan_says_what_would_go_and_touches_nothing(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.keys += THEIRS
    plan = await plan_clear(session, view, is_own=is_tagged(RUN), connector_urls=("http://127.0.0.1:7000",))

    assert fleet.calls == ["list"]
    assert plan.lines() == (
        "the prefix cache of 1 engine",
        "LMCache's CPU memory on 1 worker (not its remote tier)",
        f"all 6 keys of the Mooncake store, 3 of them not from this run (such as {THEIRS[0]!r})",
    )


async def test_nothing_is_cleared_that_was_not_allowed(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    with pytest.raises(UsageError, match="--mooncake-allow-clear would be needed"):
        await cleared(session, view, Permission.NONE, *Layer)

    assert fleet.calls == ["list"]


async def test_another_tenants_keys_are_never_removed_unless_told_twice(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.keys += THEIRS
    with pytest.raises(UsageError, match=r"3 of them not from this run.*give --mooncake-allow-clear twice"):
        await cleared(session, view, Permission.OWN, *Layer)
    assert fleet.keys == [*OURS, *THEIRS]
    assert "reset" not in fleet.calls

    (store,) = await cleared(session, view, Permission.EVERYTHING, Layer.STORE)
    assert store.verified
    assert fleet.keys == []


async def test_keys_that_arrive_between_listing_and_clearing_are_noticed(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.arrivals = [THEIRS[0]]
    with pytest.raises(UsageError, match="1 of them not from this run"):
        await cleared(session, view, Permission.OWN, Layer.STORE)

    assert fleet.keys == [*OURS, THEIRS[0]]


async def test_a_store_of_our_own_keys_is_emptied_and_counted(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.stuck = 2
    (store,) = await cleared(session, view, Permission.OWN, Layer.STORE)

    assert (store.verified, store.detail) == (True, "0 keys left")
    assert fleet.calls.count("remove_all force=true") == 3, "objects still being written stay at first"


async def test_a_store_that_does_not_get_empty_is_not_called_empty(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.stuck = 99
    fleet.keys = [*OURS]
    (store,) = await cleared(session, view, Permission.OWN, Layer.STORE)

    assert (store.verified, store.detail) == (False, "3 keys left")


async def test_a_master_without_the_call_is_named_with_the_version_that_has_it(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.gone = {"remove"}
    (store,) = await cleared(session, view, Permission.OWN, Layer.STORE)

    assert not store.verified
    assert "0.3.12.post1" in store.detail


async def test_without_a_list_of_keys_nothing_is_cleared(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.gone = {"list"}
    with pytest.raises(EndpointError, match="nothing is cleared"):
        await cleared(session, view, Permission.EVERYTHING, *Layer)

    assert fleet.calls == []


async def test_vllm_is_asked_again_when_it_refuses_with_http_200(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.resets = [web.json_response({"success": False}), web.json_response({"success": True})]
    (engine,) = await cleared(session, view, Permission.OWN, Layer.ENGINE)

    assert (engine.verified, engine.detail) == (True, "reset")
    assert fleet.calls == ["reset", "reset"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([lambda: web.json_response({"success": False})] * 5, "refused 5 times"),
        ([lambda: web.Response(text="")], "does not say whether"),
        ([lambda: web.Response(status=500, text="a\nb")], "HTTP 500: a b"),
        ([], "VLLM_SERVER_DEV_MODE=1"),
    ],
)
async def test_an_engine_that_did_not_say_that_it_reset_counts_as_not_reset(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession, answers: list[type[web.Response]], words: str
) -> None:
    fleet.resets = [make() for make in answers]
    (engine,) = await cleared(session, view, Permission.OWN, Layer.ENGINE)

    assert not engine.verified
    assert words in engine.detail


async def test_lmcaches_cpu_memory_is_cleared_and_its_remote_tier_is_not_claimed(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    (connector,) = await cleared(session, view, Permission.OWN, Layer.CONNECTOR)

    assert (connector.verified, connector.detail) == (True, "512 tokens removed")
    assert fleet.calls == ["connector LocalCPUBackend"] * 2, "a second call has to find nothing more"


@pytest.mark.parametrize(
    ("kept", "verified", "detail"),
    [
        ([], True, "0 tokens removed"),
        ([512, 256], True, "768 tokens removed"),
        ([256] * 9, False, "1,280 tokens removed; there was still something to remove at the end"),
    ],
)
async def test_a_worker_is_cleared_once_it_has_nothing_left(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession, kept: list[int], verified: bool, detail: str
) -> None:
    fleet.kept_tokens = kept
    (connector,) = await cleared(session, view, Permission.OWN, Layer.CONNECTOR)
    assert (connector.verified, connector.detail) == (verified, detail)


async def test_workers_are_found_where_lmcache_says_its_version_and_nowhere_else(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(view.engines[0].url).port
    monkeypatch.setattr(lmcache_api, "FIRST_PORT", port)
    monkeypatch.setattr(lmcache_api, "MOST_RANKS", 1)
    assert await lmcache_api.connectors_of(session, view) == (view.engines[0].url,)
    fleet.version = "<html>another service</html>"
    assert await lmcache_api.connectors_of(session, view) == ()
    told = replace(view, details={"lmcache_api_urls": ["http://127.0.0.1:7777"]})
    assert await lmcache_api.connectors_of(session, told) == ("http://127.0.0.1:7777",)
    monkeypatch.setattr(lmcache_api, "FIRST_PORT", 1)
    assert await lmcache_api.connectors_of(session, view) == (), "nothing listens there"


async def test_a_run_that_may_clear_empties_what_is_nearer_than_the_store_before_every_warm_round(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.kept_tokens = [256] * 9
    fleet.keys = ["m@1@0@aa@bfloat16@run%proof-1"]
    events: list[tuple[str, dict[str, Any]]] = []

    async def read() -> tuple[Scrape, ...]:
        return ()

    run_keys = RunKeys(
        session,
        replace(view, details={"lmcache_api_urls": [view.engines[0].url], "proof_tag": "proof-1"}),
        RUN,
        read=read,
        permission=Permission.OWN,
        note=lambda event, **values: events.append((event, values)),
    )
    await run_keys.start()
    assert [values["plan"][:2] for event, values in events if event == "clearing"] == [
        ("the prefix cache of 1 engine", "LMCache's CPU memory on 1 worker (not its remote tier)")
    ]
    for kind, expected in ((Kind.COLD, 0), (Kind.WARM, 5)):
        fleet.calls.clear()
        await run_keys.prepare(kind, "a" * 32)
        assert fleet.calls.count("connector LocalCPUBackend") == expected
        assert fleet.calls.count("reset") == min(expected, 1)
        assert not any(call.startswith("remove_all") for call in fleet.calls), "the store is what is to be read"
    await run_keys.finish()
    sentences = events[-1][1]["sentences"]
    not_empty = [sentence for sentence in sentences if sentence.startswith("not seen to be empty after clearing: ")]
    assert [sentence.split(": ", 1)[1].partition(" ")[0] for sentence in not_empty] == ["engine", "connector"]
    assert any("nothing in them says whose they are" in sentence for sentence in sentences)


async def test_a_worker_that_does_not_answer_is_told(
    view: StackView, session: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    plan = await plan_clear(
        session,
        view,
        layers=(Layer.CONNECTOR,),
        is_own=is_tagged(RUN),
        connector_urls=(f"http://127.0.0.1:{unused_tcp_port}",),
    )
    (connector,) = await clear(session, view, plan, Permission.OWN, is_own=is_tagged(RUN))

    assert not connector.verified
    assert connector.detail.startswith("no answer")


async def test_keys_are_told_apart_by_the_whole_tag(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession
) -> None:
    fleet.keys += THEIRS
    assert view.store is not None
    counted = await count_keys(session, view.store, is_tagged(RUN))

    assert (counted.own, counted.foreign) == (len(OURS), len(THEIRS))
    assert run_tag(RUN) == {"lmcache.tag.run": RUN}
    assert is_tagged(RUN)(f"m@1@0@aa@bfloat16@run%{RUN}@tenant%x")


@pytest.mark.parametrize("run_id", ["", "a@b", "a%b", "a b", ".*" * 40])
def test_an_id_that_cannot_stand_in_a_key_is_refused(run_id: str) -> None:
    with pytest.raises(UsageError, match="cannot tag keys"):
        run_tag(run_id)


FAKE_CLIENT = """
import json, re, urllib.request
print("library noise")
class MooncakeDistributedStore:
    def setup(self, settings):
        self.settings = settings
        assert settings["global_segment_size"] == "0", "a client that cleans up gives no memory"
        return {setup_code}
    def remove_by_regex(self, pattern, force):
        print('{{"not": "ours')
        assert force
        return {removed}
"""


Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a Mooncake client of one's own in front of the real one."""
    (tmp_path / "mooncake").mkdir()
    (tmp_path / "mooncake" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> None:
        (tmp_path / "mooncake" / "store.py").write_text(text)

    return write


@pytest.mark.parametrize(
    ("setup_code", "removed", "result"),
    [
        (0, "3", Removal(removed=3, left=3, detail="3 keys of this run removed")),
        (
            -900,
            "3",
            Removal(removed=None, left=3, detail="Mooncake's client could not join 127.0.0.1:50051 (error -900)"),
        ),
        (0, "-1", Removal(removed=None, left=3, detail="the master removed nothing (error -1)")),
        (0, "__import__('os')._exit(9)", Removal(removed=None, left=3, detail="Mooncake's client ended with code 9")),
    ],
)
async def test_our_own_keys_are_removed_by_their_tag_in_a_process_of_its_own(
    view: StackView, session: aiohttp.ClientSession, install: Install, setup_code: int, removed: str, result: Removal
) -> None:
    install(FAKE_CLIENT.format(setup_code=setup_code, removed=removed))
    assert view.store is not None
    done = await remove_own_keys(session, view.store, RUN)

    assert (done.removed, done.left) == (result.removed, result.left)
    assert done.detail.startswith(result.detail)


async def test_a_client_that_hangs_is_ended_and_told(
    view: StackView, session: aiohttp.ClientSession, install: Install
) -> None:
    install(FAKE_CLIENT.format(setup_code=0, removed="__import__('time').sleep(60)"))
    assert view.store is not None
    done = await remove_own_keys(session, view.store, RUN, timeout_s=1.0)

    assert (done.removed, done.left) == (None, 3)
    assert done.detail == "the store did not remove the keys within 1 s"


async def test_without_the_client_library_the_keys_stay_and_it_is_said(
    view: StackView, session: aiohttp.ClientSession, install: Install
) -> None:
    install("raise ImportError('libibverbs.so.1')")
    assert view.store is not None
    done = await remove_own_keys(session, view.store, RUN)

    assert done.removed is None
    assert "not installed here, so the keys stay" in done.detail


async def test_without_the_masters_address_the_keys_stay_and_it_is_said(session: aiohttp.ClientSession) -> None:
    done = await remove_own_keys(session, Store(master_url="http://127.0.0.1:1"), RUN)

    assert done == Removal(removed=None, left=None, detail="the master's RPC address is not known, so the keys stay")


async def test_what_is_left_is_unknown_when_the_master_does_not_list_its_keys(
    fleet: Fleet, view: StackView, session: aiohttp.ClientSession, install: Install
) -> None:
    install(FAKE_CLIENT.format(setup_code=0, removed="3"))
    fleet.gone = {"list"}
    assert view.store is not None

    assert await remove_own_keys(session, view.store, RUN) == Removal(
        removed=3, left=None, detail="3 keys of this run removed"
    )
