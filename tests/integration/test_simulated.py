"""The simulated stack over real sockets: its HTTP surface, its faults, and the life and death of its process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from pytest_mooncake.errors import StackError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import KVGeometry
from pytest_mooncake.stack.simulated import SIMULATED_NOTE, provision, provision_simulated
from pytest_mooncake.stack.simulated.__main__ import main
from pytest_mooncake.stack.simulated.serving import Listening, serving

FAST = {
    "prefill_us_per_token": 0.5,
    "cached_us_per_token": 0.01,
    "decode_ms_per_token": 0.05,
    "base_ms": 0.1,
    "store_delay_ms": 1.0,
}
PROMPT = list(range(3, 1027))


def make_plan(*faults: str, simulated: dict[str, Any] | None = None, **fields: Any) -> StackPlan:
    cost = {**FAST, **(simulated or {}), "faults": faults}
    return StackPlan.model_validate({"name": "s", "kind": "simulated", "simulated": cost, **fields})


class Client:
    """The little of an OpenAI client that these tests need."""

    def __init__(self, listening: Listening, session: aiohttp.ClientSession) -> None:
        self.url = listening.engine_urls[0]
        self.urls = listening.engine_urls
        self.master = listening.master_url
        self.session = session

    async def get(self, url: str) -> tuple[int, str]:
        async with self.session.get(url) as response:
            return response.status, await response.text()

    async def post(self, path: str, body: Any, url: str = "") -> tuple[int, Any]:
        async with self.session.post((url or self.url) + path, json=body) as response:
            return response.status, await response.json()

    async def complete(self, prompt: Any = PROMPT, count: int = 4, url: str = "", **more: Any) -> tuple[int, Any]:
        body = {"model": "simulated", "prompt": prompt, "max_tokens": count, "ignore_eos": True, **more}
        return await self.post("/v1/completions", body, url)

    async def stream(self, path: str = "/v1/completions", **body: Any) -> tuple[list[Any], bytes]:
        """Return the decoded events and the raw stream."""
        defaults = {"model": "simulated", "max_tokens": 4, "ignore_eos": True, "stream": True}
        async with self.session.post(self.url + path, json={**defaults, **body}) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            raw = await response.read()
        lines = [line.removeprefix(b"data: ") for line in raw.split(b"\n\n") if line]
        return [json.loads(line) for line in lines if line != b"[DONE]"], raw

    async def counters(self, base: str) -> dict[str, float]:
        _, text = await self.get(f"{base}/metrics")
        # by hand: prometheus_client's parser appends `_total` to the counters that Mooncake writes without
        series = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {_short(name): float(value) for name, value in series}

    async def settled(self, keys: int) -> None:
        """Wait until the master shows so many keys."""
        for _ in range(1000):
            if (await self.counters(self.master))["master_key_count"] >= keys:
                return
            await asyncio.sleep(0.005)
        pytest.fail(f"{keys} keys never appeared")


def _short(series: str) -> str:
    """Return a series' name, with the value of its label `source` if it has one."""
    source = re.search(r'source="(\w+)"', series)
    return series.partition("{")[0] + (f"/{source[1]}" if source else "")


@asynccontextmanager
async def client(plan: StackPlan) -> AsyncIterator[Client]:
    async with serving(plan) as listening, aiohttp.ClientSession() as session:
        yield Client(listening, session)


