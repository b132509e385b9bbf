"""What became of the gates that a run's plan holds, and what keeps a run without them from a PASS."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mooncake.plan.gates import planned_gates
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import CORRECTNESS, Gate, GateStatus, Round, RunNotes

__all__ = ["ENDED_BY_FAULT", "gates_of", "unmade"]

ENDED_BY_FAULT = "a product fault ended the run before it"
"""Why a gate does not apply to a run that is a FAIL already."""
NO_STATUS = "recorded by a version that kept no gate status"
ENDED_BEFORE = "the run ended before it"
NOT_ON_RECORD = "it is not on record"
NO_ANSWERS = "its answers are not on record"
NO_LONGER = "what ended the run before it is no product fault by these targets"


def gates_of(
    plan: Plan, run_notes: RunNotes, rounds: Sequence[Round], *, product_fault: bool, decided: bool
) -> tuple[Gate, ...]:
    """Every planned gate of a run that is over, with what became of it.

    Args:
        plan: what was run.
        run_notes: what is on record beside the rounds.
        rounds: of the run.
        product_fault: whether the run is judged to show one.
        decided: whether the record says that the run ended by itself.
    """
    known = {gate.id: gate for gate in run_notes.gates}
    planned = planned_gates(plan) if plan.gates is None else plan.gates
    gates = []
    for name in dict.fromkeys((*planned, *known)):
        if name in known:
            gates.append(_checked(known[name], run_notes, product_fault=product_fault))
        elif plan.gates is None:
            gates.append(_of_old(name, plan, run_notes, rounds, product_fault and decided))
        elif product_fault:
            gates.append(Gate(id=name, status=GateStatus.NOT_APPLICABLE, reason=ENDED_BY_FAULT))
        else:
            gates.append(_not_made(name, NOT_ON_RECORD if decided else ENDED_BEFORE))
    return tuple(gates)


def _checked(found: Gate, run_notes: RunNotes, *, product_fault: bool) -> Gate:
    """A gate as it is on record, unless the rest of the record contradicts it."""
    if found.id == CORRECTNESS and found.status is GateStatus.MADE and not run_notes.probes:
        return _not_made(found.id, NO_ANSWERS)
    if found.reason == ENDED_BY_FAULT and not product_fault:
        return _not_made(found.id, NO_LONGER)
    return found


def _of_old(gate: str, plan: Plan, run_notes: RunNotes, rounds: Sequence[Round], ended_by_fault: bool) -> Gate:
    """A gate of a run that was recorded before gates had a status: its answers tell, or why there can be none."""
    if run_notes.probes:
        return Gate(id=gate, status=GateStatus.MADE)
    if ended_by_fault or _sent_text(plan, rounds):
        return Gate(id=gate, status=GateStatus.NOT_APPLICABLE, reason=NO_STATUS)
    return _not_made(gate, NO_STATUS)


def _sent_text(plan: Plan, rounds: Sequence[Round]) -> bool:
    """Whether prompts were text, for which the gate could not be made: their tokens were not counted beforehand."""
    return plan.api == "chat" or any(r.prompt_tokens_planned is None for one in rounds for r in one.requests)


def _not_made(gate: str, reason: str) -> Gate:
    return Gate(id=gate, status=GateStatus.NOT_MADE, reason=reason)


def unmade(gates: Sequence[Gate]) -> tuple[str, ...]:
    """A sentence for every gate that was planned and not made."""
    return tuple(
        f"the {gate.id.replace('_', ' ')} gate was planned and not made: {gate.reason}"
        for gate in gates
        if gate.status is GateStatus.NOT_MADE
    )
