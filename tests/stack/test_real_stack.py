"""The real stack: vLLM with LMCache on Mooncake, started once for this module (about 15 s), killed at the end.

A process of its own provisions the stack and is killed with SIGKILL at last, as `kill -9` of pytest would do; so one
start serves all tests, and the last one checks that nothing of it is left.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pytest_mooncake.errors import MissingPartError
from pytest_mooncake.journal import view_of
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Rung, Status, Verdict
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import conduct
from pytest_mooncake.stack.local.host import http
from pytest_mooncake.stack.local.requirements import find_parts
from pytest_mooncake.stack.namespace import inside
from pytest_mooncake.stack.process import birth
from pytest_mooncake.stack.warden import descendants

pytestmark = pytest.mark.stack

START_S = 240.0
OWNER = """
import dataclasses, json, sys, time
from pathlib import Path
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.local import provision_local
plan = StackPlan(name="local", kind="local")
say = lambda line: print(line, file=sys.stderr, flush=True)
with provision_local(plan, log_dir=Path(sys.argv[1]), progress=say) as view:
    print(json.dumps(dataclasses.asdict(view)), flush=True)
    time.sleep(3600)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The stack's view as JSON, and who owns the stack."""

    owner: subprocess.Popen[str]
    view: dict[str, Any]

    @property
    def netns(self) -> str | None:
        netns: str | None = self.view["details"]["netns"]
        return netns

    @property
    def engine_port(self) -> int:
        return urlsplit(self.view["engines"][0]["url"]).port or 0

    @property
    def admin_port(self) -> int:
        return urlsplit(self.view["store"]["master_url"]).port or 0

    def counter(self, name: str) -> float:
        with inside(self.netns):
            return http.sample(http.get(self.admin_port, "/metrics") or "", name) or 0.0

    def complete(self, prompt: list[int]) -> dict[str, Any]:
        body = {"model": self.view["model"], "prompt": prompt, "max_tokens": 4, "temperature": 0, "ignore_eos": True}
        with inside(self.netns):
            status, text = http.post(self.engine_port, "/v1/completions", body, 120.0)
        assert status == 200, text
        usage: dict[str, Any] = json.loads(text)["usage"]
        return usage

    def wait_for(self, name: str, at_least: float) -> float:
        deadline = time.monotonic() + 30
        while (value := self.counter(name)) < at_least and time.monotonic() < deadline:
            time.sleep(0.05)
        return value


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One stack for all tests here."""
    try:
        find_parts()
    except MissingPartError as error:
        pytest.skip(str(error))
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as after:
        said = after.enter_context((logs / "progress").open("w"))
        owner = after.enter_context(
            subprocess.Popen([sys.executable, "-c", OWNER, str(logs)], stdout=subprocess.PIPE, stderr=said, text=True)
        )
        after.callback(owner.kill)
        assert owner.stdout is not None
        line = owner.stdout.readline()
        assert line, (logs / "progress").read_text()
        yield Running(owner=owner, view=json.loads(line))


def prompt_of(tokens: int) -> list[int]:
    rng = random.Random(os.urandom(16))
    return [300 + int(7000 * rng.random()) for _ in range(tokens)]


def test_the_view_names_every_part_and_its_version(running: Running) -> None:
    view = running.view
    assert set(view["components"]) == {"master", "node-0", "node-1", "vllm-0"}
    assert set(view["versions"]) >= {"vllm", "lmcache", "mooncake", "torch"}
    assert view["kv"]["bytes_per_token"] == 512
    assert any("do not transfer" in note for note in view["notes"])
    assert view["details"]["launchers"] == {"vllm-0": "fork"}
    assert 0 < view["ready_s"] < START_S


def test_both_storage_nodes_lend_their_memory(running: Running) -> None:
    assert running.counter("master_active_clients") >= 2
    assert running.counter("master_total_capacity_bytes") == 2 * 4 * 2**30


@pytest.mark.parametrize("tokens", [512, 513, 1300])
def test_whole_chunks_are_stored_once_and_read_back_and_the_bytes_are_as_predicted(
    running: Running, tokens: int
) -> None:
    kv, prompt = running.view["kv"], prompt_of(tokens)
    chunks = tokens // kv["chunk_tokens"]
    keys, size, hits = (
        running.counter(name) for name in ("master_key_count", "master_allocated_bytes", "mem_cache_hit_nums_")
    )
    cold = running.complete(prompt)
    assert (cold["prompt_tokens_details"] or {}).get("cached_tokens", 0) in {0, None}
    assert running.wait_for("master_key_count", keys + chunks) == keys + chunks
    assert running.counter("master_allocated_bytes") - size == chunks * kv["chunk_tokens"] * kv["bytes_per_token"]
    _until_readable(running, hits, prompt, chunks)
    warm = running.complete(prompt)
    # the last token is always computed, even where the whole prompt is stored
    expected = min(chunks * kv["chunk_tokens"], tokens - 1)
    assert warm["prompt_tokens_details"]["cached_tokens"] == expected
    assert running.counter("master_key_count") == keys + chunks


def _until_readable(running: Running, hits: float, prompt: list[int], chunks: int) -> None:
    """A key is counted when its put starts: read until the put has ended."""
    deadline = time.monotonic() + 30
    while running.counter("mem_cache_hit_nums_") < hits + chunks and time.monotonic() < deadline:
        running.complete(prompt)
        time.sleep(0.05)


def test_a_prompt_shorter_than_a_chunk_stores_nothing(running: Running) -> None:
    keys = running.counter("master_key_count")
    prompt = prompt_of(255)
    for _ in range(2):
        assert not (running.complete(prompt)["prompt_tokens_details"] or {}).get("cached_tokens")
    assert running.counter("master_key_count") == keys


def test_a_run_on_it_is_proven_by_the_stores_own_counters(running: Running, tmp_path: Path) -> None:
    """Small enough for minutes; speed is not asserted (the machine may be busy), where the tokens came from is.

    On a busy machine six short requests can be late as a whole by one hiccup: that trial is INVALID, and rightly so.

    No prompt of a whole number of engine steps (2,048): beside another's decode its last step would be of one token,
    and LMCache 0.5.6 stores nothing of such a step.
    """
    options = Options(requests="6", prompt_tokens=str(15 * 256 + 160), output_tokens="16", concurrency="2", trials="3")
    plan = resolve(options, tmp_path)
    outcome = conduct(plan, view_of(running.view), tmp_path / "run", Silent())
    judgement = outcome.judgement
    assert [e for e in judgement.evidence if e.status is Status.BROKEN] == []
    reasons = [reason for trial in judgement.trials if not trial.valid for reason in trial.reasons]
    assert [reason for reason in reasons if "the client was" not in reason] == []
    told = {claim.id: claim.verdict for claim in judgement.claims}
    assert (told["failures"], told["warm_hit_share"]) == (Verdict.PASS, Verdict.PASS), "the claims that no clock enters"
    assert judgement.details["rung"] is Rung.STORE
    warm, cold = outcome.warm.summary, outcome.cold.summary
    assert cold.cached_tokens == 0
    assert warm.cached_tokens == warm.requests * 15 * 256, "whole chunks are cached, the tail is computed"
    assert cold.failed == warm.failed == 0
    assert {path.name for path in outcome.files} >= {"report.md", "report.json"}
    events = (json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines())
    calibrations = [(one["when"], one["error"]) for one in events if one["event"] == "calibration"]
    assert calibrations == [("before", None), ("after", None)], "the client measured its own error inside the namespace"


def test_killing_its_owner_leaves_no_process_no_port_and_no_file_within_five_seconds(running: Running) -> None:
    details = running.view["details"]
    pids = (*descendants(details["warden_pid"]), details["warden_pid"])
    assert len(pids) >= 7  # warden, master, two nodes, vLLM's three processes
    ports = (running.engine_port, running.admin_port)
    with inside(running.netns):
        assert http.get(running.admin_port, "/metrics") is not None
    running.owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    run_dir = Path(details["run_dir"])
    while time.monotonic() < deadline and (any(birth(pid) for pid in pids) or run_dir.exists()):
        time.sleep(0.05)
    assert [pid for pid in pids if birth(pid)] == []
    assert not run_dir.exists()
    assert all(http.get(port, "/metrics") is None for port in ports)
    assert _shared_memory_of(pids) == []


def _shared_memory_of(pids: tuple[int, ...]) -> list[str]:
    """What libiomp5 registered for these processes under /dev/shm."""
    marks = tuple(f"__KMP_REGISTERED_LIB_{pid}_" for pid in pids)
    return [entry.name for entry in Path("/dev/shm").iterdir() if entry.name.startswith(marks)]