async def test_a_repeated_prompt_is_served_from_the_store_and_all_sources_agree() -> None:
    async with client(make_plan()) as stack:
        _, cold = await stack.complete()
        await stack.settled(4)
        before = await stack.counters(stack.url)
        _, warm = await stack.complete()
        engine, master = await stack.counters(stack.url), await stack.counters(stack.master)
    assert cold["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert warm["usage"]["prompt_tokens_details"] == {"cached_tokens": 1023}
    assert warm["choices"][0]["text"] == cold["choices"][0]["text"]
    assert before["vllm:external_prefix_cache_hits_total"] == 0
    assert engine["vllm:external_prefix_cache_hits_total"] == 1023
    assert engine["vllm:prompt_tokens_by_source_total/external_kv_transfer"] == 1023
    assert engine["vllm:prompt_tokens_by_source_total/local_compute"] == 1025
    assert master["mem_cache_hit_nums_"] == 4
    assert master["mem_cache_hit_bytes_total"] == 1024 * 512
    assert master["master_allocated_bytes"] == 1024 * 512
    assert engine["process_start_time_seconds"] == pytest.approx(psutil.Process().create_time(), abs=2)


async def test_engines_share_the_store_so_that_a_hit_can_cross() -> None:
    async with client(make_plan(engine={"count": 2})) as stack:
        await stack.complete(url=stack.urls[0])
        await stack.settled(4)
        _, crossed = await stack.complete(url=stack.urls[1])
        other = await stack.counters(stack.urls[1])
    assert crossed["usage"]["prompt_tokens_details"]["cached_tokens"] == 1023
    assert other["vllm:prompt_tokens_total"] == 1024


async def test_a_stream_has_one_chunk_for_each_token_then_usage_then_the_end() -> None:
    async with client(make_plan()) as stack:
        events, raw = await stack.stream(prompt=PROMPT, stream_options={"include_usage": True})
        _, whole = await stack.complete()
    assert raw.endswith(b"data: [DONE]\n\n")
    assert [len(event["choices"]) for event in events] == [1, 1, 1, 1, 0]
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None, None, None, "length"]
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == whole["choices"][0]["text"]
    assert events[-1]["usage"]["completion_tokens"] == 4
    assert all("usage" not in event for event in events[:-1])


async def test_a_chat_stream_begins_with_a_role_only_chunk_and_counts_usage_as_it_goes() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with client(make_plan()) as stack:
        events, _ = await stack.stream(
            "/v1/chat/completions", messages=[{"role": "user", "content": "a b"}], stream_options=options
        )
        _, counted = await stack.post("/tokenize", {"messages": [{"role": "user", "content": "a b"}]})
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [event["usage"]["completion_tokens"] for event in events] == [0, 1, 2, 3, 4, 4]
    assert {event["usage"]["prompt_tokens"] for event in events} == {counted["count"]} == {7}


async def test_without_being_asked_a_stream_tells_no_usage() -> None:
    async with client(make_plan()) as stack:
        events, _ = await stack.stream(prompt="a")
    assert len(events) == 4


async def test_text_is_tokenized_exactly_both_ways() -> None:
    async with client(make_plan()) as stack:
        _, text = await stack.post("/detokenize", {"tokens": PROMPT})
        _, ids = await stack.post("/tokenize", {"prompt": text["prompt"], "return_token_strs": True})
        _, answer = await stack.complete(text["prompt"])
    assert ids["tokens"] == PROMPT
    assert ids["count"] == answer["usage"]["prompt_tokens"] == 1024
    assert " ".join(ids["token_strs"]) == text["prompt"]
    assert ids["max_model_len"] == 32768


async def test_what_vllm_refuses_is_refused_in_its_form() -> None:
    async with client(make_plan(engine={"max_model_len": 1000})) as stack:
        too_long = await stack.complete()
        unknown = await stack.complete("a", model="other")
        status, not_found = await stack.post("/v1/nothing", {})
        async with stack.session.post(f"{stack.url}/v1/completions", data=b"{") as response:
            broken = response.status, await response.json()
        array = await stack.post("/tokenize", [])
    assert too_long[0] == 400
    assert "maximum context length is 1000 tokens" in too_long[1]["error"]["message"]
    assert unknown[0] == 404
    assert (status, not_found) == (404, {"detail": "Not Found"})
    assert broken[0] == 400
    assert "not JSON" in broken[1]["error"]["message"]
    assert array[0] == 400


async def test_the_model_card_says_how_long_prompts_may_be_and_that_nothing_is_real() -> None:
    async with client(make_plan()) as stack:
        _, text = await stack.get(f"{stack.url}/v1/models")
        assert (await stack.get(f"{stack.url}/health"))[0] == 200
        _, version = await stack.get(f"{stack.url}/version")
    (card,) = json.loads(text)["data"]
    assert card["id"] == "simulated"
    assert card["max_model_len"] == 32768
    assert card["owned_by"] == "pytest-mooncake-simulated"
    assert json.loads(version)["version"].endswith("+simulated")


