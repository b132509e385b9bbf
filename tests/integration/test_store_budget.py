"""The budget of a store that is somebody else's: kept where the need is known, before anything is sent; else said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import StackView
from pytest_mooncake.run.instruments import instruments_for
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.stack.simulated import provision_simulated

QWEN_72B = {"num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8}
NEED_GB = 4 * 1000 * 327_680 / 1e9
"""Of one cold round: prompts of 1,000 tokens in chunks of whatever size."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackView]:
    """A store that runs, seen from outside as any vLLM shows it: nobody tells its geometry."""
    plan = StackPlan(name="simulated", kind="simulated")
    with provision_simulated(plan, log_dir=tmp_path_factory.mktemp("stack"), progress=Silent().tick) as view:
        yield replace(view, provisioned=False, kv=None)


async def noted(endpoint: StackView, directory: Path, model: str | None, **options: Any) -> dict[str, Any]:
    """The journal's event on the budget of a run that is about to begin."""
    if model is not None:
        (directory / "config.json").write_text(json.dumps(QWEN_72B), encoding="utf-8")
        (directory / "machine.yaml").write_text(f"model: {model}\n", encoding="utf-8")
        options["hardware"] = "machine.yaml"
    sizes: dict[str, Any] = {"requests": "4", "prompt_tokens": "1000", "output_tokens": "4", "quick": True}
    given = Options(**{"url": (endpoint.engines[0].url,), **sizes, **options})
    events: list[tuple[str, dict[str, Any]]] = []
    plan = resolve(given, directory)
    async with instruments_for(plan, endpoint, {}, lambda name, **values: events.append((name, values))):
        pass
    return next(values for name, values in events if name == "store_budget")


@pytest.mark.parametrize("model", ["{kv_bytes_per_token: 327680}", "{config: config.json}"])
async def test_a_budget_binds_on_an_attached_store_whose_models_size_is_told(
    endpoint: StackView, tmp_path: Path, model: str
) -> None:
    with pytest.raises(UsageError, match=f"the run would store {NEED_GB:.3g} GB, the budget is 1.31 GB"):
        await noted(endpoint, tmp_path, model, store_budget="1.31GB")
    event = await noted(endpoint, tmp_path, model, store_budget="1.32GB")
    assert event == {"sentence": f"the run will store {NEED_GB:.3g} GB of at most 1.32 GB", "known": True}


async def test_every_cold_round_counts_where_keys_cannot_be_removed(endpoint: StackView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the run would store 6\.55 GB"):
        await noted(endpoint, tmp_path, "{kv_bytes_per_token: 327680}", store_budget="6GB", quick=False, trials="3")


async def test_a_fifth_of_what_is_free_binds_without_an_option(endpoint: StackView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the run would store 40 GB, the budget is 1\.72 GB"):
        await noted(endpoint, tmp_path, "{kv_bytes_per_token: 10000000}")


@pytest.mark.parametrize(("budget", "unkept"), [("1B", ", so --mooncake-store-budget cannot be kept"), (None, "")])
@pytest.mark.parametrize("model", [None, "{parameters: 7.0e10}", "{kv_bytes_per_token: 0}"])
async def test_a_need_that_nobody_tells_is_said_and_the_run_goes_on(
    endpoint: StackView, tmp_path: Path, model: str | None, budget: str | None, unkept: str
) -> None:
    event = await noted(endpoint, tmp_path, model, store_budget=budget)
    how = "give --mooncake-hardware FILE with model.kv_bytes_per_token or model.config"
    assert event == {"sentence": f"how many bytes the run will store is not known{unkept}: {how}", "known": False}


async def test_a_store_that_does_not_tell_what_is_free_is_said(endpoint: StackView, tmp_path: Path) -> None:
    event = await noted(replace(endpoint, store=None), tmp_path, "{kv_bytes_per_token: 327680}")
    assert event["known"] is False
    assert event["sentence"].endswith("how much is free in the store is not known")
