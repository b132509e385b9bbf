"""Between values and rows: a run to the rows of its tables and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pytest_mooncake.history.sql import schema
from pytest_mooncake.history.stored_run import Anchor, Finding, StoredClaim, StoredRound, StoredRun

__all__ = ["anchor_of", "finding_of", "insert_run", "row_of_anchor", "row_of_finding", "runs_of"]

AT_ONCE = 500
"""Runs whose further rows are read with one question."""
FURTHER = (schema.figures, schema.rounds, schema.claims)


def insert_run(connection: Connection, run: StoredRun) -> None:
    """Insert a run with all that belongs to it."""
    own = ("label", "started_at", "verdict", "fingerprint", "parts", "release", "writer")
    values = {name: getattr(run, name) for name in own}
    connection.execute(sa.insert(schema.runs), {"run_id": run.id, **_plain(values)})
    many: tuple[tuple[sa.Table, list[dict[str, Any]]], ...] = (
        (schema.figures, [{"metric": name, "value": value} for name, value in run.metrics.items()]),
        (schema.rounds, [asdict(one) for one in run.rounds]),
        (schema.claims, [asdict(one) for one in run.claims]),
    )
    for table, rows in many:
        if rows:
            connection.execute(sa.insert(table), [{"run_id": run.id, **_plain(row)} for row in rows])


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def runs_of(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> tuple[StoredRun, ...]:
    """Runs with their figures, rounds and claims, in the order of their rows."""
    ids = [row["run_id"] for row in rows]
    further = {table.name: _further(connection, table, ids) for table in FURTHER}
    return tuple(_run(row, {name: by_run.get(row["run_id"], []) for name, by_run in further.items()}) for row in rows)


def _further(connection: Connection, table: sa.Table, ids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of a table by run, in the order of their keys."""
    by_run: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        wanted = sa.select(table).where(table.c.run_id.in_(some)).order_by(*table.primary_key.columns)
        for row in connection.execute(wanted).mappings():
            by_run[row["run_id"]].append(dict(row))
    return by_run


def _run(row: Mapping[str, Any], further: Mapping[str, list[Mapping[str, Any]]]) -> StoredRun:
    values = {name: value for name, value in row.items() if name != "run_id"}
    return StoredRun(
        id=row["run_id"],
        metrics={one["metric"]: one["value"] for one in further["mooncake_figures"]},
        rounds=tuple(StoredRound(**_without_run(one)) for one in further["mooncake_rounds"]),
        claims=tuple(StoredClaim(**_without_run(one)) for one in further["mooncake_claims"]),
        **values,
    )


def _without_run(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "run_id"}


def row_of_finding(finding: Finding) -> dict[str, Any]:
    """A finding as a row."""
    return {**_plain(asdict(finding)), "run_ids": list(finding.run_ids), "finding_id": finding.finding_id}


def finding_of(row: Mapping[str, Any]) -> Finding:
    """A row as a finding."""
    values = {name: value for name, value in row.items() if name != "finding_id"}
    return Finding(**{**values, "run_ids": tuple(row["run_ids"])})


def row_of_anchor(anchor: Anchor) -> dict[str, Any]:
    """An anchor as a row."""
    return {**asdict(anchor), "run_ids": list(anchor.run_ids), "anchor_id": anchor.anchor_id}


def anchor_of(row: Mapping[str, Any]) -> Anchor:
    """A row as an anchor."""
    values = {name: value for name, value in row.items() if name != "anchor_id"}
    return Anchor(**{**values, "run_ids": tuple(row["run_ids"])})