async def test_the_master_answers_the_paths_of_mooncake() -> None:
    async with client(make_plan()) as stack:
        await stack.complete()
        await stack.settled(4)
        keys = (await stack.get(f"{stack.master}/get_all_keys"))[1].split()
        _, queried = await stack.get(f"{stack.master}/batch_query_keys?keys={keys[0]},nothing")
        no_keys, _ = await stack.get(f"{stack.master}/batch_query_keys")
        _, health = await stack.get(f"{stack.master}/health")
        role = await stack.get(f"{stack.master}/role")
        segments = (await stack.get(f"{stack.master}/get_all_segments"))[1].split()
        async with stack.session.post(f"{stack.master}/api/v1/remove_all?force=true") as response:
            removed = await response.json()
        left = await stack.counters(stack.master)
    assert len(keys) == 4
    data = json.loads(queried)["data"]
    assert data[keys[0]]["ok"]
    assert data[keys[0]]["values"][0]["size_"] == 256 * 512
    assert data["nothing"] == {"ok": False, "error": "OBJECT_NOT_FOUND"}
    assert no_keys == 400
    assert json.loads(health)["service_ready"]
    assert role == (200, "leader")
    assert len(segments) == 2
    assert removed == {"success": True, "removed_count": 4}
    assert left["master_key_count"] == 0
    assert left["master_remove_all_requests_total"] == 1


async def test_a_client_that_goes_away_is_an_aborted_request() -> None:
    plan = make_plan(simulated={"decode_ms_per_token": 20.0})
    async with client(plan) as stack:
        body = {"prompt": "a", "max_tokens": 1000, "ignore_eos": True, "stream": True}
        async with stack.session.post(f"{stack.url}/v1/completions", json=body) as response:
            await response.content.readany()
            response.close()
        for _ in range(1000):
            if not (await stack.counters(stack.url))["vllm:num_requests_running"]:
                break
            await asyncio.sleep(0.01)
        _, text = await stack.get(f"{stack.url}/metrics")
    assert 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="simulated"} 1.0' in text


async def test_fault_cold_hits_serves_prompts_that_were_never_seen() -> None:
    async with client(make_plan("cold-hits")) as stack:
        _, answer = await stack.complete()
        master = await stack.counters(stack.master)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 1023
    assert master["mem_cache_hit_nums_"] == 4


@pytest.mark.parametrize("fault", ["warm-misses", "drop-stores", "stuck-stores"])
async def test_faults_of_storing_leave_the_second_request_cold(fault: str) -> None:
    async with client(make_plan(fault)) as stack:
        await stack.complete()
        await asyncio.sleep(0.01)
        _, answer = await stack.complete()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_fault_local_hits_is_seen_in_the_tier_and_not_in_usage() -> None:
    async with client(make_plan("local-hits")) as stack:
        await stack.complete()
        await stack.settled(4)
        _, answer = await stack.complete()
        engine, master = await stack.counters(stack.url), await stack.counters(stack.master)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 1023
    assert engine["vllm:prefix_cache_hits_total"] == 896
    assert master["mem_cache_hit_nums_"] == 1


async def test_fault_fail_every_refuses_each_nth_request() -> None:
    async with client(make_plan("fail-every:3")) as stack:
        statuses = [(await stack.complete("a"))[0] for _ in range(7)]
    assert statuses == [200, 200, 500, 200, 200, 500, 200]


async def test_fault_slow_first_token_delays_the_first_token_alone() -> None:
    async with client(make_plan("slow-first-token:0.2")) as stack:
        started = time.perf_counter()
        await stack.complete("a")
        seconds = time.perf_counter() - started
        engine = await stack.counters(stack.url)
    assert seconds >= 0.2
    assert engine["vllm:time_to_first_token_seconds_sum"] >= 0.2


async def test_fault_tokens_per_chunk_puts_several_tokens_into_one_event() -> None:
    async with client(make_plan("tokens-per-chunk:3")) as stack:
        options = {"include_usage": True, "continuous_usage_stats": True}
        events, _ = await stack.stream(prompt=PROMPT, max_tokens=7, stream_options=options)
        _, whole = await stack.complete(count=7)
    assert [len(event["choices"][0]["text"].split()) for event in events[:-1]] == [3, 3, 1]
    assert [event["usage"]["completion_tokens"] for event in events] == [3, 6, 7, 7]
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == whole["choices"][0]["text"]


