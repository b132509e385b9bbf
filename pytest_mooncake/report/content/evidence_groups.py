"""Checks of evidence grouped over rounds, so that ten rounds do not make a hundred lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mooncake.records import Evidence, Rung, Status

STRENGTH = tuple(Rung)
"""Strongest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All rounds' outcomes of one check. `shown` is the worst of them, the last where all agree."""

    id: str
    held: int
    broken: int
    unavailable: int
    shown: Evidence

    @property
    def status(self) -> Status:
        """Broken if any round is, else held if any round could be checked."""
        if self.broken:
            return Status.BROKEN
        return Status.HELD if self.held else Status.UNAVAILABLE


def groups(evidence: Sequence[Evidence]) -> tuple[Group, ...]:
    """One group for each check, in order of first appearance."""
    return tuple(_group(check, evidence) for check in dict.fromkeys(e.id for e in evidence))


def count(evidence: Sequence[Evidence], status: Status) -> int:
    """How many checks came out as `status`."""
    return sum(e.status is status for e in evidence)


def strongest(evidence: Sequence[Evidence]) -> Rung | None:
    """The strongest rung that any held check rests on."""
    held = {e.rung for e in evidence if e.status is Status.HELD}
    return next((rung for rung in STRENGTH if rung in held), None)


def _group(check: str, evidence: Sequence[Evidence]) -> Group:
    mine = [e for e in evidence if e.id == check]
    worst = next((e for e in mine if e.status is Status.BROKEN), None)
    known = [e for e in mine if e.status is not Status.UNAVAILABLE]
    return Group(
        id=check,
        held=count(mine, Status.HELD),
        broken=count(mine, Status.BROKEN),
        unavailable=count(mine, Status.UNAVAILABLE),
        shown=worst or (known or mine)[-1],
    )
