"""What a run will put into the store is known, and refused, before anything is sent."""

from __future__ import annotations

import pytest

from pytest_mooncake.cache.store_budget import check_budget, store_cost
from pytest_mooncake.errors import UsageError
from pytest_mooncake.records import KVGeometry

GB = 10**9
QWEN_72B = KVGeometry(bytes_per_token=327_680, ranks=8)


def test_the_specifications_workload_on_a_72b_model_costs_161_gb_a_cold_round() -> None:
    cost = store_cost(30 * 64, QWEN_72B)

    assert cost.objects == 15_360
    assert round(cost.bytes_per_round / GB) == 161


def test_prompts_without_a_whole_chunk_cost_nothing() -> None:
    assert store_cost(0, QWEN_72B).bytes_per_round == 0


def test_a_need_above_the_budget_is_refused_with_the_options_that_help() -> None:
    with pytest.raises(UsageError, match=r"would store 161 GB, the budget is 160 GB.*--mooncake-store-budget"):
        check_budget(161 * GB, free_bytes=None, budget_bytes=160 * GB, provisioned=False)


@pytest.mark.parametrize(("provisioned", "limit"), [(False, 20), (True, 100)])
def test_a_fifth_of_what_is_free_may_be_used_in_a_store_that_is_not_ours(provisioned: bool, limit: int) -> None:
    fits = check_budget(limit * GB, free_bytes=100 * GB, budget_bytes=None, provisioned=provisioned)

    assert fits == f"the run will store {limit} GB of at most {limit} GB"
    with pytest.raises(UsageError):
        check_budget(limit * GB + 1, free_bytes=100 * GB, budget_bytes=None, provisioned=provisioned)


def test_what_is_not_known_is_said_and_the_run_goes_on() -> None:
    unknown = "how many bytes the run will store is not known"
    how = "give --mooncake-hardware FILE with model.kv_bytes_per_token or model.config"
    assert check_budget(None, free_bytes=None, budget_bytes=None, provisioned=False) == f"{unknown}: {how}"
    assert check_budget(None, free_bytes=1e12, budget_bytes=1, provisioned=False) == (
        f"{unknown}, so --mooncake-store-budget cannot be kept: {how}"
    )
    assert check_budget(GB, free_bytes=None, budget_bytes=None, provisioned=False) == (
        "the run will store 1 GB; how much is free in the store is not known"
    )
