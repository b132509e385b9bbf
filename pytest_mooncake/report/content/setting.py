"""On what a run was measured, as rows for people: workload, hardware, software, key configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import Round, StackView
from pytest_mooncake.report.text.numbers import LARGE, quantity, size

HARDWARE_KEYS = ("cpu", "cpu_cores", "gpu", "gpus", "network")
SOFTWARE_KEYS = ("os", "python", "pytest_mooncake")

Rows = tuple[tuple[str, str], ...]
"""Pairs of name and value, both untrusted text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the environment and method sections say. `None` is "not given"; `configuration` is verbatim text."""

    model: str | None = None
    scenario: str | None = None
    requests: int | None = None
    concurrency: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    hardware: Rows = ()
    software: Rows = ()
    components: Rows = ()
    configuration: str | None = None
    fingerprint: str | None = None
    git: str | None = None
    started_at: str | None = None


def setting_of(plan: Plan, view: StackView, environment: Mapping[str, Any], rounds: Sequence[Round] = ()) -> Setting:
    """Read the setting of a recorded run.

    Args:
        plan: what was run.
        view: the stack as it was.
        environment: facts as journalled, flat or grouped under `hardware` and `software`. What is absent is left
            out.
        rounds: what was sent; tells requests and mean lengths where the plan does not (scenarios and traces).
    """
    memory_bytes = environment.get("memory_bytes")
    sized = {"memory_bytes": size(memory_bytes)} if isinstance(memory_bytes, int | float) else {}
    hardware = {**_known(environment, HARDWARE_KEYS), **sized, **_mapping(environment, "hardware")}
    software = {**view.versions, **_known(environment, SOFTWARE_KEYS), **_mapping(environment, "software")}
    return Setting(
        model=view.model,
        scenario=plan.workload.name,
        concurrency=plan.workload.in_flight_cap,
        **_lengths(plan, rounds),
        hardware=rows_of(hardware),
        software=rows_of(software),
        components=rows_of(view.components),
        configuration=_configuration(plan, view),
        fingerprint=_text(environment.get("fingerprint")),
        git=_git(environment),
        started_at=_text(environment.get("started_at")),
    )


def _lengths(plan: Plan, rounds: Sequence[Round]) -> dict[str, int | None]:
    """How many requests of which lengths: as planned for equal documents, else as the fullest round was sent."""
    work = plan.workload
    if work.kind == "long-document":
        return {
            "requests": work.requests,
            "prompt_tokens": work.prompt_tokens,
            "output_tokens": work.output_tokens,
        }
    sent = max((one.requests for one in rounds), key=len, default=())
    prompts = [r.prompt_tokens_planned for r in sent if r.prompt_tokens_planned is not None]
    return {
        "requests": len(sent) or None,
        "prompt_tokens": round(fmean(prompts)) if prompts else None,
        "output_tokens": round(fmean(r.output_tokens_planned for r in sent)) if sent else None,
    }


def rows_of(values: Mapping[str, Any]) -> Rows:
    """Flatten a mapping to rows: nested keys are joined by a dot, sequences by commas, nothing is left out.

    >>> rows_of({"cpu": {"cores": 2}, "gpus": ["A", "B"], "ram": None})
    (('cpu.cores', '2'), ('gpus', 'A, B'))
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += [(f"{key}.{inner}", text) for inner, text in rows_of(value)]
        elif isinstance(value, list | tuple):
            rows.append((str(key), ", ".join(str(item) for item in value)))
        elif value is not None:
            rows.append((str(key), _cell(value)))
    return tuple(rows)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < LARGE else quantity(value)


def _mapping(environment: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = environment.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _known(environment: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: environment[key] for key in keys if environment.get(key) is not None}


def _git(environment: Mapping[str, Any]) -> str | None:
    commit = _text(environment.get("git_commit"))
    return f"{commit} (modified)" if commit and environment.get("git_dirty") == "yes" else commit


def _configuration(plan: Plan, view: StackView) -> str | None:
    """The configuration that decides what is cached, in the stack's own words; of what was there, what it told."""
    if plan.stack.kind == "local":
        return "\n".join([*_connector_lines(plan, view), *_engine_lines(plan)])
    if plan.stack.kind == "simulated":
        return "\n".join(_simulated_lines(plan, view))
    return "\n".join(_attached_lines(view))


def _engine_lines(plan: Plan) -> list[str]:
    stack = plan.stack
    lines = ["# vLLM", "--enable-prefix-caching" if stack.engine.prefix_caching else "--no-enable-prefix-caching"]
    connectors = {"lmcache": "LMCacheConnectorV1", "mooncakestore": "MooncakeStoreConnector"}
    if stack.connector.kind in connectors:
        transfer = {"kv_connector": connectors[stack.connector.kind], "kv_role": "kv_both"}
        lines.append(f"--kv-transfer-config '{json.dumps(transfer, indent=2)}'")
    lines += [f"--max-model-len {stack.engine.max_model_len}", f"--max-num-seqs {stack.engine.max_num_seqs}"]
    return [*lines, *stack.engine.extra_args]


def _connector_lines(plan: Plan, view: StackView) -> list[str]:
    connector, store = plan.stack.connector, plan.stack.store
    if connector.kind == "none":
        return ["# no connector: the engine computes every prompt", ""]
    names = {"lmcache": "LMCache", "mooncakestore": "MooncakeStoreConnector"}
    address = view.store.rpc_address if view.store and view.store.rpc_address else "master"
    return [
        f"# {names[connector.kind]}",
        f"chunk_size: {connector.chunk_tokens}",
        f"remote_url: mooncakestore://{address}/",
        f"protocol: {store.protocol}",
        f"local_cpu: {'true' if connector.local_cpu else 'false'}",
        "",
        f"# Mooncake: 1 master + {store.nodes} storage nodes",
        f"segment_bytes: {store.segment_bytes}",
        f"lease_ttl_ms: {store.lease_ttl_ms}",
        "",
    ]


def _simulated_lines(plan: Plan, view: StackView) -> list[str]:
    cost = plan.stack.simulated
    return [
        "# SIMULATED engine and store",
        f"chunk_size: {plan.stack.connector.chunk_tokens}",
        f"engines: {len(view.engines)}",
        f"prefill_us_per_token: {cost.prefill_us_per_token:g}",
        f"cached_us_per_token: {cost.cached_us_per_token:g}",
        f"decode_ms_per_token: {cost.decode_ms_per_token:g}",
        *([f"faults: {', '.join(cost.faults)}"] if cost.faults else []),
    ]


def _attached_lines(view: StackView) -> list[str]:
    """What endpoints told of themselves; the rest of their configuration cannot be seen from outside."""
    unknown = "not known"
    engines = [engine.url for engine in view.engines]
    places = [engine.metrics_urls or (engine.metrics_url,) for engine in view.engines]
    metrics = [url or f"{unknown} (--mooncake-metrics)" for urls in places for url in urls]
    return [
        "# attached: as the endpoints told; a stack that is started here (--mooncake-stack) is listed in full",
        f"model: {view.model}",
        f"max_model_len: {view.max_model_len or unknown}",
        f"chunk_size: {chunk_tokens_of(view) or unknown}",
        *(f"engine: {url}" for url in engines),
        *(f"metrics: {url}" for url in metrics),
        f"master: {view.store.master_url if view.store else f'{unknown} (--mooncake-master)'}",
    ]
