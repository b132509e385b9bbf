"""No process that is started here gets a secret of whoever started it: not in its environment, not as an argument."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from pytest_mooncake.cache.remove_keys import remove_own_keys
from pytest_mooncake.load.calibration.calibrate import scripted_server
from pytest_mooncake.load.workers.pool import run_round_in_workers
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import RequestRecord, Store
from pytest_mooncake.stack.process import supervised
from pytest_mooncake.stack.simulated import provision_simulated
from tests.support.faulty_server import FaultyServer
from tests.support.measured_rounds import planned, spec_for

SECRET = "a-secret-of-the-user-5e7"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THE_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "VLLM_API_KEY", "MC_TOKEN", "MY_OWN"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("LANG", "C.UTF-8")


def children() -> Iterator[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    assert found, "a process was started"
    yield from found


def check(process: psutil.Process) -> None:
    environ = process.environ()
    assert SECRET not in environ.values()
    assert environ.get("PATH") == os.environ["PATH"]
    assert environ.get("LANG") == "C.UTF-8", "what is needed is there"
    assert not [word for word in process.cmdline() if SECRET in word]


async def test_the_calibration_server() -> None:
    async with scripted_server(ttft_ms=1, gap_ms=1, tokens=2):
        for child in children():
            check(child)


async def test_load_workers_which_get_their_headers_through_a_pipe() -> None:
    seen: list[RequestRecord] = []

    def look(record: RequestRecord) -> None:
        if not seen:
            for child in children():
                check(child)
        seen.append(record)

    async with FaultyServer() as server:
        spec = spec_for(server.url, requests=planned(8), concurrency=2, headers={"Authorization": f"Bearer {SECRET}"})
        await run_round_in_workers(spec, workers=2, on_record=look)
        assert {one.headers.get("authorization") for one in server.received} == {f"Bearer {SECRET}"}
    assert [record.error for record in seen] == [None] * 8


def test_the_simulated_stack(tmp_path: Path) -> None:
    plan = StackPlan.model_validate(
        {
            "name": "simulated",
            "kind": "simulated",
            "engine": {"extra_env": {"HF_TOKEN": SECRET}, "extra_args": ["--api-key", SECRET]},
        }
    )
    with provision_simulated(plan, log_dir=tmp_path, progress=lambda _: None):
        for child in children():
            check(child)


def test_the_warden_of_a_local_stack() -> None:
    with supervised(isolate=False) as supervisor:
        check(psutil.Process(supervisor.pid))


async def test_the_process_that_removes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MC_LOG_LEVEL", "1")
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\nenv > {tmp_path}/env; cat > /dev/null; echo '{{\"removed\": 0}}'\n")
    interpreter.chmod(0o755)
    store = Store(master_url="http://127.0.0.1:1", rpc_address="127.0.0.1:1")
    async with aiohttp.ClientSession() as session:
        found = await remove_own_keys(session, store, "run-1", python=str(interpreter))
    assert found.removed == 0
    environ = (tmp_path / "env").read_text()
    assert SECRET not in environ
    assert "MC_LOG_LEVEL=1" in environ, "what Mooncake's client reads is there"
