"""The history: runs go in once and whole, findings and anchors are only ever added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pytest_mooncake.errors import HistoryError, UsageError
from pytest_mooncake.history import DEFAULT_URL
from pytest_mooncake.history.sql import schema
from pytest_mooncake.history.sql.database import Database
from pytest_mooncake.history.sql.rows import anchor_of, finding_of, insert_run, row_of_anchor, row_of_finding, runs_of
from pytest_mooncake.history.stored_run import Anchor, Finding, StoredRun

__all__ = ["History", "open_history"]


def open_history(url: str = DEFAULT_URL, *, base: Path | None = None, must_exist: bool = False) -> History:
    """Open a history and bring its schema up to date. Use as a context manager, or call `close`.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.
        base: where a relative SQLite file starts; the working directory unless given.
        must_exist: refuse an SQLite file that is not there instead of making it.

    Raises:
        UsageError: the address makes no sense, or there is no such file.
        MissingPartError: the driver for PostgreSQL is not installed.
        HistoryError: it cannot be reached, is locked, is no history, or was written by a newer version.
    """
    return History(Database(url, base or Path.cwd(), must_exist=must_exist))


class History:
    """Runs, findings and anchors in a database. What fails raises `HistoryError`, in one line."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    @property
    def shown(self) -> str:
        """The address without its password."""
        return self._database.shown

    def runs(
        self, fingerprint: str | None = None, label: str | None = None, limit: int | None = None
    ) -> tuple[StoredRun, ...]:
        """Runs, oldest first.

        Args:
            fingerprint: only runs that may be compared with each other.
            label: only runs of this label.
            limit: the newest so many.
        """
        table = schema.runs
        wanted = sa.select(table).order_by(table.c.started_at.desc(), table.c.run_id.desc())
        if fingerprint is not None:
            wanted = wanted.where(table.c.fingerprint == fingerprint)
        if label is not None:
            wanted = wanted.where(table.c.label == label)
        if limit is not None:
            wanted = wanted.limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).mappings().all()
            return runs_of(connection, [dict(row) for row in reversed(rows)])

    def count(self, fingerprint: str) -> int:
        """How many runs may be compared with each other."""
        wanted = sa.select(sa.func.count()).where(schema.runs.c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            return connection.execute(wanted).scalar_one()

    def run(self, run_id: str) -> StoredRun | None:
        """One run, if it is there."""
        with self._database.reading() as connection:
            return _run_in(connection, run_id)

    def named(self, name: str) -> tuple[StoredRun, ...]:
        """The run of this id, else the runs of this label, oldest first.

        Raises:
            UsageError: nothing is called so; the message names what there is.
        """
        one = self.run(name)
        found = (one,) if one is not None else self.runs(label=name)
        if not found:
            raise UsageError(f"history {self.shown}: no run and no label is called '{name}'; {self._known()}")
        return found

    def _known(self) -> str:
        labels = dict.fromkeys(run.label for run in reversed(self.runs(limit=50)) if run.label)
        return f"newest labels: {', '.join(list(labels)[:5])}" if labels else "no run there has a label"

    def add(self, *runs: StoredRun) -> int:
        """Store runs, all of them or none; one that is there already, unchanged, is left as it is.

        Returns:
            How many were new.

        Raises:
            HistoryError: a run of this id with other content is there, or the database fails.
        """
        with self._database.writing() as connection:
            return sum(self._add_one(connection, run) for run in runs)

    def _add_one(self, connection: Connection, run: StoredRun) -> bool:
        known = _run_in(connection, run.id)
        if known is None:
            insert_run(connection, run)
            return True
        if _comparable(known) != _comparable(run):
            raise HistoryError(f"history {self.shown} holds another run {run.id}: nothing was stored")
        return False

    def remove(self, run_ids: Sequence[str]) -> int:
        """Remove runs with their figures; findings that were made from them stay. Returns how many there were."""
        with self._database.writing() as connection:
            gone = connection.execute(sa.delete(schema.runs).where(schema.runs.c.run_id.in_(list(run_ids))))
            return gone.rowcount

    def findings(
        self, fingerprint: str | None = None, kind: str | None = None, run_id: str | None = None
    ) -> tuple[Finding, ...]:
        """Findings, oldest first; `kind` is `alarm`, `confirmation` or `change_point`."""
        table = schema.findings
        wanted = sa.select(table).order_by(table.c.made_at, table.c.finding_id)
        for column, value in ((table.c.fingerprint, fingerprint), (table.c.kind, kind), (table.c.run_id, run_id)):
            if value is not None:
                wanted = wanted.where(column == value)
        with self._database.reading() as connection:
            return tuple(finding_of(dict(row)) for row in connection.execute(wanted).mappings())

    def add_finding(self, *findings: Finding) -> int:
        """Add findings; none is ever rewritten, and the same one is stored once. Returns how many were new."""
        return self._added(schema.findings, schema.findings.c.finding_id, [row_of_finding(f) for f in findings])

    def anchor(self, fingerprint: str) -> Anchor | None:
        """The anchor that holds now for runs of this fingerprint; `None` where nobody set one."""
        return next(reversed(self.anchors(fingerprint)), None)

    def anchors(self, fingerprint: str | None = None) -> tuple[Anchor, ...]:
        """All anchors that were ever set, oldest first."""
        table = schema.anchors
        wanted = sa.select(table).order_by(table.c.at, table.c.anchor_id)
        if fingerprint is not None:
            wanted = wanted.where(table.c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            return tuple(anchor_of(dict(row)) for row in connection.execute(wanted).mappings())

    def _added(self, table: sa.Table, key: sa.Column[Any], rows: Sequence[dict[str, Any]]) -> int:
        with self._database.writing() as connection:
            return _insert_new(connection, table, key, rows)

    def add_all(self, runs: Sequence[StoredRun], findings: Sequence[Finding], anchors: Sequence[Anchor]) -> int:
        """Store what another history held, all of it or nothing. Returns how many runs, findings, anchors were new.

        Raises:
            HistoryError: a run of the same id with other content is there, or the database fails.
        """
        with self._database.writing() as connection:
            new = sum(self._add_one(connection, run) for run in runs)
            found, set_by = [row_of_finding(f) for f in findings], [row_of_anchor(a) for a in anchors]
            new += _insert_new(connection, schema.findings, schema.findings.c.finding_id, found)
            return new + _insert_new(connection, schema.anchors, schema.anchors.c.anchor_id, set_by)


def _insert_new(connection: Connection, table: sa.Table, key: sa.Column[Any], rows: Sequence[dict[str, Any]]) -> int:
    new = 0
    for row in rows:
        known = connection.execute(sa.select(key).where(key == row[key.name])).first()
        if known is None:
            connection.execute(sa.insert(table), row)
            new += 1
    return new


def _run_in(connection: Connection, run_id: str) -> StoredRun | None:
    rows = connection.execute(sa.select(schema.runs).where(schema.runs.c.run_id == run_id)).mappings().all()
    return next(iter(runs_of(connection, [dict(row) for row in rows])), None)


def _comparable(run: StoredRun) -> StoredRun:
    """Rounds and claims in one order: a database returns them in its own."""
    rounds = tuple(sorted(run.rounds, key=lambda one: one.round))
    return replace(run, rounds=rounds, claims=tuple(sorted(run.claims, key=lambda one: one.claim_id)))
