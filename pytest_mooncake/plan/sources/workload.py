"""The workload that options ask for: a NAME or YAML file, or `trace:PATH?key=value`, and what overrides its numbers."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import TraceSpec, WorkloadPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.sources.lookup import find
from pytest_mooncake.plan.sources.yaml_loader import load

TRACE = "trace:"
TRACE_KEYS = tuple(key for key in TraceSpec.model_fields if key != "path")
_OVERRIDES = ("requests", "concurrency", "prompt_tokens", "output_tokens", "seed")
_LIMITS = {"prompt_tokens": "max_prompt_tokens", "output_tokens": "max_output_tokens"}
"""What an override means for a trace: its lengths are recorded, so they can only be cut."""


def workload_of(options: Options, invocation_dir: Path) -> WorkloadPlan:
    """The workload that `options` ask for. Paths in it start from `invocation_dir`, wherever its YAML file lies.

    Raises:
        UsageError: the value, or what overrides it, makes no sense (PlanError: a YAML file does not).
    """
    value = options.workload or "long-document"
    plan = _traced(value, invocation_dir) if value.startswith(TRACE) else _loaded(value, invocation_dir)
    data = {**plan.model_dump(exclude_unset=True), "name": plan.name}
    numbers = _numbers(options)
    if plan.trace is not None:
        data["trace"] = plan.trace.model_dump(exclude_unset=True) | _limits_of_trace(plan.trace, numbers)
        numbers = {key: number for key, number in numbers.items() if key not in _LIMITS}
    return WorkloadPlan.model_validate(data | numbers)


def _loaded(value: str, invocation_dir: Path) -> WorkloadPlan:
    path = find("workloads", value, invocation_dir)
    plan = load(path, WorkloadPlan, name=path.stem)
    changes: dict[str, object] = {}
    if plan.documents is not None:
        changes["documents"] = _from_here(plan.documents, path.parent, invocation_dir)
    if plan.trace is not None:
        file = _from_here(plan.trace.path, path.parent, invocation_dir)
        changes["trace"] = plan.trace.model_copy(update={"path": file})
    return plan.model_copy(update=changes)


def _from_here(given: str, directory: Path, invocation_dir: Path) -> str:
    """A path in a YAML file starts at that file; relative ones stay relative, so that no machine's tree is recorded."""
    return given if Path(given).is_absolute() else os.path.relpath(directory / given, invocation_dir)


def _traced(value: str, invocation_dir: Path) -> WorkloadPlan:
    file, _, query = value.removeprefix(TRACE).partition("?")
    if not file or not (invocation_dir / file).is_file():
        raise UsageError(
            f"--mooncake-workload {value}: no such file ({invocation_dir / file}); "
            "write trace:PATH of a trace in Mooncake's format (JSON lines, may be gzipped)"
        )
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = next((key for key in given if key not in TRACE_KEYS), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, TRACE_KEYS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(TRACE_KEYS)}"
        raise UsageError(f"--mooncake-workload {value}: unknown key {unknown!r}; {hint}")
    try:
        name = Path(file).name.removesuffix(".gz").removesuffix(".jsonl")
        return WorkloadPlan.model_validate({"name": name, "kind": "trace", "trace": {"path": file, **given}})
    except ValidationError as error:
        raise _refusal(value, error) from None


def _numbers(options: Options) -> dict[str, Any]:
    numbers = {}
    for key in _OVERRIDES:
        text = getattr(options, key)
        if text is not None:
            flag = f"--mooncake-{key.replace('_', '-')}"
            numbers[key] = _whole(flag, text, least=0 if key == "seed" else 1)
    return numbers


def _limits_of_trace(trace: TraceSpec, numbers: dict[str, Any]) -> dict[str, Any]:
    if "concurrency" in numbers and trace.schedule == "recorded":
        raise UsageError(
            "--mooncake-concurrency: a trace is sent on its recorded schedule, however many are in flight; "
            "slow it down by speed, or leave the schedule out by schedule=none (trace:PATH?schedule=none)"
        )
    return {limit: numbers[key] for key, limit in _LIMITS.items() if key in numbers}


def _refusal(value: str, error: ValidationError) -> UsageError:
    found = error.errors()[0]
    where = ".".join(map(str, found["loc"]))
    message = found["msg"][:1].lower() + found["msg"][1:]
    return UsageError(f"--mooncake-workload {value}: {where}: {message}")


def _whole(flag: str, text: str, *, least: int) -> int:
    cleaned = text.replace(",", "").replace("_", "")
    if not re.fullmatch(r"-?\d+", cleaned) or int(cleaned) < least:
        raise UsageError(f"{flag} {text}: expected a whole number, at least {least}")
    return int(cleaned)
