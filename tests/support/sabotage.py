"""Acceptance runs on the real stack in which something is broken on purpose, at a chosen place of the chain."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Evidence, StackView, Status, Verdict
from pytest_mooncake.run.preflight import inspect
from pytest_mooncake.run.runner import Outcome, conduct, open_stack
from pytest_mooncake.stack.local.host.ports import free_ports
from pytest_mooncake.stack.local.requirements import find_parts
from pytest_mooncake.stack.namespace import enter

PROMPT_TOKENS = 2304
"""Nine chunks. Not 2048: beside a decoding request vLLM prefills 2047 of them, then one, which LMCache never stores."""
SMALL = {"requests": "6", "prompt_tokens": str(PROMPT_TOKENS), "output_tokens": "8", "concurrency": "2", "trials": "2"}
HERE = Path(__file__).parent

Act = Callable[[Plan, StackView], None]


@dataclass
class Saboteur:
    """Listens to what a run says and acts when a given round has been measured; `acts` by the round's name."""

    plan: Plan
    acts: dict[str, Act] = field(default_factory=dict)
    view: StackView | None = None
    said: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.said.append(line)
        act = self.acts.pop(line.split()[1], None) if line.startswith("round ") else None
        if act is not None:
            assert self.view is not None
            act(self.plan, self.view)

    def tick(self, text: str) -> None:
        """Nobody watches."""


def plan_of(tmp_path: Path, stack: str = "", **options: Any) -> Plan:
    """A small run on a local stack; `stack` is YAML that is added to the usual one."""
    path = tmp_path / "stack.yaml"
    path.write_text(f"kind: local\n{stack}", encoding="utf-8")
    return resolve(Options(**{"stack": str(path), **SMALL, **options}), tmp_path)


def run(tmp_path: Path, plan: Plan, acts: dict[str, Act] | None = None) -> Outcome:
    """Conduct `plan` from start to report."""
    saboteur = Saboteur(plan, dict(acts or {}))
    with open_stack(plan, tmp_path / "logs", saboteur) as view:
        saboteur.view = view
        outcome = conduct(plan, view, tmp_path / "run", saboteur)
    assert not saboteur.acts, f"never reached {sorted(saboteur.acts)}: {saboteur.said}"
    return outcome


def lint_ids(tmp_path: Path, plan: Plan) -> set[str]:
    """Ids of what preflight finds on the stack of `plan`."""
    with open_stack(plan, tmp_path / "logs", Saboteur(plan)) as view:
        return {finding.id for finding in inspect(plan, view, {})}


def broken(outcome: Outcome) -> dict[str, Evidence]:
    """The broken checks of a run by id, the first of each."""
    found: dict[str, Evidence] = {}
    for evidence in outcome.judgement.evidence:
        if evidence.status is Status.BROKEN:
            found.setdefault(evidence.id, evidence)
    return found


def assert_failed(outcome: Outcome, check: str, words: str) -> None:
    """The run is a FAIL, `check` is broken, and the reasons name the cause in `words`."""
    reasons = "\n".join(outcome.judgement.reasons)
    assert outcome.judgement.verdict is Verdict.FAIL, reasons
    assert check in broken(outcome), f"{sorted(broken(outcome))}: {reasons}"
    assert words in reasons, reasons


def in_stack(view: StackView, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function to its end in a thread inside the stack's network namespace."""
    problems: list[BaseException] = []

    def body() -> None:
        try:
            if view.details["netns"]:
                enter(view.details["netns"])
            asyncio.run(work())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(60)
    if problems:
        raise problems[0]
    assert not thread.is_alive()


def post(url: str) -> None:
    """POST nothing; the measuring thread is inside the stack's namespace already."""
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as response:
        assert response.status == 200


class Corrupter:
    """A process that exchanges the bytes of every stored object whose key matches, as soon as it appears."""

    def __init__(self, held: ExitStack, view: StackView, pattern: str) -> None:
        assert view.store is not None
        order = {
            "master": view.store.rpc_address,
            "metadata": view.store.metadata_url,
            "keys_url": f"{view.store.master_url}/get_all_keys",
            "pattern": pattern,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "corrupt.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"MC_TCP_BIND_ADDRESS": "127.0.0.1"},
        )
        held.callback(self._stop)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "joined"

    def _stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def requests_of(prompts: Sequence[tuple[int, ...]], model: str, params: dict[str, str]) -> list[bytes]:
    """Bodies that store prompts under the tags of somebody else's choice."""
    return [
        json.dumps({"model": model, "prompt": prompt, "max_tokens": 1, "kv_transfer_params": params}).encode()
        for prompt in prompts
    ]


@dataclass(frozen=True)
class RunningStore:
    """A master and a storage node that were started by somebody else: by the test, outside of any stack."""

    rpc: str
    admin: str
    metadata: str
    node_pid: int = 0

    @property
    def options(self) -> dict[str, Any]:
        return {"url": (f"mooncakestore://{self.rpc}",), "master": self.admin, "metadata": self.metadata}

    def keys(self) -> set[str]:
        with urllib.request.urlopen(f"{self.admin}/get_all_keys", timeout=5) as response:
            return {key for key in response.read().decode().split("\n") if key}


def running_store(held: ExitStack, tmp_path: Path) -> RunningStore:
    """Start one; it holds eight keys of a tenant of its own."""
    parts, loopback = find_parts(), "127.0.0.1"
    rpc, admin, metadata, node, http = free_ports(5)
    store = RunningStore(
        rpc=f"{loopback}:{rpc}",
        admin=f"http://{loopback}:{admin}",
        metadata=f"http://{loopback}:{metadata}/metadata",
    )
    master = [f"-rpc_port={rpc}", f"-rpc_address={loopback}", f"-metrics_port={admin}", f"-metrics_host={loopback}"]
    master += ["-enable_http_metadata_server=true", f"-http_metadata_server_port={metadata}"]
    _start(held, [str(parts.master), *master], tmp_path / "master.log")
    _wait(f"{store.admin}/metrics")
    client = [f"-host={loopback}", f"-port={node}", f"-global_segment_size={2**30}", "-protocol=tcp"]
    client += [f"-master_server_address={store.rpc}", f"-metadata_server={store.metadata}"]
    serving = ["-enable_http_server=true", f"-http_port={http}"]
    store = replace(store, node_pid=_start(held, [str(parts.node), *client, *serving], tmp_path / "node.log"))
    _wait(f"http://{loopback}:{http}/metrics")
    order = json.dumps({"master": store.rpc, "metadata": store.metadata})
    env = os.environ | {"MC_TCP_BIND_ADDRESS": loopback}
    subprocess.run([sys.executable, str(HERE / "put.py")], input=order, text=True, check=True, env=env)
    assert len(store.keys()) == 8
    return store


def _start(held: ExitStack, command: list[str], log: Path) -> int:
    """Start a process that ends with `held`, and return its pid."""
    env = os.environ | {"MC_TCP_BIND_ADDRESS": "127.0.0.1"}
    with log.open("wb") as file:
        process = held.enter_context(subprocess.Popen(command, stdout=file, stderr=file, env=env))
    held.callback(process.kill)
    return process.pid


def _wait(url: str) -> None:
    for _ in range(150):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} never answered")