async def test_faults_of_usage_change_what_is_told_and_not_what_is_done() -> None:
    async with client(make_plan("wrong-usage", "no-cached-tokens")) as stack:
        _, wrong = await stack.complete()
    async with client(make_plan("no-usage")) as stack:
        _, none = await stack.complete()
        events, _ = await stack.stream(prompt="a", stream_options={"include_usage": True})
    assert (wrong["usage"]["prompt_tokens"], wrong["usage"]["completion_tokens"]) == (1025, 3)
    assert wrong["usage"]["prompt_tokens_details"] is None
    assert none["usage"] is None
    assert len(events) == 4


async def test_faults_of_the_surface_hide_metrics_and_tokenizer() -> None:
    async with client(make_plan("no-metrics", "no-store-metrics", "no-tokenizer")) as stack:
        assert (await stack.get(f"{stack.url}/metrics"))[0] == 404
        assert (await stack.get(f"{stack.master}/metrics"))[0] == 404
        assert (await stack.post("/tokenize", {"prompt": "a"}))[0] == 404


async def test_fault_stream_error_ends_a_200_stream_with_an_error_event() -> None:
    async with client(make_plan("stream-error")) as stack:
        events, raw = await stack.stream(prompt="a", max_tokens=50)
    assert events[-1]["error"]["code"] == 500
    assert len(events) < 50
    assert raw.endswith(b"data: [DONE]\n\n")


async def test_fault_die_after_ends_the_process_at_the_request_after_the_nth(monkeypatch: pytest.MonkeyPatch) -> None:
    deaths: list[int] = []
    monkeypatch.setattr(os, "_exit", deaths.append)
    async with client(make_plan("die-after:1")) as stack:
        await stack.complete("a")
        assert deaths == []
        await stack.complete("a")
    assert deaths == [1]


async def test_one_prefill_at_a_time_makes_concurrent_requests_wait_their_turn() -> None:
    plan = make_plan(simulated={"base_ms": 50.0, "noise": 0.0})
    async with client(plan) as stack:
        await asyncio.gather(*(stack.complete([number + 3, 5, 6]) for number in range(4)))
        engine = await stack.counters(stack.url)
    assert engine["vllm:request_prefill_time_seconds_sum"] >= 4 * 0.05
    assert engine["vllm:request_queue_time_seconds_sum"] >= (1 + 2 + 3) * 0.05


# --- the process ------------------------------------------------------------------------------------------------------


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(pid: int, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_gone(pid)


def test_a_provisioned_stack_says_what_it_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = make_plan(engine={"count": 2})
    with provision_simulated(plan, log_dir=tmp_path / "logs", progress=lines.append) as view:
        assert view.store is not None
        ports = [
            int(url.rsplit(":", 1)[1]) for url in (*(engine.url for engine in view.engines), view.store.master_url)
        ]
        for port in ports:
            socket.create_connection(("127.0.0.1", port), 5).close()
        listening = {
            connection.laddr
            for connection in psutil.Process(view.details["pid"]).net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
    assert lines == ["starting the SIMULATED stack"]
    assert view.simulated
    assert view.provisioned
    assert view.notes == (SIMULATED_NOTE,)
    assert view.kv == KVGeometry(bytes_per_token=512, chunk_tokens=256)
    assert view.engines[0].metrics_url == f"{view.engines[0].url}/metrics"
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == set(ports)
    assert wait_gone(view.details["pid"])
    for port in ports:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 5)


def test_the_stack_stops_also_when_its_user_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        provision_simulated(make_plan(), log_dir=tmp_path, progress=lambda _: None) as view,
    ):
        raise ZeroDivisionError
    assert wait_gone(view.details["pid"])


def test_a_stack_without_connector_has_no_store(tmp_path: Path) -> None:
    plan = make_plan(connector={"kind": "none"})
    with provision_simulated(plan, log_dir=tmp_path, progress=lambda _: None) as view:
        assert view.store is None


def test_a_stack_that_cannot_start_is_one_line_and_its_last_log_lines(tmp_path: Path) -> None:
    plan = make_plan("no-such-fault")
    with (
        pytest.raises(StackError, match="ended before it was ready") as raised,
        provision_simulated(plan, log_dir=tmp_path, progress=lambda _: None),
    ):
        pytest.fail("it should not have started")
    assert "\n" not in str(raised.value)
    assert "no-such-fault" in raised.value.details[-1]


