"""How many bytes a run will put into a store: known where the stack, or the user, tells the model's KV bytes a token.

An attached endpoint tells neither its model's shape nor its chunk size. `--mooncake-hardware` may name a `config.json`
or the bytes themselves; what a round stores is then at most these for each of its different prompt tokens, whatever
the chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mooncake.analysis.audit.external_figures import machine_from_mapping

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan
    from pytest_mooncake.records import StackView

__all__ = ["HOW_TO_TELL", "budget_not_kept", "told_bytes_per_token"]

HOW_TO_TELL = "give --mooncake-hardware FILE with model.kv_bytes_per_token or model.config"


def told_bytes_per_token(plan: Plan) -> int | None:
    """KV bytes a token over all ranks, as `--mooncake-hardware` tells them; None where it does not."""
    if plan.machine is None:
        return None
    model, _ = machine_from_mapping(plan.machine.model_dump(exclude={"name"}))
    return model.kv_bytes_per_token or None


def budget_not_kept(plan: Plan, view: StackView) -> str | None:
    """What every report must say of a budget that was asked for and could not be kept; None where it could."""
    if plan.store_budget_bytes is None or plan.steady or view.kv is not None or told_bytes_per_token(plan) is not None:
        return None
    return f"--mooncake-store-budget was not kept: how many bytes the run stored is not known; {HOW_TO_TELL}."
