"""Two endpoints in turns: a slower one is confirmed, an equal one is not, one endpoint is no comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from pytest_mooncake.plan.models import SimulatedCost, StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.stack.simulated import provision_simulated
from tests.plugin.conftest import SMALL, Run

PACED = {"base_ms": 60, "prefill_us_per_token": 400, "cached_us_per_token": 25, "decode_ms_per_token": 8}


class Stacks:
    """Simulated stacks that run until the test ends."""

    def __init__(self, path: Path, opened: ExitStack) -> None:
        self._path = path
        self._opened = opened

    def start(self, name: str, **changes: float) -> StackView:
        cost = SimulatedCost.model_validate({**PACED, **changes})
        plan = StackPlan(name=name, kind="simulated", simulated=cost)
        return self._opened.enter_context(
            provision_simulated(plan, log_dir=self._path / name, progress=lambda _line: None)
        )


@pytest.fixture
def stacks(tmp_path: Path) -> Iterator[Stacks]:
    with ExitStack() as opened:
        yield Stacks(tmp_path, opened)


def compared(suite: Run, path: Path, new: StackView, old: StackView) -> tuple[pytest.RunResult, dict[str, object]]:
    assert new.store is not None
    result = suite(
        f"--mooncake-url={new.engines[0].url}",
        f"--mooncake-master={new.store.master_url}",
        f"--mooncake-versus={old.engines[0].url}",
        "--mooncake-trials=2",
        "--mooncake-settle=fixed:0.2",
        "--mooncake-report=out",
        *SMALL,
        "--mooncake-requests=4",
        where="acceptance/test_performance.py",
    )
    return result, orjson.loads((path / "out" / "report.json").read_bytes())["versus"]


def standings(told: dict[str, object]) -> dict[str, str]:
    metrics = told["metrics"]
    assert isinstance(metrics, list)
    return {one["metric"]: one["standing"] for one in metrics}


@pytest.mark.full
def test_an_endpoint_twice_as_slow_in_prefill_is_confirmed_and_a_replay_says_the_same(
    suite: Run, pytester: pytest.Pytester, stacks: Stacks
) -> None:
    old, new = stacks.start("old"), stacks.start("new", prefill_us_per_token=800, cached_us_per_token=50)
    _, told = compared(suite, pytester.path, new, old)

    assert standings(told)["cold.ttft_mean_ms"] == "slower"
    assert standings(told)["warm.hit_share"] == "not slower"
    assert told["visits"] == 2
    assert "cold mean TTFT +" in (pytester.path / "out" / "report.md").read_text(encoding="utf-8")
    suite("--mooncake-replay=out", "--mooncake-report=again", where="acceptance/test_performance.py")
    assert orjson.loads((pytester.path / "again" / "report.json").read_bytes())["versus"] == told


@pytest.mark.full
def test_equal_endpoints_are_not_confirmed_as_slower(suite: Run, pytester: pytest.Pytester, stacks: Stacks) -> None:
    _, told = compared(suite, pytester.path, stacks.start("new"), stacks.start("old"))
    assert told["slower"] == []
    assert standings(told)["cold.ttft_mean_ms"] != "slower"


def test_new_and_old_the_same_endpoint_is_one_line(suite: Run) -> None:
    result = suite("--mooncake-url=http://127.0.0.1:9/v1", "--mooncake-versus=http://localhost:9")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--mooncake-versus http://localhost:9 is the endpoint of --mooncake-url itself*"])
