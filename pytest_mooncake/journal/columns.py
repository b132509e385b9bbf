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

import orjson

from pytest_mooncake.analysis.figures.columns import Columns, columns_of_mappings
from pytest_mooncake.analysis.statistics.observed import Observed, observe_columns
from pytest_mooncake.errors import JournalError
from pytest_mooncake.journal import EVENTS_FILE, REQUESTS_FILE
from pytest_mooncake.journal.lines import Lines, seed_of
from pytest_mooncake.journal.reading import opened_of
from pytest_mooncake.journal.values import Unreadable, event_of
from pytest_mooncake.records import Kind, Phase

if TYPE_CHECKING:
    from pytest_mooncake.plan.targets.slo import Limit

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
        JournalError: the record is incomplete, or a line of it is not as it was written: figures say nothing of damage.
    """
    opened = opened_of(directory / EVENTS_FILE)
    events, requests = (_lines(directory / name, opened) for name in (EVENTS_FILE, REQUESTS_FILE))
    finished = {head["round"]: head for head in _heads(events)}
    seen: set[int] = set()
    for number, lines in groupby(_values(requests), key=itemgetter("round")):
        if number in seen:
            raise JournalError(f"{requests.path}: requests of round {number} do not stand together")
        seen.add(number)
        if number in finished:
            head = dict(finished[number])
            written = head.pop("requests")
            columns = _columns(lines, requests.path, number)
            if written is not None and len(columns) != written:
                raise JournalError(f"{requests.path}: {len(columns)} of the {written} requests of round {number}")
            yield RoundColumns(columns=columns, **head)


def _lines(path: Path, opened: Mapping[str, Any] | None) -> Lines:
    return Lines(path, None if opened is None else seed_of(opened["run"], path.name))


def _heads(events: Lines) -> Iterator[dict[str, Any]]:
    """What the events say of every finished round."""
    for number, line in events:
        try:
            event = event_of(line)
            if event["event"] == "round":
                yield _head(event)
        except (Unreadable, KeyError, ValueError) as error:
            raise JournalError(f"{events.path}:{number}: not a round ({error})") from None
    _refuse(events)


def _values(requests: Lines) -> Iterator[dict[str, Any]]:
    """The requests as mappings."""
    for number, line in requests:
        _refuse(requests)
        try:
            values = orjson.loads(line)
        except ValueError as error:
            raise JournalError(f"{requests.path}:{number}: not a JSON line ({error})") from None
        if not isinstance(values, dict) or not isinstance(values.get("round"), int):
            raise JournalError(f"{requests.path}:{number}: not a request")
        yield values
    _refuse(requests)


def _refuse(lines: Lines) -> None:
    if lines.is_damaged:
        raise JournalError(f"{lines.path.parent}: the record is damaged: {lines.damage[0]}")


def _columns(lines: Iterator[dict[str, Any]], path: Path, number: int) -> Columns:
    try:
        return columns_of_mappings(lines)
    except (KeyError, TypeError, OverflowError, ValueError) as error:
        raise JournalError(f"{path}: requests of round {number} cannot be read ({type(error).__name__})") from None


def _head(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "round": event["round"],
        "kind": Kind(event["kind"]),
        "phase": Phase(event["phase"]),
        "segment": event["segment"],
        "position": event["position"],
        "requests": event.get("requests"),
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
