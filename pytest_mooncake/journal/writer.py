"""The journal: the only thing written while measuring, and all that judging and reporting read.

A run's directory holds `plan.json` (the plan as it was run), `events.jsonl` (rounds, scrapes, settle times, stack
events) and `requests.jsonl` (one request record a line). Both `.jsonl` files are append-only and handed to the
operating system line by line, so that a killed run keeps every finished request. Their lines are numbered and carry a
checksum (`journal_lines`), every event says how many requests were written before it, and the first event holds the
plan again: what was altered or lost is noticed when the record is read (`journal_reading`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import fields
from pathlib import Path

import orjson

from pytest_mooncake.border.redaction import Redactor
from pytest_mooncake.errors import JournalError, UsageError
from pytest_mooncake.journal.lines import LineFile, append_to, create, line_of, seed_of, unwritable, write_whole
from pytest_mooncake.journal.reading import (
    BEFORE,
    CLOSED,
    EVENTS_FILE,
    OPENED,
    PLAN_FILE,
    REQUESTS_FILE,
    RUN_END,
    goes_on,
    head_of,
)
from pytest_mooncake.journal.values import Unreadable, event_of
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import JOURNAL_SCHEMA, RequestRecord, Round

__all__ = ["Journal", "append_event", "refuse_used"]


def refuse_used(directory: Path) -> None:
    """Refuse a directory that holds a run: a record is never written over.

    Raises:
        UsageError: it does.
    """
    there = next((name for name in (PLAN_FILE, EVENTS_FILE, REQUESTS_FILE) if os.path.lexists(directory / name)), None)
    if there is not None:
        raise UsageError(
            f"{directory} already holds a run ({there}): give --mooncake-report another directory, "
            "or --mooncake-replay it to judge it again"
        )


class Journal:
    """Append-only writer of one run. Use as a context manager; not safe for several threads at once.

    Once a line could not be written the record ends there: what stands before it stays, and every later line is
    refused with the same error. Only the end of the run is still tried, a short line for which there may be room.

    Args:
        directory: where the run's files go.
        plan: what is run.
        redactor: the last net for secrets; they are taken out where foreign text enters, long before.

    Raises:
        UsageError: the directory already holds a run, or cannot be made.
        JournalError: its files cannot be written.
    """

    def __init__(self, directory: Path, plan: Plan, redactor: Redactor | None = None) -> None:
        refuse_used(directory)
        self._redactor = redactor or Redactor()
        _make(directory)
        self.directory = directory
        self._goes_on = goes_on(plan)
        self._failure: JournalError | None = None
        values = {"schema": JOURNAL_SCHEMA, "plan": plan.model_dump(mode="json")}
        stored = orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"
        _write_new(directory / PLAN_FILE, stored)
        self._events = _line_file(directory / EVENTS_FILE, plan.run_id)
        self._requests = _line_file(directory / REQUESTS_FILE, plan.run_id)
        self.event(OPENED, run=plan.run_id, plan_sha256=hashlib.sha256(stored).hexdigest(), **values)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Say that what is measured beside the run is all there, unless something went wrong."""
        try:
            if kind is None and self._failure is None and self._goes_on:
                self.event(CLOSED)
        finally:
            self._events.close()
            self._requests.close()

    def event(self, name: str, **values: object) -> None:
        """Append one event; `values` are anything orjson can write, dataclasses included.

        Raises:
            JournalError: it cannot be written.
        """
        line = {"event": name, **self._redactor.guarded(values), BEFORE: self._requests.lines}
        if name == RUN_END and self._failure is not None:
            with contextlib.suppress(JournalError):
                self._events.append(_json(line, EVENTS_FILE))
            return
        self._append(self._events, line, EVENTS_FILE)

    def request(self, record: RequestRecord) -> None:
        """Append one request record.

        Raises:
            JournalError: it cannot be written.
        """
        self._append(self._requests, self._redactor.guarded(record), REQUESTS_FILE)

    def _append(self, file: LineFile, values: object, name: str) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            file.append(_json(values, name))
        except JournalError as error:
            self._failure = error
            raise

    def round(self, measured: Round) -> None:
        """Append what is known of a round beside its requests, which were appended one by one."""
        values = {f.name: getattr(measured, f.name) for f in fields(measured) if f.name != "requests"}
        self.event("round", **values, requests=len(measured.requests))


def append_event(directory: Path, name: str, **values: object) -> None:
    """Append an event to the record of a run that is over: what became known of it afterwards.

    Raises:
        JournalError: there is no record, or it cannot be written.
    """
    path, head = directory / EVENTS_FILE, head_of(directory)
    lines, before = head.lines(path), 0
    for _, line in lines:
        before = _before(line, before)
    if head.run_id is None:
        content = _json({"event": name, **values}, EVENTS_FILE) + b"\n"
    else:
        body = _json({"event": name, **values, BEFORE: before}, EVENTS_FILE)
        content = line_of(body, lines.last + 1 + lines.is_torn, seed_of(head.run_id, path.name))
    append_to(path, b"\n" + content if lines.is_torn else content)


def _before(line: bytes, known: int) -> int:
    with contextlib.suppress(Unreadable):
        before = event_of(line).get(BEFORE)
        return before if isinstance(before, int) else known
    return known


def _json(values: object, name: str) -> bytes:
    try:
        return orjson.dumps(values)
    except TypeError as error:
        raise JournalError(f"{name}: a line cannot be recorded ({error})") from None


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: no run can be written there ({error.strerror or error})") from None


def _line_file(path: Path, run_id: str) -> LineFile:
    try:
        return LineFile(path, run_id)
    except OSError as error:
        raise unwritable(path, error) from None


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that was not there, whole or not at all."""
    try:
        fd = create(path)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        write_whole(fd, content)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise unwritable(path, error) from None
    finally:
        os.close(fd)
