"""What a stack says of itself: processes that were started here, servers that somebody else started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pytest_mooncake import inspection
from pytest_mooncake.cache.preflight import lint
from pytest_mooncake.inspection import findings, inspect, subject_of
from pytest_mooncake.options import Options
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Engine, KVGeometry, StackView, Store

TRANSFER = '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both", "kv_load_failure_policy": "fail"}'
LMCACHE = """\
chunk_size: 256
local_cpu: true
remote_url: "mooncakestore://127.0.0.1:50051/"
extra_config:
  protocol: tcp
  global_segment_size: 0
  local_buffer_size: 1048576
"""
METRICS = """\
vllm:cache_config_info{block_size="16",enable_prefix_caching="True"} 1.0
lmcache:num_lookup_tokens_total{model_name="m"} 3.0
"""


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def component(held: ExitStack, *words: str, **variables: str) -> int:
    """A process that was started with these words and variables, and sleeps."""
    sleeper = [sys.executable, "-c", "import sys; sys.stdin.read()", *words]
    process = held.enter_context(subprocess.Popen(sleeper, env=variables, stdin=subprocess.PIPE))
    held.callback(process.kill)
    return process.pid


def view(**changes: object) -> StackView:
    fields = {
        "name": "local",
        "provisioned": True,
        "engines": (Engine(url="http://127.0.0.1:8000"),),
        "model": "m",
        "store": Store(
            master_url="http://127.0.0.1:9003",
            metadata_url="http://127.0.0.1:8080/metadata",
            rpc_address="127.0.0.1:50051",
        ),
        "kv": KVGeometry(bytes_per_token=512),
        "versions": {"vllm": "0.32.0", "lmcache": "0.5.6", "mooncake": "0.3.13", "torch": "2"},
    }
    return StackView(**{**fields, **changes})  # type: ignore[arg-type] # the fields are what the tests vary


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return resolve(Options(), tmp_path)


def test_command_lines_environments_and_files_of_processes_are_linted(
    tmp_path: Path, held: ExitStack, plan: Plan
) -> None:
    (tmp_path / "lmcache.yaml").write_text(LMCACHE, encoding="utf-8")
    engine = component(
        held,
        *("serve", "/model", "--enable-prefix-caching", "--kv-transfer-config", TRANSFER),
        LMCACHE_CONFIG_FILE=str(tmp_path / "lmcache.yaml"),
    )
    master = component(held, "-rpc_port=50051", "-enable_http_metadata_server=true")
    node = component(held, "-global_segment_size=4096")
    running = view(details={"pids": {"vllm-0": engine, "master": master, "node-0": node, "vllm-1": 2**22 + 1}})

    found = {finding.id: finding for finding in inspect(plan, running, {})}

    assert found["E12"].what == "vllm-0: local_cpu is true"
    assert found["E15"].what == "PYTHONHASHSEED is not one number everywhere (vllm-0: not set)"
    assert "prefix caching is on" in found["W35"].what
    assert "--enable-prompt-tokens-details and PROMETHEUS_MULTIPROC_DIR" in found["W27"].what
    assert "E21" in found, "a pool of 4 KiB holds no round"
    assert {"E04"} <= set(found), "LMCache as released on a CPU"


async def test_what_is_learnt_of_processes_stands_in_the_subject(held: ExitStack, plan: Plan) -> None:
    engine = component(
        held, "serve", "/model", "--block-size", "128", PYTHONHASHSEED="0", LMCACHE_CONFIG_FILE="/absent"
    )
    master = component(held, "-rpc_port=50051")
    subject = await subject_of(plan, view(details={"pids": {"vllm-0": engine, "master": master}}), {})
    assert subject.engines[0].args["block-size"] == "128"
    assert subject.engines[0].env["PYTHONHASHSEED"] == "0"
    assert (subject.master_flags or {})["rpc_port"] == "50051"
    assert subject.versions == {"vllm": "0.32.0", "lmcache": "0.5.6", "mooncake": "0.3.13", "mooncake-master": "0.3.13"}
    assert subject.ports["master (RPC)"] == "127.0.0.1:50051"
    assert subject.host.ram_bytes
    assert not subject.intent.shared_store


@asynccontextmanager
async def server(answers: dict[str, str]) -> AsyncIterator[int]:
    """A server on loopback that answers these paths."""

    async def answer(request: web.Request) -> web.Response:
        if request.path not in answers:
            raise web.HTTPNotFound
        return web.Response(text=answers[request.path])

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_an_attached_engine_is_asked_and_lmcache_tells_its_effective_settings(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"/metrics": METRICS, "/conf": '{"local_cpu": true, "remote_url": null}'}
    async with server(answers) as port:
        monkeypatch.setattr(inspection, "LMCACHE_PORTS", (1, port))
        url = f"http://127.0.0.1:{port}"
        there = view(
            provisioned=False,
            engines=(Engine(url=url, metrics_url=f"{url}/metrics"),),
            kv=None,
            versions={"engine-0": "0.8.4"},
        )
        found = {finding.id for finding in await findings(plan, there, {})}
    assert {"E02", "E10", "E12", "W35"} <= found
    assert "E15" not in found, "nobody told the engine's environment"


@pytest.mark.parametrize("conf", ["<html>", "[1]"])
async def test_whatever_else_listens_there_is_not_taken_for_lmcache(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, conf: str
) -> None:
    async with server({"/conf": conf}) as port:
        monkeypatch.setattr(inspection, "LMCACHE_PORTS", (port,))
        there = view(provisioned=False, engines=(Engine(url=f"http://127.0.0.1:{port}"),), kv=None, versions={})
        subject = await subject_of(plan, there, {})
    assert not subject.engines[0].knows("lmcache")
    assert lint(subject) == ()


async def test_lmcaches_own_port_is_not_looked_for_on_other_machines(plan: Plan) -> None:
    there = view(provisioned=False, engines=(Engine(url="http://vllm.invalid:8000"),), store=None, kv=None, versions={})
    subject = await subject_of(plan, there, {})
    assert not subject.engines[0].knows("lmcache")
    assert subject.ports == {"engine 0": "vllm.invalid:8000"}
