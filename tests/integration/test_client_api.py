"""What requests are sent to, and what is sent with each, at an endpoint that already runs."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pytest_mooncake.errors import UsageError
from pytest_mooncake.instruments import _api, auth_headers
from pytest_mooncake.options import Options
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Engine, StackView


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
    environ = {"KEY": "secret-key", "EXTRA": "X-Tenant: secret-team"}
    assert auth_headers(plan, environ) == {"Authorization": "Bearer secret-key", "X-Tenant": "secret-team"}
    assert "secret" not in plan.model_dump_json()
    with pytest.raises(UsageError, match="--mooncake-header-env EXTRA: this environment variable is not set"):
        auth_headers(plan, {"KEY": "secret-key"})
