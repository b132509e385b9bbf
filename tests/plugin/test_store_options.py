"""How a run treats the store: its budget, the pause, real clearing, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.stack.simulated import provision_simulated
from tests.plugin.conftest import SIMULATED, SMALL, Run

QUICK = (*SIMULATED, "--mooncake-quick", "--mooncake-report=run")


def events(pytester: pytest.Pytester, name: str) -> list[dict[str, Any]]:
    lines = (pytester.path / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[StackView]:
    """A simulated stack that somebody else uses too: eight keys lie in its store."""
    plan = StackPlan(name="simulated", kind="simulated")
    with provision_simulated(plan, log_dir=tmp_path, progress=lambda _line: None) as view:
        asyncio.run(_store_something(view))
        yield view


async def _store_something(view: StackView) -> None:
    body = {"model": view.model, "prompt": list(range(300, 300 + 8 * 256)), "max_tokens": 1}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{view.engines[0].url}/v1/completions", json=body) as response:
            assert response.status == 200
        for _ in range(100):
            if await _keys(view, session) == 8:
                return
            await asyncio.sleep(0.05)
    raise AssertionError("nothing was stored")


async def _keys(view: StackView, session: aiohttp.ClientSession) -> int:
    assert view.store is not None
    async with session.get(f"{view.store.master_url}/get_all_keys") as response:
        return len((await response.text()).split())


def attached(view: StackView, *more: str) -> tuple[str, ...]:
    assert view.store is not None
    urls = (f"--mooncake-url={view.engines[0].url}", f"--mooncake-master={view.store.master_url}")
    return (*urls, *SMALL, "--mooncake-quick", "--mooncake-report=run", *more)


def test_above_the_budget_nothing_is_sent(suite: Run, pytester: pytest.Pytester) -> None:
    result = suite(*QUICK, "--mooncake-store-budget=1MB")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*the run would store * GB, the budget is 0.001 GB*--mooncake-store-budget*"])
    assert (pytester.path / "run" / "requests.jsonl").read_text(encoding="utf-8") == ""
    assert "Traceback" not in result.stdout.str()


def test_the_need_stands_in_the_record(suite: Run, pytester: pytest.Pytester) -> None:
    suite(*QUICK, "--mooncake-store-budget=1GB")
    assert events(pytester, "store_budget")[0]["sentence"].startswith("the run will store 0.00315 GB of at most 1 GB")


def test_the_specifications_fixed_pause_is_kept_on_request(suite: Run, pytester: pytest.Pytester) -> None:
    suite(*QUICK, "--mooncake-settle=fixed:0.5")
    cold, warm = events(pytester, "round")
    assert cold["settle"]["how"] == "0.5 s by the clock, as asked"
    assert "by the clock" not in warm["settle"]["how"]


def test_a_shared_store_is_not_cleared_unless_told_twice(
    suite: Run, pytester: pytest.Pytester, shared: StackView
) -> None:
    result = suite(*attached(shared, "--mooncake-allow-clear"))
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*8 of them not from this run*give --mooncake-allow-clear twice*"])
    assert events(pytester, "cleared") == []

    async def left() -> int:
        async with aiohttp.ClientSession() as session:
            return await _keys(shared, session)

    assert asyncio.run(left()) == 8, "nothing of the other tenant's went"


def test_told_twice_everything_goes_and_the_record_says_what(
    suite: Run, pytester: pytest.Pytester, shared: StackView
) -> None:
    assert suite(*attached(shared, "--mooncake-allow-clear", "--mooncake-allow-clear")).ret == 0
    first, before_warm, *before_the_gate = events(pytester, "cleared")
    assert "all 8 keys of the Mooncake store, 8 of them not from this run" in first["plan"][1]
    store = next(target for target in first["outcome"] if target["layer"] == "store")
    assert (store["verified"], store["detail"]) == (True, "0 keys left")
    for nearer in (before_warm, *before_the_gate):
        assert [target["layer"] for target in nearer["outcome"]] == ["engine"], "the store is what is to be read"


def test_without_a_way_to_remove_them_the_summary_says_that_the_keys_stay(suite: Run, shared: StackView) -> None:
    result = suite(*attached(shared))
    said = " ".join(result.stdout.str().split())
    assert "keys of this run stay in the store, recognisable by @run%" in said
    assert "a simulated master has no RPC port" in said


def test_wrong_text_from_the_cache_fails_the_run(suite: Run, pytester: pytest.Pytester) -> None:
    stack = pytester.path / "fixtures" / "stacks" / "wrong.yaml"
    paced = (pytester.path / "fixtures" / "stacks" / "paced.yaml").read_text(encoding="utf-8")
    stack.write_text(f"{paced}  faults: [wrong-text]\n", encoding="utf-8")
    result = suite("--mooncake-stack=wrong", *QUICK[1:])
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*test_gate*correct_text*"])
    assert "Verdict: FAIL" in result.stdout.str()
