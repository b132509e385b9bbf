"""A record read back: what stands of it, and every place at which it is not as it was written.

A torn last line of a run that was killed is no damage: the run is unfinished. Anything else that was altered, lost,
repeated or moved is said in `Recorded.damage`, and no verdict but INVALID rests on such a record. Of a damaged round
nothing is used: figures of a part of its requests would be none of the round's.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from pytest_mooncake.errors import JournalError
from pytest_mooncake.journal.lines import MOST_BYTES, Lines, first_line, is_checked, number_of, seed_of, unreadable
from pytest_mooncake.journal.values import (
    Unreadable,
    crash_of,
    event_of,
    gate_of,
    incomplete,
    is_bounded,
    numbers_of,
    probes_of,
    request_of,
    round_of,
    sentences_of,
    text_or_none,
    view_of,
)
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import (
    CRASHED,
    DECIDED,
    FAILED,
    INTERRUPTED,
    JOURNAL_SCHEMA,
    KILLED,
    TIME_LIMIT,
    Crash,
    Phase,
    RequestRecord,
    Round,
    RunNotes,
    StackView,
)

__all__ = [
    "CRASHED",
    "DECIDED",
    "FAILED",
    "INTERRUPTED",
    "KILLED",
    "TIME_LIMIT",
    "Head",
    "Recorded",
    "goes_on",
    "head_of",
    "opened_of",
    "read",
]

PLAN_FILE = "plan.json"
EVENTS_FILE = "events.jsonl"
REQUESTS_FILE = "requests.jsonl"
OPENED, RUN_END, CLOSED, HISTORY = "journal", "run_end", "closed", "history"
"""Events of the record itself: its first, the end of the run, the end of what was measured beside it, and what the
history said of it."""
BEFORE = "requests_before"
"""Key of every event: how many requests had been written before it."""
CRASH = "internal_error"
"""The event that holds an error of this package itself."""
READABLE = ("pytest-mooncake/journal/1", JOURNAL_SCHEMA)
_BESIDE = (Phase.COLD_TAX, Phase.VERSUS)
_BESIDE_EVENTS = {"cold_tax": "cold_tax", "versus_end": "versus"}
"""The events that say why a part beside the run was not measured to its end, and what that part is called."""
_ERRORS = ("bias_ms", "itl_bias_ms", "error_p99_ms")

T = TypeVar("T")
Events = Sequence[tuple[int, dict[str, Any]]]
"""Events with the numbers of their lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run as read back. `complete` is False when it was interrupted before it was decided."""

    directory: Path
    plan: Plan
    view: StackView | None
    rounds: tuple[Round, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    end: str | None = None
    run_notes: RunNotes = field(default_factory=RunNotes)
    orphans: tuple[RequestRecord, ...] = ()
    """Requests of a round that was never finished, or of which some are lost."""
    without_connector: tuple[Round, ...] = ()
    """Cold rounds on an engine without a connector, beside the run; the first one is left out."""
    versus: tuple[Round, ...] = ()
    """Rounds of the endpoint of the run and the one it replaces, in turns; the first visit is left out."""
    versus_end: str | None = None
    """Why these ended although they were to go on; `None` where they were measured to their end, or none were asked."""
    crash: Crash | None = None
    """The error of this package itself that ended the measurement."""
    history: Mapping[str, Any] | None = None
    """What the history said of the run after it: `release` and the comparable `runs`, as they were written."""

    @property
    def complete(self) -> bool:
        """Whether the run ended by itself."""
        return self.end == DECIDED

    @property
    def unfinished(self) -> str | None:
        """How a run ended that was not decided; `None` of a complete one."""
        return None if self.complete else self.end or KILLED

    @property
    def damage(self) -> tuple[str, ...]:
        """Sentences, file and line first: where the record is not as it was written."""
        return self.run_notes.damage


def read(directory: Path) -> Recorded:
    """Read a run back from its journal.

    Raises:
        JournalError: no run there, one of another version, or a file is missing; or so much is damaged that nothing
            is left to judge.
    """
    recorded = _Reading(directory, head_of(directory)).recorded()
    if recorded.damage and (recorded.view is None or not recorded.rounds):
        first = recorded.damage[0]
        raise JournalError(f"{directory}: the record is damaged, nothing of it can be judged (first: {first})")
    return recorded


def goes_on(plan: Plan) -> bool:
    """Whether something is measured beside the run once it has ended; the record then has an end of its own."""
    return plan.cold_tax or plan.versus is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known of a record before its lines are read. Without `run_id`, they bear no checksums."""

    plan: Plan
    run_id: str | None
    damage: tuple[str, ...] = ()

    def lines(self, path: Path) -> Lines:
        """The lines of one of its files."""
        return Lines(path, None if self.run_id is None else seed_of(self.run_id, path.name))


