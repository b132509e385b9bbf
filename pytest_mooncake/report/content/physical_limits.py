"""Physical limits of a measured run, as far as the model's shape is known.

The hardware behind an endpoint cannot be asked for; what it would allow at best is computed where a file names it
(`--mooncake-hardware`). The bytes and FLOP of a prompt are known without one where the stack tells its model's shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mooncake.analysis.audit.external_figures import machine_from_mapping
from pytest_mooncake.analysis.audit.limits import Hardware, limits
from pytest_mooncake.analysis.audit.model.geometry import Geometry, geometry_of
from pytest_mooncake.analysis.figures.summary import Summary
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import StackView

CONFIG_KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
}
"""What the local stack calls the sizes of its model, and a Hugging Face `config.json` does."""
LOCAL_INNER_SHARE = 3
"""Width of the local model's feed-forward in hidden sizes, fixed by its builder."""


def limits_of(
    plan: Plan, view: StackView, cold: Summary, warm: Summary, prompt_tokens: int | None
) -> Mapping[str, Any] | None:
    """What one prompt of the run costs, and bounds where they are known; `None` where nothing is.

    Args:
        plan: what was run.
        view: the stack; its `details` or its KV geometry tell the model's shape.
        cold: figures of the cold rounds.
        warm: figures of the warm rounds.
        prompt_tokens: mean length of the prompts that were sent.
    """
    geometry, hardware = _geometry(view), Hardware()
    if plan.machine is not None:
        told, hardware = machine_from_mapping(plan.machine.model_dump(exclude={"name"}))
        geometry = told if told != Geometry() else geometry
    if geometry is None or view.simulated or prompt_tokens is None:
        return None
    found = limits(geometry, hardware, prompt_tokens=prompt_tokens, cold=cold, warm=warm).to_json()
    return {name: value for name, value in found.items() if value is not None} or None


def _geometry(view: StackView) -> Geometry | None:
    shape = view.details.get("geometry")
    if isinstance(shape, Mapping) and all(isinstance(shape.get(key), int) for key in CONFIG_KEYS):
        inner = {"intermediate_size": LOCAL_INNER_SHARE * shape["hidden"]}
        return geometry_of({name: shape[key] for key, name in CONFIG_KEYS.items()} | inner)
    return Geometry(kv_bytes_per_token=view.kv.bytes_per_token) if view.kv else None
