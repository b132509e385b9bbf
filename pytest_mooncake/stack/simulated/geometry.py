"""What the simulated model is called and how large its KV cache is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import StackPlan


def served_name(plan: StackPlan) -> str:
    """Return the model name that the simulated engines answer to."""
    return plan.model_name or "simulated"


def bytes_per_token(plan: StackPlan) -> int:
    """Return KV bytes per token of the plan's model: keys and values of every layer and KV head in bf16."""
    model = plan.model
    return 2 * model.layers * model.kv_heads * model.head_dim * 2
