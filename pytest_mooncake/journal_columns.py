"""A record read as columns, one round at a time: a run of a million requests in seconds and little memory.

The requests of a round stand together in `requests.jsonl`, in the order in which they finished, so a stream of lines
is cut wherever the round changes and nothing but the round at hand is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.columns import Columns, columns_of_mappings
from pytest_mooncake.analysis.observed import Observed, observe_columns
from pytest_mooncake.errors import JournalError
from pytest_mooncake.journal import EVENTS_FILE, REQUESTS_FILE, json_lines
from pytest_mooncake.records import Kind, Phase

if TYPE_CHECKING:
    from pytest_mooncake.plan.slo import Limit

__all__ = ["RoundColumns", "observed", "rounds_in_columns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundColumns:
    """One finished round: its place in the run and its requests as columns."""

    round: int
    kind: Kind
    phase: Phase
    segment: int
    position: int
    columns: Columns


def rounds_in_columns(directory: Path) -> Iterator[RoundColumns]:
    """Read a recorded run round by round.

    Args:
        directory: of the run.

    Yields:
        Every finished round in the order in which they were sent; requests of a round that was never finished are
        left out.

    Raises:
        JournalError: the record is incomplete or a line cannot be read.
    """
    events = (event for event in json_lines(directory / EVENTS_FILE) if event["event"] == "round")
    finished = {event["round"]: _head(event) for event in events}
    seen: set[int] = set()
    for number, lines in groupby(json_lines(directory / REQUESTS_FILE), key=itemgetter("round")):
        if number in seen:
            raise JournalError(f"{directory / REQUESTS_FILE}: requests of round {number} do not stand together")
        seen.add(number)
        if number in finished:
            yield RoundColumns(columns=columns_of_mappings(lines), **finished[number])


def _head(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "round": event["round"],
        "kind": Kind(event["kind"]),
        "phase": Phase(event["phase"]),
        "segment": event["segment"],
        "position": event["position"],
    }


def observed(directory: Path, limits: Sequence[Limit] = ()) -> tuple[Observed, ...]:
    """The chain rounds of a recorded run as the statistics see them; their requests are not held.

    Args:
        directory: of the run.
        limits: the service level of goodput.
    """
    return tuple(
        observe_columns(
            one.columns,
            number=one.round,
            kind=one.kind,
            segment=one.segment,
            position=one.position,
            limits=limits,
        )
        for one in rounds_in_columns(directory)
        if one.phase is Phase.CHAIN
    )
