"""YAML in, validated models out; every complaint names file and line and what to write instead.

Only safe YAML is read (no tags, no objects). A key that is not known is refused with the nearest known one, a key
given twice is refused, and a value of the wrong kind is explained in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pytest_mooncake.errors import PlanError

M = TypeVar("M", bound=BaseModel)
Location = tuple[int | str, ...]


def load(path: Path, model: type[M], **defaults: object) -> M:
    """Read `path` as a `model`; `defaults` fill top-level keys the file does not give.

    Raises:
        PlanError: one line per finding: `FILE:LINE: what is wrong; what to write`.
    """
    data, lines = _parse(path)
    if not isinstance(data, dict):
        raise PlanError(f"{path}: expected keys and values (`key: value` lines), found {type(data).__name__}")
    return validated(path, {**defaults, **data}, lines, model)


def validated(path: Path, data: dict[str, Any], lines: dict[Location, int], model: type[M]) -> M:
    """Make a `model` of what was read from `path`; `lines` says on which line each key stands.

    Raises:
        PlanError: as for `load`.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        findings = [_explain(path, lines, model, found) for found in error.errors()]
        raise PlanError("\n".join(dict.fromkeys(findings))) from None


def _parse(path: Path) -> tuple[Any, dict[Location, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PlanError(f"{path}: cannot be read ({reason})") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PlanError(_syntax(path, error)) from None
    return data if data is not None else {}, dict(_lines(path, node, ()))


def _syntax(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return f"{where}: not YAML: {problem}; check indentation, colons and quotes on this line and the one above"


def _lines(path: Path, node: yaml.Node | None, at: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[object, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise PlanError(f"{path}:{line}: key {key.value!r} was already given on line {seen[key.value]}")
            seen[key.value] = line
            yield (*at, key.value), line
            yield from _lines(path, value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*at, index), item.start_mark.line + 1
            yield from _lines(path, item, (*at, index))


def _explain(path: Path, lines: dict[Location, int], model: type[BaseModel], found: Any) -> str:
    location: Location = tuple(found["loc"])
    line = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), 1)
    where = f"{path}:{line}"
    name = ".".join(str(part) for part in location)
    if found["type"] == "extra_forbidden":
        return f"{where}: unknown key {name!r}; {_nearest(str(location[-1]), _fields(model, location[:-1]))}"
    if found["type"] == "missing":
        return f"{where}: key {name!r} is missing"
    if found["type"] == "value_error":
        return f"{where}: {name}{': ' if name else ''}{found['msg'].removeprefix('Value error, ')}"
    shown = "" if isinstance(found["input"], dict | list) else f" {found['input']!r}"
    message = found["msg"][:1].lower() + found["msg"][1:]
    return f"{where}: value{shown} of {name!r} does not fit: {message}"


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
