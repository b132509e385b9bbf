"""Cold rounds on an engine without a connector (`--mooncake-cold-tax`): what cold rounds pay for storing their KV.

They are measured after the run, on a stack of their own that differs in nothing but the connector, with prompts that
nobody has seen. The first one is left out, as it is in the run. They are recorded beside the run's rounds and enter
neither its verdict nor its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import Kind, Phase, StackView
from pytest_mooncake.run.instruments import instruments_for
from pytest_mooncake.run.protocol import Observer, Step, measure_round

ROUNDS = 3
"""Rounds that count; with the one left out, four are sent."""


def without_connector(plan: Plan, view: StackView) -> Plan:
    """The same plan for an engine that stores and loads nothing, serving the very model that `view` serves."""
    stack = plan.stack
    heads = view.details.get("heads")
    changes: dict[str, object] = {"connector": stack.connector.model_copy(update={"kind": "none"})}
    if heads is not None:
        changes["model"] = stack.model.model_copy(update={"heads": heads})
    return plan.model_copy(update={"stack": stack.model_copy(update=changes), "keep_stack": False, "steady": False})


async def measure_bare_rounds(
    plan: Plan, view: StackView, environ: Mapping[str, str], observer: Observer, *, first: int
) -> None:
    """Send the rounds; each is handed to the observer. Stops at the first that has a failed request.

    Args:
        plan: of the stack without a connector.
        view: that stack, running.
        environ: where the API key is, by the name that the plan gives.
        observer: keeps the rounds and shows them.
        first: number of the first round, the one after the run's last.
    """
    async with instruments_for(plan, view, environ) as instruments:
        for position in range(ROUNDS + 1):
            step = Step(
                round=first + position,
                kind=Kind.COLD,
                phase=Phase.COLD_TAX,
                segment=0,
                position=position,
                nonce=instruments.nonce(first + position),
            )
            measured = await measure_round(step, instruments, observer, settles=False)
            if any(record.error is not None for record in measured.requests):
                return
