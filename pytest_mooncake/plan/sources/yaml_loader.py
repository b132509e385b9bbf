"""YAML in, validated models out; every complaint names file and line and what to write instead.

Only safe YAML within bounds is read (`plan.sources.yaml_text`). A key that is not known is refused with the nearest
known one, a key given twice is refused, and a value of the wrong kind is explained in one line.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.sources.yaml_text import Location, clipped, parse, read_bounded

M = TypeVar("M", bound=BaseModel)
MOST_FINDINGS = 20
"""Lines of one complaint: a file that is none of ours has as many findings as it has keys."""
MOST_MESSAGE = 400


def load(path: Path, model: type[M], **defaults: object) -> M:
    """Read `path` as a `model`; `defaults` fill top-level keys the file does not give.

    Raises:
        PlanError: one line per finding: `FILE:LINE: what is wrong; what to write`.
    """
    data, lines = _parse(path)
    if not isinstance(data, dict):
        raise PlanError(f"{path}: expected keys and values (`key: value` lines), found {type(data).__name__}")
    return validated(path, {**defaults, **data}, lines, model)


def validated(path: Path, data: dict[str, Any], lines: dict[Location, int] | None, model: type[M]) -> M:
    """Make a `model` of what was read from `path`; `lines` says on which line each key stands, if it has lines.

    Raises:
        PlanError: as for `load`.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        findings = [*dict.fromkeys(_explain(path, lines, model, found) for found in error.errors())]
        more = [f"{path}: and {len(findings) - MOST_FINDINGS:,} more"] if len(findings) > MOST_FINDINGS else []
        raise PlanError("\n".join([*findings[:MOST_FINDINGS], *more])) from None


def _parse(path: Path) -> tuple[Any, dict[Location, int]]:
    found = parse(read_bounded(path), str(path))
    return found.data if found.data is not None else {}, found.lines()


def _place(path: Path, lines: dict[Location, int] | None, location: Location) -> str:
    if lines is None:
        return str(path)
    line = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), 1)
    return f"{path}:{line}"


def _explain(path: Path, lines: dict[Location, int] | None, model: type[BaseModel], found: Any) -> str:
    location: Location = tuple(found["loc"])
    where = _place(path, lines, location)
    said = " ".join(found["msg"].split())[:MOST_MESSAGE]
    name = clipped(".".join(str(part) for part in location))
    if found["type"] == "extra_forbidden":
        return f"{where}: unknown key {name}; {_nearest(str(location[-1]), _fields(model, location[:-1]))}"
    if found["type"] == "missing":
        return f"{where}: key {name} is missing"
    if found["type"] == "value_error":
        return f"{where}: {f'{name[1:-1]}: ' if location else ''}{said.removeprefix('Value error, ')}"
    shown = "" if isinstance(found["input"], dict | list) else f" {clipped(found['input'])}"
    return f"{where}: value{shown} of {name} does not fit: {said[:1].lower()}{said[1:]}"


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """Names of the fields that may stand at `location` inside `model`."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = _model_in(current.model_fields[str(part)].annotation)
    return sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    """The model inside an annotation like `tuple[Target, ...]` or `Model | None`."""
    if get_origin(annotation) in (Union, UnionType, tuple, list):
        return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
