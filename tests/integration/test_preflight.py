"""What a stack says of itself: processes that were started here, servers that somebody else started."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from typer.testing import CliRunner

from pytest_mooncake.cli import app as cli_app
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Engine, KVGeometry, StackView, Store
from pytest_mooncake.run import preflight
from pytest_mooncake.run.preflight import findings, inspect, subject_of
from pytest_mooncake.stack.preflight import lint
from pytest_mooncake.stack.preflight.configuration import Fact, Part

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
    assert subject.engines[0].arg("block-size") == "128"
    assert subject.engines[0].env["PYTHONHASHSEED"] == Fact("0", "the environment of vllm-0")
    assert subject.master_port == 50051
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
        monkeypatch.setattr(preflight, "LMCACHE_PORTS", (1, port))
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
        monkeypatch.setattr(preflight, "LMCACHE_PORTS", (port,))
        there = view(provisioned=False, engines=(Engine(url=f"http://127.0.0.1:{port}"),), kv=None, versions={})
        subject = await subject_of(plan, there, {})
    assert not subject.engines[0].knows(Part.LMCACHE)
    assert lint(subject) == ()


async def test_lmcaches_own_port_is_not_looked_for_on_other_machines(plan: Plan) -> None:
    there = view(provisioned=False, engines=(Engine(url="http://vllm.invalid:8000"),), store=None, kv=None, versions={})
    subject = await subject_of(plan, there, {})
    assert not subject.engines[0].knows(Part.LMCACHE)
    assert subject.ports == {"engine 0": "vllm.invalid:8000"}


CASES = Path(__file__).parents[1] / "data" / "configs"
MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 32768}]})


@contextmanager
def showing(metrics: str, **paths: str) -> Iterator[str]:
    """A server whose `/metrics` are these; for commands, which have an event loop of their own."""
    answers = {"/metrics": metrics, "/v1/models": MODELS, "/version": '{"version": "0.32.0"}'}
    answers |= {f"/{path}": text for path, text in paths.items()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            data = (body or "").encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def doctor(*arguments: str) -> str:
    result = CliRunner().invoke(cli_app.app, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def recorded(name: str) -> str:
    return next(CASES.glob(f"{name}-*.prom")).read_text(encoding="utf-8")


def test_a_live_engine_is_recognised_and_its_values_are_told_by_engine_and_rank() -> None:
    with showing(recorded("50")) as url:
        said = doctor("--url", url)
    assert f"{url}: vLLM 0.32.0\n" in said
    for line in (
        "prompt tokens: 4000",
        "tokens from outside (external): 768",
        "requests ended: 9",
        "requests running: 3",
        "KV cache usage: 0.25/0.5 of each engine, no sum",
        "LMCache's hit tokens: 768 on each of 2 ranks (1536 = 2 × 768)",
    ):
        assert f"    {line}" in said, said


def test_a_router_is_not_taken_for_an_engine() -> None:
    with showing(recorded("51")) as url:
        said = doctor("--url", url)
    assert "a router in front of engines" in said
    assert "not taken for an engine" in said
    assert "tokens" not in said.partition("could not be applied")[0]
    assert not re.search(r"^[EW]\d\d ", said, re.MULTILINE)


def test_sglang_is_named_and_gets_no_advice_for_vllm() -> None:
    with showing(recorded("52")) as url:
        said = doctor("--url", url)
    assert f"{url}: SGLang\n" in said
    assert "cached tokens (storage_mooncake): 3000" in said
    assert "evidence: ends at cached_tokens" in said
    assert "vllm-args" not in said
    assert not re.search(r"^[EW]\d\d ", said, re.MULTILINE)


def test_a_master_that_counts_no_hits_is_said_to_be_too_old() -> None:
    with showing(recorded("53")) as url:
        said = doctor("--master", url)
    assert f"{url}: a Mooncake master\n" in said
    assert "keys hit: unknown: not counted by masters before 0.3.12" in said
    assert "put items started: unknown (batched items are not shown" in said
    assert "the store rung is out of reach" in said


def test_a_masters_single_and_batched_puts_are_added_up() -> None:
    with showing(recorded("55")) as url:
        said = doctor("--master", url)
    for line in ("put items started: 12", "put items ended: 12", "keys hit: 10", "bytes hit: 10,000", "gets: 11"):
        assert f"    {line}\n" in said


def test_keys_of_others_are_counted_before_a_store_is_cleared() -> None:
    with showing(recorded("55")) as url:
        assert "E30 error: the store is to be cleared and holds 12 keys" in doctor(
            "--master", url, "--planned", "clear"
        )
        assert "E30" not in doctor("--master", url)


def test_a_standby_master_is_said_to_serve_nobody() -> None:
    with showing(recorded("55"), health='{"status":"ok","service_ready": false}') as url:
        assert "a standby, which serves nobody" in doctor("--master", url)


def test_what_is_no_master_is_refused() -> None:
    with showing(recorded("50")) as url:
        error = CliRunner().invoke(cli_app.app, ["doctor", "--master", url]).exception
    assert "shows the counters of vLLM, not of a Mooncake master" in str(error)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ('ray_vllm_prompt_tokens_total{model_name="m"} 7\n', "vLLM 0.32.0 (series of Ray: ray_vllm_…)"),
        ("lmcache_mp_lookup_hit_l2_tokens_total 5\n", "tokens hit in L2: 5"),
        ("go_threads 3\n", "nothing that is known here"),
        (
            'vllm:prompt_tokens_total{model_name="m"} NaN\nvllm:cache_config_info{block_size="16"} 1\n',
            "unknown (not shown)",
        ),
        (
            'vllm:request_success_total{model_name="m"} +Inf\nvllm:prompt_tokens_total{model_name="m"} 1\n',
            "requests ended: unknown",
        ),
    ],
)
def test_other_series_are_told_apart_and_values_that_are_none_are_unknown(metrics: str, said: str) -> None:
    with showing(metrics) as url:
        assert said in doctor("--url", url)


def test_counters_that_are_too_long_are_said_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "METRICS_BYTES", 1000)
    with showing(recorded("50")) as url:
        said = doctor("--url", url)
    assert re.search(r"/metrics .*; no counters, so evidence ends at usage there", said)
    assert "0 errors" in said


def test_what_runs_and_the_files_of_it_are_looked_at_together(tmp_path: Path) -> None:
    (tmp_path / "lmcache.yaml").write_text("local_cpu: true\nremote_url: mooncakestore://m:50051/\n", encoding="utf-8")
    with showing(recorded("55")) as url:
        said = doctor("--master", url, "--lmcache-yaml", str(tmp_path / "lmcache.yaml"))
    assert "a Mooncake master" in said
    assert "E12 error" in said
