"""What requests are sent to, and what is sent with each, at an endpoint that already runs."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pytest_mooncake.errors import EndpointError, UsageError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.secrets.credentials import credentials_of
from pytest_mooncake.records import Engine, StackView
from pytest_mooncake.run.instruments import _api, instruments_for
from pytest_mooncake.stack.attach import attach
from tests.support.faulty_server import FaultyServer
from tests.support.replies import Answering, Received, Reply, Stream, error, json_reply, models, text

SECRETS = {"KEY": "secret-key", "EXTRA": "X-Tenant: secret-team"}


def plan_for(url: str, directory: Path, api: str | None = None) -> Plan:
    return resolve(Options(url=(url,), api=api, header_env="EXTRA", api_key_env="KEY"), directory)


async def chosen(plan: Plan) -> str:
    view = StackView(name="s", provisioned=False, engines=(Engine(url=plan.stack.urls[0].rstrip("/")),), model="m")
    async with aiohttp.ClientSession() as http:
        return await _api(plan, view, http, {})


@pytest.mark.parametrize(("status", "api"), [(404, "chat"), (405, "chat"), (400, "completions"), (422, "completions")])
async def test_completions_are_used_where_they_are_there(status: int, api: str, tmp_path: Path) -> None:
    async def completions(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/v1/completions", completions)
    async with TestServer(app) as server:
        plan = plan_for(str(server.make_url("")), tmp_path)
        assert await chosen(plan) == api
        asked = plan_for(str(server.make_url("")), tmp_path, api="chat")
        assert await chosen(asked) == "chat", "what was asked for is not questioned"
    assert await chosen(plan) == "completions", "an endpoint that is gone says so when it is measured"


def test_key_and_header_come_from_their_variables_and_are_in_no_plan(tmp_path: Path) -> None:
    plan = plan_for("http://127.0.0.1:1", tmp_path)
    found = credentials_of(plan.stack, SECRETS)
    assert found.headers == {"Authorization": "Bearer secret-key", "X-Tenant": "secret-team"}
    assert "secret" not in plan.model_dump_json() + repr(found)
    with pytest.raises(UsageError, match="--mooncake-header-env EXTRA: this environment variable is not set"):
        credentials_of(plan.stack, {"KEY": "secret-key"})


def guarded(reply: Answering) -> Callable[[Received], Reply]:
    """An answer for those who bring key and header."""

    def answer(received: Received) -> Reply:
        if received.headers.get("authorization") != "Bearer secret-key":
            return error(401, "no key")
        if received.headers.get("x-tenant") != "secret-team":
            return error(401, "no tenant")
        return reply(received) if callable(reply) else reply

    return answer


def tokenized(received: Received) -> Reply:
    """As many ids as words, the same for the same word."""
    words = received.json()["prompt"].split()
    return json_reply({"tokens": [1000 + zlib.crc32(word.encode()) % 50_000 for word in words]})


VLLM = text("vllm:prompt_tokens_total 1\n")


async def test_everything_asked_of_a_guarded_endpoint_carries_its_key_and_header(tmp_path: Path) -> None:
    answers: dict[str, Answering] = {
        "/v1/models": models("m"),
        "/metrics": VLLM,
        "/version": json_reply({"version": "1"}),
        "/tokenize": tokenized,
        "/v1/completions": Stream(),
    }
    routes = {path: guarded(reply) for path, reply in answers.items()}
    async with FaultyServer(routes) as server, FaultyServer({"/metrics": text("master_key_count 0\n")}) as master:
        options = Options(
            url=(server.url,), header_env="EXTRA", api_key_env="KEY", master=master.url, prompt_tokens="64"
        )
        plan = resolve(options, tmp_path)
        view = await attach(plan.stack, environ=SECRETS, progress=lambda _: None)
        async with instruments_for(plan, view, SECRETS) as tools:
            scrapes = await tools.scrape()
    assert [scrape.error for scrape in scrapes] == [None, None], "engine and master told their counters"
    assert len(server.requests_to("/metrics")) > 1, "when attached and in the run"
    assert server.requests_to("/tokenize")
    assert {one.headers.get("x-tenant") for one in server.received} == {"secret-team"}
    assert {one.headers.get("authorization") for one in server.received} == {"Bearer secret-key"}
    assert master.received, "another host is asked, without what is not its business"
    assert not any("secret" in str(dict(one.headers)) for one in master.received)


async def test_who_is_refused_in_spite_of_a_header_is_told_which_variable_to_look_at(tmp_path: Path) -> None:
    async with FaultyServer({"/v1/models": error(401, "bad team secret-team")}) as server:
        plan = resolve(Options(url=(server.url,), header_env="EXTRA"), tmp_path)
        with pytest.raises(EndpointError, match=r"header in \$EXTRA \(--mooncake-header-env\).*bad team \*\*\*"):
            await attach(plan.stack, environ=SECRETS, progress=lambda _: None)


async def test_counters_at_another_port_get_no_secret(tmp_path: Path) -> None:
    async with FaultyServer({"/v1/models": models("m")}) as server, FaultyServer({"/metrics": VLLM}) as other:
        plan = resolve(Options(url=(server.url,), header_env="EXTRA", metrics=(other.url,)), tmp_path)
        await attach(plan.stack, environ=SECRETS, progress=lambda _: None)
    assert other.received
    assert not any("x-tenant" in one.headers for one in other.received)
