"""What outlives what: a cached document its engine, a record the killed pytest; and nothing that was started here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest

from pytest_mooncake.cli.scaffold import write_suite
from pytest_mooncake.journal import read
from pytest_mooncake.records import StackView
from pytest_mooncake.run.runner import open_stack
from tests.support.sabotage import PROMPT_TOKENS, Saboteur, in_stack, plan_of, requests_of, running_store

pytestmark = [pytest.mark.stack, pytest.mark.full]

DOCUMENT = tuple(300 + 7 * position % 6000 for position in range(PROMPT_TOKENS))
IN_FLIGHT_S, GONE_S = 180.0, 5.0
RUN = ("--mooncake-requests=12", "--mooncake-prompt-tokens=8100", "--mooncake-report=record")


def cached_tokens_of(view: StackView, prompt: tuple[int, ...]) -> int:
    """Send a prompt once, under tags that every engine start shares, and tell what of it was cached."""
    found: list[int] = []

    async def send() -> None:
        body = requests_of([prompt], view.model, {"lmcache.tag.tenant": "survivor"})[0]
        headers = {"Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{view.engines[0].url}/v1/completions", data=body, headers=headers) as response,
        ):
            usage = (await response.json())["usage"]
            found.append((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)
            await asyncio.sleep(1)  # a put ends after the answer, and the engine is stopped next

    in_stack(view, send)
    return found[0]


def test_a_cached_document_survives_the_restart_of_its_engine(tmp_path: Path) -> None:
    with ExitStack() as held:
        store = running_store(held, tmp_path)
        plan = plan_of(tmp_path, **store.options)
        seen = []
        for start in ("first", "second"):
            with open_stack(plan, tmp_path / start, Saboteur(plan)) as view:
                seen.append(cached_tokens_of(view, DOCUMENT))
        assert seen == [0, PROMPT_TOKENS - 1]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def _in_the_middle_of_a_round(process: subprocess.Popen[bytes], record: Path) -> None:
    deadline = time.monotonic() + IN_FLIGHT_S
    while len(_lines(record / "requests.jsonl")) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before a round had begun"
        time.sleep(0.1)


def _namespace(pid: int) -> int:
    """The network namespace of a process, by its inode."""
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def _listening(pid: int) -> set[int]:
    """Ports on which anybody listens in the network namespace of a process."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A"}


def _who_is_in(namespaces: set[int]) -> list[int]:
    """Processes in one of these namespaces."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if _namespace(pid) in namespaces:
                found.append(pid)
    return found


def _mounted(namespaces: set[int]) -> list[str]:
    """Mounts that keep one of these namespaces though nobody is in it."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line for line in mounts if any(f"net:[{inode}]" in line for inode in namespaces)]


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_killed_pytest_leaves_no_process_no_port_and_all_records(tmp_path: Path) -> None:
    write_suite(tmp_path)
    record = tmp_path / "record"
    command = [sys.executable, "-m", "pytest", "acceptance", "-p", "no:cacheprovider", *RUN]
    before = _listening(os.getpid())
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            _in_the_middle_of_a_round(process, record)
            started = psutil.Process(process.pid).children(recursive=True)
            apart = {_namespace(one.pid) for one in started} - {_namespace(os.getpid())}
            listening = {port for one in started for port in _listening(one.pid)}
            assert len(started) >= 7
            assert len(listening) >= 5, "master, metadata server, storage nodes and vLLM listen"
        finally:
            process.kill()
            process.wait()
    deadline = time.monotonic() + GONE_S
    while _alive(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _alive(started) == []
    assert (_who_is_in(apart), _mounted(apart)) == ([], []), (
        "a namespace is gone, and its ports with it, when nobody holds it"
    )
    assert not (listening & _listening(os.getpid())) - (before if apart else set())
    finished = [json.loads(line) for line in _lines(record / "requests.jsonl")]
    assert len(finished) >= 3
    assert {one["error"] for one in finished} == {None}
    assert not read(record).complete
