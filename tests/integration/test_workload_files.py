from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.workload.build import layout_of
from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse

WORKLOADS = Path(__file__).parents[2] / "fixtures" / "workloads"


def packed(name: str, **changes: int) -> WorkloadPlan:
    plan = load(WORKLOADS / f"{name}.yaml", WorkloadPlan, name=name)
    return WorkloadPlan.model_validate({**plan.model_dump(exclude_unset=True), **changes})


def test_the_default_workload_is_the_specs() -> None:
    plan = packed("long-document")
    assert (plan.requests, plan.prompt_tokens, plan.output_tokens, plan.concurrency) == (30, 16384, 128, 4)


@pytest.mark.parametrize("requests", [None, 30, 60, 500])
@pytest.mark.parametrize(("name", "asked"), [("kb-qa", 0.90), ("customer-chat", 0.85), ("code-assistant", 0.80)])
def test_a_packed_scenario_delivers_the_reuse_it_states_at_any_scale(
    name: str, asked: float, requests: int | None
) -> None:
    plan = packed(name) if requests is None else packed(name, requests=requests)
    assert [kind.reuse for kind in plan.traffic] == [asked]
    assert planned_reuse(layout_of(plan)).cold_ratio == pytest.approx(asked, abs=0.002)


def test_every_packed_workload_can_be_laid_out_and_stored_as_json() -> None:
    names = sorted(file.stem for file in WORKLOADS.glob("*.yaml"))
    assert names == ["code-assistant", "customer-chat", "kb-qa", "long-document", "mixed"]
    for name in names:
        plan = packed(name)
        assert plan.description
        again = WorkloadPlan.model_validate_json(plan.model_dump_json())
        assert again == plan
        assert layout_of(again).prompt_tokens.tolist() == layout_of(plan).prompt_tokens.tolist()
        assert len(layout_of(plan)) == plan.requests
