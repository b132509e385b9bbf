"""Two endpoints measured in turns (`--mooncake-versus`): the new one of the run, and the one it replaces.

After the run the endpoints are visited old, new, old, new … old; a visit is a cold and a warm round with a fresh nonce.
The first visit of the old one is left out, as the run's first round is. The rounds are recorded beside the run's and
enter neither its verdict nor its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_mooncake.analysis.regression.versus import NEW, OLD, compare_visits
from pytest_mooncake.errors import StackError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import Kind, Phase, Round, StackView
from pytest_mooncake.run.instruments import instruments_for
from pytest_mooncake.run.protocol import Instruments, Observer, Step, measure_round


def plan_of_old(plan: Plan) -> Plan:
    """The same plan for the old endpoint.

    Raises:
        StackError: the plan names none.
    """
    if plan.versus is None:
        raise StackError("no endpoint to compare with: give --mooncake-versus URL")
    return plan.model_copy(update={"stack": plan.versus})


async def measure_visits(
    plan: Plan, new: StackView, old: StackView, environ: Mapping[str, str], observer: Observer, *, first: int
) -> str | None:
    """Visit both endpoints in turns until every metric is decided, at most for the looks of the plan.

    Args:
        plan: of the run.
        new: the endpoint of the run.
        old: the one of `plan.versus`.
        environ: where the API key is, by the name that the plan gives.
        observer: keeps the rounds and shows them.
        first: number of the first round, the one after the run's last.

    Returns:
        Why it stopped at the first visit that has a failed request; `None` where it was measured to its end.
    """
    looks = (1,) if plan.quick else plan.looks
    rounds: list[Round] = []
    async with (
        instruments_for(plan_of_old(plan), old, environ) as of_old,
        instruments_for(plan, new, environ) as of_new,
    ):
        for position in range(2 * max(looks) + 2):
            segment = NEW if position and position % 2 == 0 else OLD
            instruments = of_new if segment == NEW else of_old
            visited = await _visit(instruments, observer, first + 2 * position, segment, position)
            if failures := [record.error for one in visited for record in one.requests if record.error is not None]:
                return _stopped(segment, position, failures)
            rounds += visited if position else ()
            if _is_over(rounds, looks, position):
                break
    return None


def _stopped(segment: int, position: int, failures: list[str]) -> str:
    whose = "new" if segment == NEW else "old"
    return f"{len(failures)} of the requests of visit {position}, to the {whose} endpoint, failed ({failures[0]})"


async def _visit(instruments: Instruments, observer: Observer, number: int, segment: int, position: int) -> list[Round]:
    """A cold round and the warm one that repeats it."""
    nonce = instruments.nonce(number)
    steps = [
        Step(round=number + n, kind=kind, phase=Phase.VERSUS, segment=segment, position=position, nonce=nonce)
        for n, kind in enumerate((Kind.COLD, Kind.WARM))
    ]
    return [await measure_round(step, instruments, observer) for step in steps]


def _is_over(rounds: list[Round], looks: tuple[int, ...], position: int) -> bool:
    """Whether a look is due, after a visit of the old endpoint, and decides."""
    if position < 3 or position % 2 == 0 or (position - 1) // 2 not in looks:
        return False
    found = compare_visits(rounds, looks)
    return found is not None and found.is_decided