def head_of(directory: Path) -> Head:
    """The plan of a recorded run, and by what its lines are known to be its own.

    Raises:
        JournalError: there is none that this version can read.
    """
    path, events = directory / PLAN_FILE, directory / EVENTS_FILE
    stored = _stored(path)
    opened = opened_of(events)
    if opened is None:
        schema, plan = _parsed(path, stored)
        has_checksums = schema == JOURNAL_SCHEMA or is_checked(events) or is_checked(directory / REQUESTS_FILE)
        return Head(plan=plan, run_id=plan.run_id if has_checksums else None)
    plan = _plan(events, opened)
    if hashlib.sha256(stored).hexdigest() == opened.get("plan_sha256"):
        return Head(plan=plan, run_id=opened["run"])
    said = f"{PLAN_FILE}: not as it was written; what is judged is the plan that {EVENTS_FILE} begins with"
    return Head(plan=plan, run_id=opened["run"], damage=(said,))


def _stored(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise JournalError(f"{path.parent} holds no run: {path.name} is missing; name a directory that a run wrote")
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise unreadable(path, error) from None


def opened_of(path: Path) -> dict[str, Any] | None:
    """The first event, where it is as it was written: it holds the plan again, and what `plan.json` was."""
    try:
        line = first_line(path)
        event = event_of(line)
    except (JournalError, Unreadable):
        return None  # what is wrong with it is said when all lines are read
    run_id = event.get("run")
    known = isinstance(run_id, str) and event["event"] == OPENED
    return event if known and number_of(line, seed_of(str(run_id), path.name)) == 1 else None


def _parsed(path: Path, stored: bytes) -> tuple[str, Plan]:
    """Schema and plan of `plan.json`."""
    try:
        values = orjson.loads(stored)
        return str(values["schema"]), _plan(path, values)
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{path}: not a plan this version can read ({_first_line(error)})") from None


def _plan(path: Path, values: Mapping[str, Any]) -> Plan:
    schema = values.get("schema")
    if schema not in READABLE:
        raise JournalError(f"{path}: schema {str(schema)[:80]!r}, this version reads {' and '.join(READABLE)}")
    try:
        return Plan.model_validate(values.get("plan"))
    except ValueError as error:
        raise JournalError(f"{path}: not a plan this version can read ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


class _Reading:
    """The reading of one record."""

    def __init__(self, directory: Path, head: Head) -> None:
        self._directory = directory
        self._head = head
        self._events = head.lines(directory / EVENTS_FILE)
        self._requests = head.lines(directory / REQUESTS_FILE)
        self._is_checked = head.run_id is not None
        self._damage: list[str] = []

    def recorded(self) -> Recorded:
        requests = self._of_rounds()
        events = tuple(self._all_events())
        rounds = self._rounds(events, requests)
        end = self._end(events)
        self._check_ends(events, end)
        if not self._is_checked:
            self._damage += _repeated(events)
            self._damage += _gaps(rounds, requests, decided=end == DECIDED)
        chain = self._with_worst_error([r for r in rounds if r.phase not in _BESIDE], events)
        view, run_notes = self._view(events), self._run_notes(events)
        return Recorded(
            directory=self._directory,
            plan=self._head.plan,
            view=view,
            rounds=chain,
            without_connector=tuple(r for r in rounds if r.phase is Phase.COLD_TAX and r.position > 0),
            versus=tuple(r for r in rounds if r.phase is Phase.VERSUS and r.position > 0),
            versus_end=_versus_end(self._head.plan, events),
            environment=self._environment(events),
            run_notes=replace(run_notes, damage=self._told()),
            end=end,
            crash=next((crash for _, crash in self._each(events, CRASH, crash_of)), None),
            history=next((e for _, e in reversed(events) if e["event"] == HISTORY), None),
            orphans=tuple(r for left in requests.values() for r in left),
        )

    def _told(self) -> tuple[str, ...]:
        return (*self._head.damage, *self._events.damage, *self._requests.damage, *self._damage)

    def _of_rounds(self) -> dict[int, list[RequestRecord]]:
        found: dict[int, list[RequestRecord]] = defaultdict(list)
        for record in _whole_requests(self._requests, is_checked=self._is_checked):
            found[record.round].append(record)
        return found

    def _all_events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in self._events:
            try:
                yield number, event_of(line)
            except Unreadable as error:
                self._events.broken(number, str(error))

    def _each(self, events: Events, name: str, make: Callable[[dict[str, Any]], T]) -> Iterator[tuple[int, T]]:
        """What the events of a name come to; one that this version cannot read is damage."""
        for number, event in events:
            if event["event"] == name:
                try:
                    made = make(event)
                except Unreadable as error:
                    self._events.broken(number, f"its event {name!r} cannot be read ({error})")
                else:
                    yield number, made

    def _rounds(self, events: Events, requests: dict[int, list[RequestRecord]]) -> tuple[Round, ...]:
        """All rounds whose requests are all there; those are taken out of `requests`."""
        found: dict[int, Round] = {}
        for number, (measured, written) in self._each(
            events, "round", lambda e: (round_of(e, requests.get(_number(e), ())), e.get("requests"))
        ):
            if measured.round in found:
                self._events.broken(number, f"round {measured.round} is on record twice")
            elif why := incomplete(measured, written):
                self._damage.append(f"{REQUESTS_FILE}: round {measured.round}: {why}; the round is left out")
            else:
                found[measured.round] = measured
                requests.pop(measured.round, None)
        return tuple(found.values())

    def _end(self, events: Events) -> str | None:
        """How the run ended; `None` where it was killed, also while something was measured beside it."""
        reasons = [reason for _, reason in self._each(events, RUN_END, lambda e: sentences_of([e.get("reason")])[0])]
        if not reasons:
            return None
        is_closed = any(event["event"] == CLOSED for _, event in events)
        is_cut = self._is_checked and goes_on(self._head.plan) and not is_closed
        return None if reasons[-1] == DECIDED and is_cut else reasons[-1]

    def _check_ends(self, events: Events, end: str | None) -> None:
        """Lines that were cut off at the end of a file, or stand behind the end of the record."""
        counts = [event[BEFORE] for _, event in events if isinstance(event.get(BEFORE), int)]
        if self._is_checked and counts and self._requests.last < counts[-1]:
            self._requests.missing(counts[-1])
        elif self._is_checked and counts and end == DECIDED and self._requests.last > counts[-1]:
            self._requests.broken(counts[-1] + 1, "behind the end of the record")
        for lines in (self._events, self._requests) if end is not None else ():
            if lines.is_torn:
                lines.broken(lines.last + 1, "torn")

    def _with_worst_error(self, rounds: Sequence[Round], events: Events) -> tuple[Round, ...]:
        """Every round of the chain with the worst error of all calibrations, the one after the chain included."""
        known = [pair for pair in events if not pair[1].get("error")]
        found = [each for _, each in self._each(known, "calibration", lambda e: numbers_of(e, _ERRORS))]
        if not found:
            return tuple(rounds)
        worst: dict[str, Any] = {name: max((each[name] for each in found), key=abs) for name in _ERRORS}
        return tuple(
            replace(one, client=replace(one.client, **worst)) if one.phase is Phase.CHAIN else one for one in rounds
        )

    def _view(self, events: Events) -> StackView | None:
        return next((view for _, view in self._each(events, "stack", lambda e: view_of(e.get("view")))), None)

    def _environment(self, events: Events) -> Mapping[str, Any]:
        found = (event.get("environment") for _, event in events if event["event"] == "environment")
        return next((values for values in found if isinstance(values, dict)), {})

    def _beside(self, events: Events) -> dict[str, str]:
        """Parts beside the run that were not measured to their end, and why."""
        return {
            part: why
            for name, part in _BESIDE_EVENTS.items()
            for _, why in self._each(events, name, lambda e: text_or_none(e.get("error")))
            if why is not None
        }

    def _run_notes(self, events: Events) -> RunNotes:
        def sentences(name: str, key: str) -> Iterator[str]:
            for _, said in self._each(events, name, lambda e: sentences_of(e.get(key))):
                yield from said

        ends = [failure for _, failure in self._each(events, RUN_END, lambda e: text_or_none(e.get("error")))]
        return RunNotes(
            failure=ends[-1] if ends else None,
            beside=self._beside(events),
            probes=tuple(answer for _, answers in self._each(events, "probes", probes_of) for answer in answers),
            gates=tuple({gate.id: gate for _, gate in self._each(events, "gate", gate_of)}.values()),
            store_notes=tuple(sentences("store_care", "sentences")),
            workload_notes=tuple(dict.fromkeys(sentences("workload", "notes"))),
            client_notes=tuple(dict.fromkeys(sentences("client", "notes"))),
            casualties=tuple(sentences("casualties", "sentences")),
        )


def _versus_end(plan: Plan, events: Events) -> str | None:
    """A record without the last word on its turns is one of a run that was killed before it could write it."""
    if plan.versus is None:
        return None
    told = [event.get("error") for _, event in events if event["event"] == "versus_end"]
    if told:
        return None if told[-1] is None else str(told[-1])
    begun = any(event["event"] == "versus" for _, event in events)
    return "the run was ended in them" if begun else "the run was ended before them"


def _whole_requests(lines: Lines, *, is_checked: bool) -> Iterator[RequestRecord]:
    """The requests that stand; what does not is noted in `lines`."""
    for number, line in lines:
        try:
            record = request_of(line)
        except Unreadable as error:
            lines.broken(number, str(error))
            continue
        if is_checked or is_bounded(record):  # what a checksum fits we wrote ourselves
            yield record
        else:
            lines.broken(number, "a number is out of range")


def _number(event: Mapping[str, Any]) -> int:
    number = event.get("round")
    return number if isinstance(number, int) else -1


def _repeated(events: Events) -> Iterator[str]:
    """What a record without checksums holds twice, though a run says it once: its end and its gates."""
    said = [(event["event"], str(event.get("id"))) for _, event in events if event["event"] in (RUN_END, "gate")]
    for name, _ in sorted({one for one in said if said.count(one) > 1}):
        yield f"{EVENTS_FILE}: its event {name!r} is on record twice"


def _gaps(rounds: Sequence[Round], left: Mapping[int, Sequence[RequestRecord]], *, decided: bool) -> Iterator[str]:
    """What a record without checksums lacks, as far as its rounds tell: they are numbered from 0."""
    held = {one.round for one in rounds}
    lost = sorted(set(range(max(held, default=-1) + 1)) - held - set(left))
    if lost:
        yield f"{EVENTS_FILE}: nothing is on record of round {', '.join(map(str, lost[:5]))}"
    cut = sorted(number for number, requests in left.items() if any(r.phase not in _BESIDE for r in requests))
    if decided and cut:
        yield f"{EVENTS_FILE}: requests of round {', '.join(map(str, cut[:5]))} are on record, the round is not"
