"""What must be the same for two runs to be comparable, and what may differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.regression.fingerprint import differences, fingerprint_of, parts_of, release_of
from pytest_mooncake.plan.models import Plan, TraceSpec
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Engine, StackView, Store

MACHINE = {"cpu": "EPYC", "cpu_cores": 2, "memory_bytes": 16 * 2**30 - 10_000_000}
VIEW = StackView(
    name="local", provisioned=True, engines=(Engine(url="http://127.0.0.1:1"),), model="tiny", versions={"vllm": "0.32"}
)


def plan(**options: Any) -> Plan:
    return resolve(Options(**options), Path())


def fingerprint(made: Plan, view: StackView = VIEW, machine: dict[str, Any] = MACHINE) -> str:
    return fingerprint_of(parts_of(made, view, machine))


def test_two_runs_of_one_plan_have_one_fingerprint() -> None:
    first, second = plan(label="v1"), plan(label="v2")
    assert first.run_id != second.run_id
    assert fingerprint(first) == fingerprint(second)


def test_versions_are_recorded_and_no_part_of_it() -> None:
    newer = StackView(
        name="local",
        provisioned=True,
        engines=VIEW.engines,
        model="tiny",
        versions={"vllm": "0.33", "lmcache": "0.6"},
    )
    assert fingerprint(plan()) == fingerprint(plan(), newer)
    assert release_of(newer, {"python": "3.11.2", "git_commit": None}) == {
        "vllm": "0.33",
        "lmcache": "0.6",
        "python": "3.11.2",
    }


def test_how_the_software_is_configured_is_what_a_history_compares() -> None:
    made = plan()
    connector = made.stack.connector.model_copy(update={"chunk_tokens": 64})
    other = made.model_copy(update={"stack": made.stack.model_copy(update={"connector": connector})})
    assert fingerprint(made) == fingerprint(other)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"prompt_tokens": "4096"}, "workload.prompt_tokens 16384 here, 4096 there"),
        ({"concurrency": "2"}, "workload.concurrency 4 here, 2 there"),
        ({"requests": "7"}, "workload.requests 30 here, 7 there"),
        ({"seed": "3"}, "workload.seed 0 here, 3 there"),
        ({"api": "chat"}, "client.api auto here, chat there"),
        ({"stack": "simulated"}, "topology.stack local here, simulated there"),
        ({"rate": "5"}, "workload.arrivals.rate_per_s not given here, 5.0 there"),
    ],
)
def test_what_differs_is_named(options: dict[str, Any], phrase: str) -> None:
    here, there = (parts_of(made, VIEW, MACHINE) for made in (plan(), plan(**options)))
    assert phrase in differences(here, there)
    assert fingerprint_of(here) != fingerprint_of(there)


def test_another_machine_another_model_and_another_number_of_engines_are_not_comparable() -> None:
    here = parts_of(plan(), VIEW, MACHINE)
    two = StackView(name="local", provisioned=True, engines=VIEW.engines * 2, model="larger")
    there = parts_of(plan(), two, {**MACHINE, "cpu": "Xeon", "cpu_cores": 8})
    assert differences(here, there) == (
        "hardware.cpu EPYC here, Xeon there",
        "hardware.cpu_cores 2 here, 8 there",
        "model.name tiny here, larger there",
        "topology.engines 1 here, 2 there",
    )


def test_memory_is_rounded_so_that_a_few_pages_do_not_matter() -> None:
    assert fingerprint(plan()) == fingerprint(plan(), machine={**MACHINE, "memory_bytes": 16 * 2**30})


def test_behind_an_endpoint_the_machine_of_the_client_is_not_the_hardware() -> None:
    attached = plan(url=("http://127.0.0.1:1",))
    store = Store(master_url="http://127.0.0.1:2", node_urls=("a", "b", "c"))
    view = StackView(name="attached", provisioned=False, engines=VIEW.engines, model="tiny", store=store)
    parts = parts_of(attached, view, MACHINE)
    assert fingerprint(attached) == fingerprint(attached, machine={"cpu": "another", "cpu_cores": 64})
    assert not [name for name in parts if name.startswith("hardware.cpu")]
    assert parts["topology.storage_nodes"] == 3


def test_a_trace_counts_by_its_name_wherever_it_lies() -> None:
    made = plan()
    parts = [
        parts_of(
            made.model_copy(update={"workload": made.workload.model_copy(update={"trace": TraceSpec(path=path)})}),
            VIEW,
            MACHINE,
        )
        for path in ("/home/a/day.jsonl", "traces/day.jsonl")
    ]
    assert parts[0] == parts[1]
    assert parts[0]["workload.trace.path"] == "day.jsonl"


def test_the_local_model_counts_as_it_was_made() -> None:
    views = [
        StackView(
            name="local", provisioned=True, engines=VIEW.engines, model="tiny", details={"geometry": {"heads": n}}
        )
        for n in (2, 4)
    ]
    here, there = (parts_of(plan(), view, MACHINE) for view in views)
    assert differences(here, there) == ("model.heads 2 here, 4 there",)


def test_every_kind_of_use_in_a_scenario_counts() -> None:
    here = parts_of(plan(workload="kb-qa"), VIEW, MACHINE)
    there = {**here, "workload.traffic.0.reuse": 0.1}
    assert differences(here, there) == (f"workload.traffic.0.reuse {here['workload.traffic.0.reuse']} here, 0.1 there",)


VALUES = st.one_of(st.none(), st.integers(), st.booleans(), st.floats(allow_nan=False), st.text())
PARTS = st.dictionaries(st.sampled_from("abc"), VALUES)


@given(PARTS, PARTS)
def test_two_fingerprints_are_one_exactly_when_no_part_differs(here: dict[str, Any], there: dict[str, Any]) -> None:
    assert (differences(here, there) == ()) == (fingerprint_of(here) == fingerprint_of(there))


@given(st.dictionaries(st.text(), VALUES))
def test_parts_differ_from_themselves_in_nothing_whatever_their_order_and_wherever_they_were_kept(
    parts: dict[str, Any],
) -> None:
    turned = json.loads(json.dumps(dict(reversed(parts.items()))))
    assert differences(parts, turned) == ()
    assert fingerprint_of(parts) == fingerprint_of(turned)


def test_a_quick_run_is_compared_with_none_that_was_judged() -> None:
    assert fingerprint(plan(quick=True)) != fingerprint(plan())
