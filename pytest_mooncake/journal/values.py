"""From the lines of a record back to its values. Whatever a line holds, it is a value or `Unreadable`, never a crash.

Fields that this version does not know are passed over: a later one wrote them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from pytest_mooncake.records import Crash, Gate, ProbeAnswer, RequestRecord, Round, StackView

__all__ = [
    "Unreadable",
    "crash_of",
    "event_of",
    "gate_of",
    "incomplete",
    "is_bounded",
    "numbers_of",
    "probes_of",
    "request_of",
    "round_of",
    "sentences_of",
    "text_or_none",
    "view_of",
]

T = TypeVar("T")
MOST = 2**62
"""No time, count or size of a run is beyond; differences of such numbers still fit 64 bits."""


class Unreadable(ValueError):
    """A line that is JSON, but not what a run of this version writes; the message says what is wrong, briefly."""


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("Any", kind))


def _made(kind: type[T], values: object) -> T:
    """A value of the given kind.

    Raises:
        Unreadable: it is none.
    """
    try:
        made: T = _adapter(cast("Hashable", kind)).validate_python(values)
    except (ValidationError, RecursionError) as error:
        raise Unreadable(_brief(error)) from None
    return made


def _brief(error: ValidationError | RecursionError) -> str:
    """The first thing that is wrong, without what was found there: that may be anything."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"][:4])
    return f"{where}: {first['type']}" if where else first["type"]


def event_of(line: bytes) -> dict[str, Any]:
    """One line of the events.

    Raises:
        Unreadable: it is not JSON, or no event.
    """
    try:
        event = orjson.loads(line)
    except ValueError as error:
        raise Unreadable(f"not JSON ({error})") from None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise Unreadable("not an event")
    return event


def request_of(line: bytes) -> RequestRecord:
    """One line of the requests.

    Raises:
        Unreadable: it is no request.
    """
    try:
        record: RequestRecord = _adapter(RequestRecord).validate_json(line)
    except ValidationError as error:
        raise Unreadable(_brief(error)) from None
    if record.chunk_tokens and len(record.chunk_ns) != len(record.chunk_tokens):  # none: nobody tells how they lie
        raise Unreadable("chunk_tokens: not one a chunk")
    return record


def is_bounded(record: RequestRecord) -> bool:
    """Whether every number of a request fits the columns that figures are made of; those that we wrote do."""
    values = (getattr(record, name) for name in RequestRecord.__slots__)
    numbers = [value for value in values if isinstance(value, int)]
    return all(-MOST < number < MOST for number in (*numbers, *record.chunk_ns, *record.chunk_tokens))


def round_of(event: Mapping[str, Any], requests: Sequence[RequestRecord]) -> Round:
    """A round out of its event and its requests.

    Raises:
        Unreadable: the event is not that of a round.
    """
    values = {**event, "requests": (), **{side: _scrapes(event.get(side)) for side in ("before", "after")}}
    made = _made(Round, {name: value for name, value in values.items() if value is not None or name not in _OPTIONAL})
    if any(abs(number) > MOST for number in (made.round, made.segment, made.position, made.started_ns, made.ended_ns)):
        raise Unreadable("a number is out of range")
    held = tuple(sorted(requests, key=lambda r: r.index))
    return Round(**{name: getattr(made, name) for name in Round.__slots__ if name != "requests"}, requests=held)


_OPTIONAL = frozenset({"before", "after", "client"})


def _scrapes(values: object) -> object:
    """Scrapes without the samples that were no finite numbers, which JSON cannot hold and we wrote as null."""
    if not isinstance(values, list):
        return values
    return [_scrape(one) for one in values]


def _scrape(values: object) -> object:
    if not isinstance(values, dict) or not isinstance(values.get("samples"), dict):
        return values
    return {**values, "samples": {name: number for name, number in values["samples"].items() if number is not None}}


def incomplete(measured: Round, written: object) -> str | None:
    """What speaks against the requests of a round being those that were sent; `None` where nothing does.

    Args:
        measured: the round with the requests that were found.
        written: how many there were, as its event says; records of the first versions do not say.
    """
    indexes = [request.index for request in measured.requests]
    if len(set(indexes)) < len(indexes):
        return "one of its requests is on record twice"
    if isinstance(written, int):
        return None if written == len(indexes) else f"{len(indexes)} of its {written} requests are on record"
    if any((r.kind, r.phase) != (measured.kind, measured.phase) for r in measured.requests):
        return "requests of another kind of round are on record as its own"
    planned = measured.planned.requests if measured.planned else len(indexes)
    if measured.cut_short is None and indexes != list(range(planned)):
        return f"{len(indexes)} of its requests are on record, not all that were sent"
    return None


def probes_of(event: Mapping[str, Any]) -> tuple[ProbeAnswer, ...]:
    """Answers of the correctness gate.

    Raises:
        Unreadable: one is none.
    """
    return _made(tuple[ProbeAnswer, ...], event.get("answers"))


def sentences_of(values: object) -> tuple[str, ...]:
    """Sentences.

    Raises:
        Unreadable: one is none.
    """
    return _made(tuple[str, ...], values)


def numbers_of(event: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """Numbers of an event by their names.

    Raises:
        Unreadable: one is none.
    """
    return _made(dict[str, float], {name: event.get(name) for name in names})


def text_or_none(value: object) -> str | None:
    """A text that may be missing.

    Raises:
        Unreadable: it is something else.
    """
    return None if value is None else _made(str, value)


def crash_of(event: Mapping[str, Any]) -> Crash:
    """An error of this package itself.

    Raises:
        Unreadable: the event does not hold one.
    """
    return _made(Crash, event)


def gate_of(event: Mapping[str, Any]) -> Gate:
    """What became of a gate.

    Raises:
        Unreadable: the event does not say so.
    """
    return _made(Gate, event)


def view_of(values: object) -> StackView:
    """A stack as it was written with `orjson.dumps` or `dataclasses.asdict`.

    Raises:
        Unreadable: it is none.
    """
    return _made(StackView, values)
