"""What a run of a steady state asks of its rounds, from the size that the store's own master tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import StackView
from pytest_mooncake.run.instruments import instruments_for
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.stack.simulated import provision_simulated

SMALL_STORE = "kind: simulated\nstore: {nodes: 2, segment_bytes: 1048576}\n"


def plan_of(directory: Path, **numbers: str) -> Plan:
    (directory / "small.yaml").write_text(SMALL_STORE, encoding="utf-8")
    given = {"workload": "customer-chat", "requests": "32", "prompt_tokens": "1536", "concurrency": "1"} | numbers
    return resolve(Options(stack="small.yaml", steady=True, **given), directory)  # type: ignore[arg-type] # text


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackView]:
    directory = tmp_path_factory.mktemp("stack")
    with provision_simulated(plan_of(directory).stack, log_dir=directory, progress=Silent().tick) as running:
        yield running


async def test_rounds_are_held_to_what_an_lru_of_the_stores_size_keeps(view: StackView, tmp_path: Path) -> None:
    noted: list[tuple[str, dict[str, Any]]] = []
    async with instruments_for(plan_of(tmp_path), view, {}, lambda name, **values: noted.append((name, values))) as use:
        planned = use.planned
    assert planned is not None
    assert planned.steady_store_chunks == 16
    assert 0 < planned.steady_cold_chunks <= planned.cold_chunks
    assert planned.steady_cold_chunks <= planned.steady_warm_chunks < planned.chunks
    told = [note for name, values in noted if name == "workload" for note in values["notes"]]
    assert any(note.startswith("steady state: the store holds 16 of the") for note in told)
    assert "store_budget" not in {name for name, _ in noted}, "a steady state is there to fill the store"


async def test_a_store_that_nobody_tells_the_size_of_is_no_steady_state(view: StackView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="how many chunks the store holds is not known"):
        async with instruments_for(plan_of(tmp_path), replace(view, kv=None), {}):
            pass


async def test_a_store_that_holds_the_working_set_is_refused(view: StackView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="so nothing would be evicted"):
        async with instruments_for(plan_of(tmp_path, requests="12"), view, {}):
            pass
