"""Which gates a plan holds: checks of the whole run that its PASS rests on, beside the claims about its rounds."""

from __future__ import annotations

from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import CORRECTNESS

__all__ = ["planned_gates"]


def planned_gates(_plan: Plan) -> tuple[str, ...]:
    """Ids of the gates that a run of this plan has to have on record before it can pass; a new gate is added here.

    Whether one applies to the stack at hand is known only when it is to be made: such a gate is on record as not
    applicable, with its reason.
    """
    return (CORRECTNESS,)
