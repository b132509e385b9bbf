"""Whom each observation is blamed on: one catalogue, from which every check takes its fault.

No check names a fault by itself, so that the table in the documentation (`page`) and what is decided cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_mooncake.analysis.evidence.faults.observation import Blame, Observation
from pytest_mooncake.analysis.evidence.faults.rounds import ANY, COLD, WARM
from pytest_mooncake.analysis.evidence.faults.run_level import CLIENT, GATE, RUN
from pytest_mooncake.records import Fault, Status

__all__ = [
    "CLIENT",
    "RUN",
    "SECTIONS",
    "Blame",
    "Observation",
    "Seen",
    "blame_of",
    "blamed_on",
    "fault_of",
    "outcome_of",
]

Seen = tuple[str, str]
"""An observation, by its id in the catalogue, and the sentence that tells it."""

SECTIONS: tuple[tuple[str, tuple[Observation, ...]], ...] = (
    ("In a cold round", COLD),
    ("In a warm round", WARM),
    ("In any round", ANY),
    ("By the correctness gate", GATE),
    ("By the client itself", CLIENT),
    ("Over the whole run", RUN),
)

_CATALOGUE = {one.id: one for _, section in SECTIONS for one in section}
_CHECKS = {one.check: one for one in reversed(_CATALOGUE.values())}


def blame_of(check: str, what: str, *, shared: bool = False) -> Blame:
    """Return whom an observation is blamed on.

    Args:
        check: the check that sees it.
        what: what it sees.
        shared: whether the store was there before, so that others may use it.

    Raises:
        KeyError: the catalogue does not hold it.
    """
    return _CATALOGUE[f"{check}/{what}"].blame(shared=shared)


def fault_of(check: str, *, shared: bool = False) -> Fault:
    """Return the fault that a check stands for where it is held or cannot be made: that of its first observation."""
    return _CHECKS[check].blame(shared=shared).fault


def outcome_of(check: str, what: str | None, *, shared: bool = False) -> tuple[Status, Fault]:
    """Return what becomes of a check that could be made: its status and the fault that it carries.

    Args:
        check: the check.
        what: what it sees, by its name in the catalogue; None where it holds. What cannot be told makes the check
            unavailable, what harms nobody leaves it held.
        shared: whether the store was there before, so that others may use it.
    """
    if what is None:
        return Status.HELD, fault_of(check, shared=shared)
    blame = blame_of(check, what, shared=shared)
    if blame in _NOT_BROKEN:
        return _NOT_BROKEN[blame], fault_of(check, shared=shared)
    return Status.BROKEN, blame.fault


_NOT_BROKEN = {Blame.NONE: Status.HELD, Blame.UNKNOWN: Status.UNAVAILABLE}


def blamed_on(blame: Blame, seen: Iterable[Seen]) -> tuple[str, ...]:
    """Return the sentences of those observations over a whole run that the catalogue blames on somebody.

    >>> blamed_on(Blame.INSTRUMENT, [("audit/broken", "Little's law"), ("run/cut", "it was interrupted")])
    ("Little's law",)
    """
    return tuple(sentence for name, sentence in seen if _CATALOGUE[name].ours is blame)