def test_a_stack_that_says_nothing_in_time_is_stopped(tmp_path: Path) -> None:
    plan = make_plan(simulated={}).model_copy(update={"ready_timeout_s": 0.001})
    with (
        pytest.raises(StackError, match=r"said nothing for 0\.001 s"),
        provision_simulated(plan, log_dir=tmp_path, progress=lambda _: None),
    ):
        pytest.fail("nothing starts in a millisecond")


@pytest.mark.parametrize("ignored", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN);"])
def test_what_does_not_end_by_itself_is_asked_and_then_killed(ignored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "_STOP_S", 0.2)
    code = f"import signal, time; {ignored} print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        provision._stop(process)
    assert process.returncode == (-signal.SIGKILL if ignored else -signal.SIGTERM)


def test_a_package_that_is_installed_changes_no_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    root = str(Path(provision.__file__).resolve().parents[3])
    assert provision._environment()["PYTHONPATH"] == root
    monkeypatch.setattr(sysconfig, "get_path", lambda _: root)
    assert "PYTHONPATH" not in provision._environment()


PARENT = """
import sys, time
from pathlib import Path
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.simulated import provision_simulated
plan = StackPlan(name="s", kind="simulated")
with provision_simulated(plan, log_dir=Path(sys.argv[1]), progress=lambda _: None) as view:
    print(view.details["pid"], flush=True)
    time.sleep(60)
"""


def test_a_killed_parent_takes_the_stack_with_it(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
    assert wait_gone(pid)


def start(*arguments: str, **more: Any) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    command = [sys.executable, "-m", "pytest_mooncake.stack.simulated", *arguments]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, **more)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_started_by_hand_stops_when_told_to(number: signal.Signals) -> None:
    process, ready = start("--engines", "2", "--fault", "fail-every:2", stdin=subprocess.DEVNULL)
    with process:
        assert ready["pid"] == process.pid
        assert len(ready["engines"]) == 2
        process.send_signal(number)
        assert process.wait(5) == 0


def test_a_process_whose_parent_is_another_than_named_ends_at_once() -> None:
    process, _ = start("--follow-parent", "1", stdin=subprocess.PIPE)
    with process:
        assert process.wait(5) == 0


def test_a_process_ends_when_its_standard_input_closes() -> None:
    process, _ = start("--follow-parent", str(os.getpid()), stdin=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        process.stdin.write(b"ignored")
        process.stdin.close()
        assert process.wait(5) == 0


def test_a_dying_engine_ends_the_process_without_a_word(tmp_path: Path) -> None:
    async def ask(url: str) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/v1/completions", json={"prompt": "a"}) as response,
        ):
            return response.status

    with provision_simulated(make_plan("die-after:1"), log_dir=tmp_path, progress=lambda _: None) as view:
        url = view.engines[0].url
        assert asyncio.run(ask(url)) == 200
        with pytest.raises(aiohttp.ClientError):
            asyncio.run(ask(url))
        assert wait_gone(view.details["pid"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fault", "nonsense"], "no such fault"),
        (["--engines", "0"], "greater than 0"),
        (["--plan", "{"], "simulated stack:"),
    ],
)
def test_what_cannot_be_meant_exits_4(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 4
    assert says in capsys.readouterr().err


def test_a_port_that_is_taken_exits_4(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--port", str(taken.getsockname()[1])]) == 4
    assert "in use" in capsys.readouterr().err


async def test_the_process_serves_and_follows_in_a_loop_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr("pytest_mooncake.stack.simulated.__main__.gc.freeze", lambda: None)
        running = asyncio.create_task(_serve_here(["--follow-parent", str(os.getppid())]))
        await asyncio.sleep(0.1)
        os.write(writing, b"x")
        os.close(writing)
        async with asyncio.timeout(5):
            await running
    assert json.loads(capsys.readouterr().out)["pid"] == os.getpid()


async def _serve_here(arguments: list[str]) -> None:
    from pytest_mooncake.stack.simulated import __main__ as process

    options = process._parse(arguments)
    await process._serve(process._plan(options), options)
