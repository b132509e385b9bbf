"""A history as Apache Otava reads it: one CSV file and the `otava.yaml` that names its columns.

Otava is no dependency (it pins numpy and scipy); `uvx --from apache-otava otava analyze mooncake` in the folder looks
for change points of its own, as a cross-check of `analysis.regression.change_points`. Its default p of 0.001 is no rate
of false findings: over 100 runs without a shift it reports one in 6 of 100 series.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_mooncake.analysis.regression.alarm import Watched

CSV_NAME = "mooncake.csv"
TEST_NAME = "mooncake"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRun:
    """One row: when (ISO 8601 with offset), which run and release, and its figures (absent: an empty field)."""

    started_at: str
    run_id: str
    release: str
    metrics: Mapping[str, float]


def otava_csv(runs: Sequence[ExportedRun], watched: Sequence[Watched]) -> str:
    """The CSV file, a row a run, in the order given (oldest first)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", "run", "release", *(_column(one) for one in watched)])
    for run in runs:
        figures = [run.metrics.get(one.name) for one in watched]
        shown = ["" if figure is None else repr(figure) for figure in figures]
        writer.writerow([run.started_at, run.run_id, run.release, *shown])
    return text.getvalue()


def otava_yaml(watched: Sequence[Watched]) -> str:
    """The `otava.yaml` beside it; every string is quoted as JSON, which YAML reads."""
    lines = ["tests:", f"  {TEST_NAME}:", "    type: csv", f"    file: {CSV_NAME}", "    time_column: time"]
    lines += ["    attributes: [run, release]", "    metrics:"]
    for one in watched:
        direction = -1 if one.better == "lower" else 1
        column = json.dumps(_column(one))
        lines += [f"      {column}:", f"        column: {column}", f"        direction: {direction}"]
    return "\n".join([*lines, "    csv_options:", "      delimiter: ','", "      quote_char: '\"'", ""])


def _column(watched: Watched) -> str:
    return watched.name.replace(".", "_")
