"""The reference of workloads names every key there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.plan.base import Model
from pytest_mooncake.plan.models import Lengths, TraceSpec, Traffic, WorkloadPlan

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "workloads.md").read_text(encoding="utf-8")
ELSEWHERE = {"name", "arrivals"}
"""The name is that of the file; arrivals are the matter of --mooncake-rate."""


@pytest.mark.parametrize("model", [WorkloadPlan, Traffic, Lengths, TraceSpec])
def test_every_key_is_in_the_reference(model: type[Model]) -> None:
    missing = {
        key for key in model.model_fields if f"`{key}`" not in PAGE and f"\n{key}:" not in PAGE and key not in ELSEWHERE
    }
    assert missing == set()


def test_the_packed_scenarios_are_in_the_reference_with_their_reuse() -> None:
    packed = Path(__file__).parents[3] / "fixtures" / "workloads"
    assert all(f"| `{file.stem}` |" in PAGE for file in packed.glob("*.yaml"))
