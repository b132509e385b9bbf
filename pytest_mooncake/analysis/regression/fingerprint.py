"""What must be the same for two runs to be comparable: model, hardware, topology, workload, client definitions.

Versions of software and how it is configured (chunk size, connector, flags) are what a history compares. They are
recorded beside it and are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import StackView

__all__ = ["CLIENT_DEFINITIONS", "Parts", "differences", "fingerprint_of", "parts_of", "plan_parts", "release_of"]

CLIENT_DEFINITIONS = 1
"""Raised when TTFT, TPOT, a round or what else the client measures comes to mean something different."""
GIB = 2**30
NAMES_ONLY = {"name", "description"}
DIGITS = 24

Part = str | int | float | bool | None
Parts = Mapping[str, Part]


def parts_of(plan: Plan, view: StackView, environment: Mapping[str, Any]) -> dict[str, Part]:
    """The parts of a run's fingerprint by dotted name, such as `workload.prompt_tokens`.

    Args:
        plan: what was run.
        view: the stack it was run on.
        environment: the machine, as `environment.describe` tells it. It counts where the stack was started on it;
            behind an endpoint only what `--mooncake-hardware` says is known of the hardware.
    """
    return {
        **dict(_flat("model", _model(plan, view))),
        **plan_parts(plan, environment),
        **dict(_flat("topology", _topology(plan, view))),
        "client.quick": plan.quick or None,  # one pair of rounds is no release, and no baseline of one
    }


def plan_parts(plan: Plan, environment: Mapping[str, Any]) -> dict[str, Part]:
    """The parts that are known before anything is started: a run with this plan on this machine will have them."""
    workload = plan.workload.model_dump(mode="json", exclude=NAMES_ONLY)
    if plan.workload.trace is not None:  # the same trace lies elsewhere on another machine
        workload["trace"]["path"] = plan.workload.trace.path.rpartition("/")[2]
    return {
        **dict(_flat("hardware", _hardware(plan, environment))),
        "topology.stack": plan.stack.kind,
        **({} if plan.stack.kind == "attached" else {"topology.engines": plan.stack.engine.count}),
        **dict(_flat("workload", {**workload, "steady": plan.steady})),
        "client.definitions": CLIENT_DEFINITIONS,
        "client.api": plan.api,
    }


def _model(plan: Plan, view: StackView) -> dict[str, Any]:
    """Its name; of the model that the local stack makes its geometry too, as it was made (`heads` is probed)."""
    if plan.stack.kind != "local":
        return {"name": view.model}
    made: Mapping[str, Any] = view.details.get("geometry") or {}
    return {"name": view.model, **plan.stack.model.model_dump(mode="json"), **made}


def _hardware(plan: Plan, environment: Mapping[str, Any]) -> dict[str, Any]:
    machine = plan.machine
    told = {} if machine is None else {**machine.hardware, "network_gbps": machine.network_gbps}
    if plan.stack.kind == "attached":
        return told
    memory = environment.get("memory_bytes")
    return {
        "cpu": environment.get("cpu"),
        "cpu_cores": environment.get("cpu_cores"),
        "memory_gib": None if memory is None else round(memory / GIB),
        **told,
    }


def _topology(plan: Plan, view: StackView) -> dict[str, Any]:
    known = len(view.store.node_urls) or None if view.store is not None else None
    return {
        "stack": plan.stack.kind,
        "engines": len(view.engines),
        "storage_nodes": known if plan.stack.kind == "attached" else plan.stack.store.nodes,
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, Part]]:
    """Nested values by dotted name; lists by position."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _flat(f"{name}.{index}", inner)
    else:
        yield name, value


def fingerprint_of(parts: Parts) -> str:
    """The parts in one word: 24 hexadecimal digits. A part that is not given is none, so that new ones can be added.

    >>> fingerprint_of({"a": 1, "b": 2, "c": None}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    written = json.dumps({n: value for n, value in parts.items() if value is not None}, sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:DIGITS]


def differences(here: Parts, there: Parts) -> tuple[str, ...]:
    """What differs, a phrase a part, in order of name; empty where two runs may be compared.

    >>> differences({"workload.prompt_tokens": 4096}, {"workload.prompt_tokens": 16384})
    ('workload.prompt_tokens 4096 here, 16384 there',)
    """
    names = sorted({*here, *there})
    other = (n for n in names if json.dumps(here.get(n)) != json.dumps(there.get(n)))
    return tuple(f"{n} {_said(here.get(n))} here, {_said(there.get(n))} there" for n in other)


def _said(value: Part) -> str:
    if value is None:
        return "not given"
    return value if isinstance(value, str) else json.dumps(value)


def release_of(view: StackView, environment: Mapping[str, Any]) -> dict[str, str]:
    """The software that was measured and what measured it, with versions: what a history compares."""
    own = {name: environment.get(name) for name in ("pytest_mooncake", "python", "git_commit", "git_dirty")}
    named = {name.replace("pytest_", "pytest-"): str(value) for name, value in own.items() if value is not None}
    return {**named, **view.versions}
