"""Figures from elsewhere as a file: YAML, or a CSV table; every complaint names file, line and the nearest known key.

A CSV table is either `key,value` rows with dotted keys (`cold.ttft_ms.mean,1200`) or has the columns `metric,cold,warm`
(`ttft_ms.mean,1200,400`); in the second form a row of a whole run leaves the column `warm` empty (`requests,30,`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.base import Model
from pytest_mooncake.plan.hardware import Count, HardwareGiven, ModelGiven, Number
from pytest_mooncake.plan.sources.hardware import with_sheets
from pytest_mooncake.plan.sources.yaml_loader import load, validated
from pytest_mooncake.plan.sources.yaml_text import Location, clipped, parse, read_bounded

__all__ = ["FiguresFile", "figures_in", "read_figures"]


class DistributionGiven(Model):
    """A latency in milliseconds."""

    mean: Number | None = None
    p50: Number | None = None
    p90: Number | None = None
    p95: Number | None = None
    p99: Number | None = None
    min: Number | None = None
    max: Number | None = None


class RoundGiven(Model):
    """Figures of the cold or of the warm side."""

    requests: Count | None = None
    failed: Count | None = None
    ttft_ms: DistributionGiven = DistributionGiven()
    tpot_ms: DistributionGiven = DistributionGiven()
    e2e_ms: DistributionGiven = DistributionGiven()
    step_ms: Number | None = None
    request_throughput: Number | None = None
    output_token_throughput: Number | None = None
    makespan_s: Number | None = None
    latency_sum_s: Number | None = None
    prompt_tokens: Count | None = None
    cached_tokens: Count | None = None
    output_tokens: Count | None = None
    server_prompt_tokens: Count | None = None
    server_output_tokens: Count | None = None
    engine_in_flight: Number | None = None


class FiguresFile(Model):
    """Cold and warm figures with what is known beside them; what is absent makes the laws that need it inapplicable."""

    description: str = ""
    date: str | None = None
    requests: Count | None = None
    concurrency: Count | None = None
    request_rate: Number | None = None
    prompt_tokens: Count | None = None
    output_tokens: Count | None = None
    network_gbps: Number | None = None
    cold: RoundGiven
    warm: RoundGiven
    model: ModelGiven = ModelGiven()
    hardware: HardwareGiven = HardwareGiven()


def read_figures(path: Path, invocation_dir: Path) -> tuple[FiguresFile, dict[str, Any]]:
    """Read a file of figures.

    Args:
        path: a YAML file, or a table that ends in `.csv`.
        invocation_dir: where names of hardware sheets are looked up first.

    Returns:
        The file, and its figures as the mapping of `analysis.audit.external_figures.figures_from_mapping`, sheet and
        config read; `printed` holds how each number is written, since 14.50 says more than 14.5.

    Raises:
        PlanError: the file, its hardware sheet or its `config.json` cannot be read or holds what does not belong.
        UsageError: there is no such hardware sheet.
    """
    printed: dict[str, str] = {}
    given = _table(path, printed) if path.suffix.lower() == ".csv" else load(path, FiguresFile)
    mapping = given.model_dump(exclude_none=True, exclude={"description", "date"})
    mapping["printed"] = printed or parse(read_bounded(path), str(path)).texts
    return given, with_sheets(mapping, path, invocation_dir)


def figures_in(values: Mapping[str, object], invocation_dir: Path) -> tuple[FiguresFile, dict[str, Any]]:
    """Take figures out of a mapping that says what a file would; paths in it start from `invocation_dir`.

    Returns:
        As `read_figures`. A number stands for as many digits as Python prints of it; a text (`"14.50"`) for its own.

    Raises:
        PlanError: it holds what does not belong (UsageError: there is no such hardware sheet).
    """
    where = Path("figures")
    given = validated(where, _plain(values), None, FiguresFile)
    mapping = given.model_dump(exclude_none=True, exclude={"description", "date"})
    mapping["printed"] = dict(_printed(values, ""))
    return given, with_sheets(mapping, invocation_dir / where, invocation_dir)


def _plain(values: Mapping[str, object]) -> dict[str, Any]:
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _printed(values: Mapping[str, object], above: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _printed(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)


def _table(path: Path, printed: dict[str, str]) -> FiguresFile:
    """The file that a table is, and in `printed` how its cells are written."""
    data: dict[str, Any] = {}
    lines: dict[Location, int] = {}
    for line, key, value in _cells(path):
        location = tuple(part.strip() for part in key.split("."))
        if location in lines:
            raise PlanError(f"{path}:{line}: {clipped(key)} was already given on line {lines[location]}")
        place = data
        for depth, part in enumerate(location[:-1], 1):
            lines.setdefault(location[:depth], line)
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise PlanError(f"{path}:{line}: {clipped(key)}: {clipped(part)} was already given a value of its own")
        lines[location] = line
        place[location[-1]] = printed[".".join(location)] = value
    return validated(path, data, lines, FiguresFile)


def _cells(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, dotted key and value of every cell that holds something."""
    try:
        rows = list(csv.reader(read_bounded(path).splitlines()))
    except csv.Error as error:
        raise PlanError(f"{path}: cannot be read (no CSV table: {error})") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    sides = {header.index(side): side for side in ("cold", "warm") if side in header}
    for line, row in enumerate(rows, 1):
        if not row or not row[0].strip() or row[0].lstrip().startswith("#") or (line == 1 and _is_header(header)):
            continue
        key = row[0].strip()
        cells = [(place, cell.strip()) for place, cell in enumerate(row[1:], 1) if cell.strip()]
        if not sides and len(cells) != 1:
            raise PlanError(
                f"{path}:{line}: {len(cells)} values after {clipped(key)}; write key,value or metric,cold,warm"
            )
        for place, cell in cells:
            yield line, _key(key, sides.get(place)), cell


def _is_header(header: list[str]) -> bool:
    return header[1:] in (["value"], ["cold", "warm"], ["warm", "cold"])


def _key(key: str, side: str | None) -> str:
    """A row of both sides names a figure of a side, unless it is one of the whole run."""
    whole = side is None or key.partition(".")[0] in _OF_THE_RUN
    return key if whole else f"{side}.{key}"


_OF_THE_RUN = {"concurrency", "request_rate", "network_gbps", "model", "hardware", "description", "date"}
