"""What a stack says of itself, as the lints want it: processes that we started, servers that answer, files of a user.

Nothing is sent but GETs. What nobody tells stays unknown and is held against nobody.
"""

from __future__ import annotations

import contextlib
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_mooncake.analysis.chunks import chunk_tokens_of
from pytest_mooncake.cache.care import ends_with_the_run
from pytest_mooncake.cache.counters import split_series
from pytest_mooncake.cache.preflight import (
    EngineConfig,
    Finding,
    HostFacts,
    Intent,
    Subject,
    WorkloadShape,
    lint,
)
from pytest_mooncake.cache.preflight.reading import engine_of_command, flags_of, mapping_of
from pytest_mooncake.cache.preflight.subject import size_bytes
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.records import Engine, StackView
from pytest_mooncake.workload.registry import CHUNK_TOKENS, layout_of
from pytest_mooncake.workload.reuse import planned_reuse

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan, WorkloadPlan
    from pytest_mooncake.stack.probe import Prober

__all__ = ["findings", "inspect", "subject_of", "told_by_metrics"]

PROBE_S = 5.0
LMCACHE_PORTS = (7000, 6999)
"""Where LMCache's internal API listens on its own machine, if it is on: first worker, then scheduler."""


async def findings(plan: Plan, view: StackView, environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """Lint a running stack against what the run is going to do.

    Args:
        plan: what will be run.
        view: the stack that runs; its network namespace must have been entered where it has one.
        environ: where the API key is, by the name that the plan gives.
    """
    return lint(await subject_of(plan, view, environ))


def inspect(plan: Plan, view: StackView, environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """Do the same from code that has no event loop."""
    import asyncio

    return asyncio.run(findings(plan, view, environ))


async def subject_of(plan: Plan, view: StackView, environ: Mapping[str, str]) -> Subject:
    """Everything that can be learnt of a running stack."""
    pids = view.details.get("pids")
    told = _of_processes(view, pids) if isinstance(pids, Mapping) else await _of_servers(plan, view, environ)
    return Subject(
        **{"versions": _versions(view), "kv": view.kv, "ports": _ports(view), **told},
        workload=None
        if plan.steady
        else shape_of(plan.workload, view),  # a pool too small is what a steady state wants
        intent=Intent(
            claims_mooncake=plan.stack.connector.kind == "lmcache",
            resets_prefix_cache=plan.allow_clear != "none",
            removes_all=plan.allow_clear != "none" and view.store is not None,
            shared_store=not ends_with_the_run(view),
        ),
    )


def shape_of(work: WorkloadPlan, view: StackView) -> WorkloadShape | None:
    """What will be sent; None for a workload that cannot be made, which says so itself when it is."""
    chunk_tokens = chunk_tokens_of(view) or CHUNK_TOKENS
    try:
        layout = layout_of(work, max_model_len=view.max_model_len, chunk_tokens=chunk_tokens)
    except MooncakeError:
        return None
    return WorkloadShape(
        requests=len(layout),
        prompt_tokens=int(layout.prompt_tokens.max()),
        concurrency=work.in_flight_cap or 1,
        distinct_chunks=planned_reuse(layout, chunk_tokens).distinct_chunks,
    )


def _versions(view: StackView) -> dict[str, str]:
    """Versions by part; an attached engine's own is vLLM's. What we start has one Mooncake for client and master."""
    versions = {part: view.versions[part] for part in ("vllm", "lmcache", "mooncake") if part in view.versions}
    if "mooncake" in versions:
        versions["mooncake-master"] = versions["mooncake"]
    engine = view.versions.get("engine-0")
    if engine and not view.simulated:
        versions.setdefault("vllm", engine)
    return versions


def _ports(view: StackView) -> dict[str, str]:
    addresses = {f"engine {i}": urlsplit(engine.url).netloc for i, engine in enumerate(view.engines)}
    if view.store is not None:
        addresses["master (admin)"] = urlsplit(view.store.master_url).netloc
        addresses |= {"metadata server": urlsplit(view.store.metadata_url).netloc} if view.store.metadata_url else {}
        addresses |= {"master (RPC)": view.store.rpc_address} if view.store.rpc_address else {}
    return addresses


def _of_processes(view: StackView, pids: Mapping[str, int]) -> dict[str, Any]:
    """Read command lines and environments of the components that we started, as the kernel has them."""
    commands = {name: found for name, pid in pids.items() if (found := _command(pid)) is not None}
    engines = [_engine(name, *commands[name]) for name in commands if name.startswith("vllm-")]
    nodes = [flags_of(words) for name, (words, _) in commands.items() if name.startswith("node-")]
    master = flags_of(commands["master"][0]) if "master" in commands else None
    return {
        "engines": tuple(engines),
        "master_flags": master,
        "master_address": view.store.rpc_address if view.store else None,
        "metadata_reachable": True,
        "node_segment_bytes": sum(size_bytes(flags.get("global_segment_size")) or 0 for flags in nodes),
        "host": _this_host(),
    }


def _command(pid: int) -> tuple[list[str], dict[str, str]] | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return process.cmdline(), process.environ()
    except psutil.Error:
        return None


def _engine(name: str, words: list[str], env: Mapping[str, str]) -> EngineConfig:
    lmcache = _file(env.get("LMCACHE_CONFIG_FILE"))
    return engine_of_command(
        words,
        env,
        name=name,
        lmcache={} if lmcache is None else lmcache,
        mooncake=_file(env.get("MOONCAKE_CONFIG_PATH")),
        device="cpu",
    )


def _file(path: str | None) -> dict[str, object] | None:
    if not path:
        return None
    with contextlib.suppress(OSError):
        return mapping_of(Path(path).read_text(encoding="utf-8"), path)
    return None


def _this_host() -> HostFacts:
    import psutil

    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return HostFacts(
        ram_bytes=psutil.virtual_memory().total,
        memory_limit_bytes=_cgroup_limit(),
        memlock_bytes=-1 if soft == resource.RLIM_INFINITY else soft,
    )


def _cgroup_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path(path).read_text(encoding="ascii"))
    return None


async def _of_servers(plan: Plan, view: StackView, environ: Mapping[str, str]) -> dict[str, Any]:
    """Ask engines that somebody else started: what their metrics say of cache, block size and connector."""
    from pytest_mooncake.plan.credentials import credentials_of
    from pytest_mooncake.stack.probe import Prober

    if view.simulated:
        return {}
    async with Prober(credentials_of(plan.stack, environ), PROBE_S) as prober:
        engines = [await _ask_engine(prober, i, engine) for i, engine in enumerate(view.engines)]
    return {"engines": tuple(engines)}


async def _ask_engine(prober: Prober, index: int, engine: Engine) -> EngineConfig:
    answer = await prober.try_get(engine.metrics_url) if engine.metrics_url else None
    text = answer.text if answer is not None and answer.status == 200 else ""
    conf = await _ask_lmcache(prober, engine)
    return told_by_metrics(f"engine {index}", text, lmcache=conf)


def told_by_metrics(name: str, text: str, *, lmcache: Mapping[str, object] | None = None) -> EngineConfig:
    """What an engine's `/metrics` tell of its configuration; everything else stays unknown.

    `lmcache:` series mean that LMCache runs in the engine, which vLLM has under one name only.
    """
    args: dict[str, str] = {}
    line = next((line for line in text.splitlines() if line.startswith("vllm:cache_config_info{")), "")
    labels = dict(split_series(line.rpartition("}")[0])[1])
    if labels.get("enable_prefix_caching") in {"True", "False"}:
        args["enable-prefix-caching"] = labels["enable_prefix_caching"].lower()
    if labels.get("block_size", "").isdigit():
        args["block-size"] = labels["block_size"]
    if re.search(r"^lmcache:", text, re.MULTILINE):
        args["kv-transfer-config"] = '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'
    unknown = {"args", "env"} | ({"lmcache"} if lmcache is None else set())
    return EngineConfig(name=name, args=args, lmcache=lmcache or {}, unknown=frozenset(unknown))


async def _ask_lmcache(prober: Prober, engine: Engine) -> dict[str, object] | None:
    """LMCache's effective settings by its internal API, which listens on its own machine's loopback only."""
    host = urlsplit(engine.url).hostname or ""
    if host != "localhost" and not host.startswith("127."):
        return None
    for port in LMCACHE_PORTS:
        answer = await prober.try_get(f"http://{host}:{port}/conf")
        if answer is not None and answer.status == 200:
            with contextlib.suppress(Exception):  # whatever listens there, it is not LMCache
                return mapping_of(answer.text, f"{answer.url}.json")
    return None
