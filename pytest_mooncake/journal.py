"""The journal: the only thing written while measuring, and all that judging and reporting read.

A run's directory holds `plan.json` (the plan as it was run), `events.jsonl` (rounds, scrapes, settle times, stack
events) and `requests.jsonl` (one request record a line). Both `.jsonl` files are append-only and handed to the
operating system line by line, so that a killed run keeps every finished request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

import orjson

from pytest_mooncake.errors import JournalError, UsageError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import (
    JOURNAL_SCHEMA,
    Aftermath,
    ClientHealth,
    Crash,
    Engine,
    Gate,
    GateStatus,
    Kind,
    KVGeometry,
    Phase,
    PlannedReuse,
    ProbeAnswer,
    ProbeRole,
    RequestRecord,
    Round,
    Scrape,
    Settle,
    StackView,
    Store,
)

PLAN_FILE = "plan.json"
EVENTS_FILE = "events.jsonl"
REQUESTS_FILE = "requests.jsonl"
DECIDED = "decided"
TIME_LIMIT = "run time limit reached"
INTERRUPTED = "interrupted"
FAILED = "failed"
CRASHED = "internal error"
KILLED = "killed"
"""How a run ended: by itself, when its time was over, by the user, by an error of its stack or of this package itself;
and what is said of a record that has no end."""
_BESIDE = (Phase.COLD_TAX, Phase.VERSUS)
_BESIDE_EVENTS = {"cold_tax": "cold_tax", "versus_end": "versus"}
"""The events that say why a part beside the run was not measured to its end, and what that part is called."""


def refuse_used(directory: Path) -> None:
    """Refuse a directory that holds a run: a record is never written over.

    Raises:
        UsageError: it does.
    """
    if (directory / PLAN_FILE).exists():
        raise UsageError(
            f"{directory} already holds a run: give --mooncake-report another directory, "
            "or --mooncake-replay it to judge it again"
        )


HISTORY = "history"
"""The event that holds what the history said of a run."""
CRASH = "internal_error"
"""The event that holds an error of this package itself."""


class Journal:
    """Append-only writer of one run. Use as a context manager; not safe for several threads at once.

    Raises:
        UsageError: the directory already holds a run.
    """

    def __init__(self, directory: Path, plan: Plan) -> None:
        refuse_used(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        (directory / PLAN_FILE).write_bytes(
            orjson.dumps({"schema": JOURNAL_SCHEMA, "plan": plan.model_dump(mode="json")}, option=orjson.OPT_INDENT_2)
            + b"\n"
        )
        self._events = self._open(EVENTS_FILE)
        self._requests = self._open(REQUESTS_FILE)

    def _open(self, name: str) -> IO[bytes]:
        return (self.directory / name).open("ab", buffering=0)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self._requests.close()

    def event(self, name: str, **values: object) -> None:
        """Append one event; `values` are anything orjson can write, dataclasses included."""
        self._events.write(orjson.dumps({"event": name, **values}) + b"\n")

    def request(self, record: RequestRecord) -> None:
        """Append one request record."""
        self._requests.write(orjson.dumps(record) + b"\n")

    def round(self, measured: Round) -> None:
        """Append what is known of a round beside its requests, which were appended one by one."""
        values = {f.name: getattr(measured, f.name) for f in fields(measured) if f.name != "requests"}
        self.event("round", **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run as read back. `complete` is False when it was interrupted before it was decided."""

    directory: Path
    plan: Plan
    view: StackView | None
    rounds: tuple[Round, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    end: str | None = None
    aftermath: Aftermath = field(default_factory=Aftermath)
    orphans: tuple[RequestRecord, ...] = ()
    """Requests of a round that was never finished."""
    without_connector: tuple[Round, ...] = ()
    """Cold rounds on an engine without a connector, beside the run; the first one is left out."""
    versus: tuple[Round, ...] = ()
    """Rounds of the endpoint of the run and the one it replaces, in turns; the first visit is left out."""
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


def append_event(directory: Path, name: str, **values: object) -> None:
    """Append an event to the record of a run that is over: what became known of it afterwards."""
    with (directory / EVENTS_FILE).open("ab", buffering=0) as events:
        events.write(orjson.dumps({"event": name, **values}) + b"\n")


def read(directory: Path) -> Recorded:
    """Read a run back from its journal.

    Raises:
        JournalError: no run there, or a line that cannot be read (a torn last line is ignored: the run was killed).
    """
    plan = _read_plan(directory / PLAN_FILE)
    requests: dict[int, list[RequestRecord]] = defaultdict(list)
    for line in json_lines(directory / REQUESTS_FILE):
        record = _request(line)
        requests[record.round].append(record)
    events = tuple(json_lines(directory / EVENTS_FILE))
    rounds = tuple(_round(e, requests.pop(e["round"], [])) for e in events if e["event"] == "round")
    return Recorded(
        directory=directory,
        plan=plan,
        view=next((view_of(e["view"]) for e in events if e["event"] == "stack"), None),
        rounds=_with_worst_error([r for r in rounds if r.phase not in _BESIDE], events),
        without_connector=tuple(r for r in rounds if r.phase is Phase.COLD_TAX and r.position > 0),
        versus=tuple(r for r in rounds if r.phase is Phase.VERSUS and r.position > 0),
        environment=next((e["environment"] for e in events if e["event"] == "environment"), {}),
        aftermath=_aftermath(events),
        end=next((e["reason"] for e in reversed(events) if e["event"] == "run_end"), None),
        crash=next((Crash(type=e["type"], message=e["message"]) for e in events if e["event"] == CRASH), None),
        history=next((e for e in reversed(events) if e["event"] == HISTORY), None),
        orphans=tuple(r for left in requests.values() for r in left),
    )


def _read_plan(path: Path) -> Plan:
    if not path.is_file():
        raise JournalError(f"{path.parent} holds no run: {path.name} is missing; name a directory that a run wrote")
    try:
        stored = orjson.loads(path.read_bytes())
        schema = stored["schema"]
        if schema != JOURNAL_SCHEMA:
            raise JournalError(f"{path}: schema {schema!r}, this version reads {JOURNAL_SCHEMA!r}")
        return Plan.model_validate(stored["plan"])
    except (ValueError, KeyError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise JournalError(f"{path}: not a plan this version can read ({first})") from error


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of one of the record's `.jsonl` files, one at a time; a torn last line is left out.

    Raises:
        JournalError: the file is missing, or a line is not JSON.
    """
    if not path.is_file():
        raise JournalError(f"{path} is missing: the run's record is incomplete and cannot be judged")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn by a kill; everything before it is whole
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise JournalError(f"{path}:{number}: not a JSON line ({error})") from error


def _request(values: dict[str, Any]) -> RequestRecord:
    values["kind"] = Kind(values["kind"])
    values["phase"] = Phase(values["phase"])
    values["chunk_ns"] = tuple(values["chunk_ns"])
    values["chunk_tokens"] = tuple(values["chunk_tokens"])
    return RequestRecord(**values)


def _round(event: Mapping[str, Any], requests: Sequence[RequestRecord]) -> Round:
    values = {key: value for key, value in event.items() if key != "event"}
    values["kind"] = Kind(values["kind"])
    values["phase"] = Phase(values["phase"])
    values["before"] = tuple(Scrape(**s) for s in values["before"])
    values["after"] = tuple(Scrape(**s) for s in values["after"])
    values["settle"] = Settle(**values["settle"]) if values["settle"] else None
    values["client"] = ClientHealth(**values["client"])
    values["planned"] = PlannedReuse(**values["planned"]) if values.get("planned") else None
    return Round(**values, requests=tuple(sorted(requests, key=lambda r: r.index)))


def _with_worst_error(rounds: Sequence[Round], events: Sequence[Mapping[str, Any]]) -> tuple[Round, ...]:
    """Every round of the chain with the worst error of all calibrations, the one after the chain included."""
    found = [e for e in events if e["event"] == "calibration" and not e.get("error")]
    if not found:
        return tuple(rounds)
    worst = {name: max((e[name] for e in found), key=abs) for name in ("bias_ms", "itl_bias_ms", "error_p99_ms")}
    return tuple(
        replace(one, client=replace(one.client, **worst)) if one.phase is Phase.CHAIN else one for one in rounds
    )


def _aftermath(events: Sequence[Mapping[str, Any]]) -> Aftermath:
    answers = (answer for e in events if e["event"] == "probes" for answer in e["answers"])
    notes = (sentence for e in events if e["event"] == "store_care" for sentence in e["sentences"])
    workload = (note for e in events if e["event"] == "workload" for note in e["notes"])
    client = (note for e in events if e["event"] == "client" for note in e["notes"])
    dead = (sentence for e in events if e["event"] == "casualties" for sentence in e["sentences"])
    return Aftermath(
        probes=tuple(map(_probe, answers)),
        gates=tuple({e["id"]: _gate(e) for e in events if e["event"] == "gate"}.values()),
        failure=next((e.get("error") for e in reversed(events) if e["event"] == "run_end"), None),
        beside={_BESIDE_EVENTS[e["event"]]: e["error"] for e in events if e["event"] in _BESIDE_EVENTS},
        store_notes=tuple(notes),
        workload_notes=tuple(dict.fromkeys(workload)),
        client_notes=tuple(dict.fromkeys(client)),
        casualties=tuple(dead),
    )


def _probe(values: Mapping[str, Any]) -> ProbeAnswer:
    lists = {name: tuple(values[name]) for name in ("tokens", "logprobs", "top")}
    return ProbeAnswer(**{**values, **lists, "role": ProbeRole(values["role"])})


def _gate(event: Mapping[str, Any]) -> Gate:
    return Gate(id=event["id"], status=GateStatus(event["status"]), reason=event["reason"])


def view_of(values: Mapping[str, Any]) -> StackView:
    """A stack as it was written with `orjson.dumps` or `dataclasses.asdict`."""
    store, kv = values["store"], values["kv"]
    rest = {k: v for k, v in values.items() if k not in {"engines", "store", "kv", "notes"}}
    return StackView(
        engines=tuple(Engine(**e) for e in values["engines"]),
        store=Store(**{**store, "node_urls": tuple(store["node_urls"])}) if store else None,
        kv=KVGeometry(**kv) if kv else None,
        notes=tuple(values["notes"]),
        **rest,
    )
