"""A gate that was planned has to be on record: made, or not applicable for a reason that still holds."""

from __future__ import annotations

import pytest

from pytest_mooncake.analysis.claims.gates import ENDED_BY_FAULT, NO_ANSWERS, NO_LONGER, NO_STATUS, gates_of, unmade
from pytest_mooncake.plan.gates import planned_gates
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import CORRECTNESS, Gate, GateStatus, ProbeAnswer, ProbeRole, RunNotes
from tests.support import runs

ANSWER = ProbeAnswer(case="document", role=ProbeRole.COLD, engine=0, prompt_tokens=1)
MADE, NOT_APPLICABLE, NOT_MADE = GateStatus


def the_gate(
    plan: Plan, run_notes: RunNotes = RunNotes(), *, product_fault: bool = False, decided: bool = True  # noqa: B008
) -> Gate:  # fmt: skip
    (found,) = gates_of(plan, run_notes, runs.rounds(), product_fault=product_fault, decided=decided)
    return found


@pytest.fixture
def plan() -> Plan:
    bare = runs.plan()
    return bare.model_copy(update={"gates": planned_gates(bare)})


def recorded(status: GateStatus, reason: str = "", *, answers: int = 1) -> RunNotes:
    return RunNotes(gates=(Gate(id=CORRECTNESS, status=status, reason=reason),), probes=(ANSWER,) * answers)


def test_a_gate_on_record_is_what_the_record_says(plan: Plan) -> None:
    assert the_gate(plan, recorded(MADE)).status is MADE
    text = recorded(NOT_APPLICABLE, "prompts were sent as text", answers=0)
    assert the_gate(plan, text) == text.gates[0]
    assert the_gate(plan, recorded(NOT_MADE, "no engine answered")).reason == "no engine answered"


@pytest.mark.parametrize("decided", [True, False])
def test_a_planned_gate_that_is_not_on_record_was_not_made_even_where_its_answers_are(
    plan: Plan, decided: bool
) -> None:
    assert the_gate(plan, decided=decided).status is NOT_MADE
    assert the_gate(plan, RunNotes(probes=(ANSWER,)), decided=decided).status is NOT_MADE


def test_a_gate_whose_answers_are_gone_was_not_made(plan: Plan) -> None:
    found = the_gate(plan, recorded(MADE, answers=0))
    assert (found.status, found.reason) == (NOT_MADE, NO_ANSWERS)


def test_a_product_fault_makes_the_gate_superfluous_only_while_it_is_one(plan: Plan) -> None:
    ended = recorded(NOT_APPLICABLE, ENDED_BY_FAULT, answers=0)
    assert the_gate(plan, ended, product_fault=True).status is NOT_APPLICABLE
    assert the_gate(plan, product_fault=True) == ended.gates[0]
    by_weaker_targets = the_gate(plan, ended)
    assert (by_weaker_targets.status, by_weaker_targets.reason) == (NOT_MADE, NO_LONGER)


def test_of_records_without_a_status_answers_count_as_made() -> None:
    old = runs.plan()
    assert old.gates is None
    assert the_gate(old, RunNotes(probes=(ANSWER,))).status is MADE


@pytest.mark.parametrize(
    ("changes", "product_fault", "decided", "status"),
    [
        ({}, False, True, NOT_MADE),
        ({"api": "chat"}, False, True, NOT_APPLICABLE),
        ({}, True, True, NOT_APPLICABLE),
        ({}, True, False, NOT_MADE),
    ],
)
def test_of_records_without_a_status_a_gate_without_answers_needs_a_reason(
    changes: dict[str, object], product_fault: bool, decided: bool, status: GateStatus
) -> None:
    found = the_gate(runs.plan(**changes), product_fault=product_fault, decided=decided)
    assert (found.status, found.reason) == (status, NO_STATUS)


def test_only_what_was_not_made_is_complained_of() -> None:
    gates = [Gate(id=f"{status}_one", status=status, reason="why") for status in GateStatus]
    assert unmade(gates) == ("the not made one gate was planned and not made: why",)
