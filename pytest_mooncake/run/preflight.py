"""What a stack says of itself, as the lints want it: processes that we started, servers that answer, files of a user.

Nothing is sent but GETs. What nobody tells stays unknown and is held against nobody.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.analysis.evidence.store_ownership import ends_with_the_run
from pytest_mooncake.errors import EndpointError, MooncakeError, PlanError
from pytest_mooncake.records import Engine, StackView
from pytest_mooncake.stack.preflight import EngineConfig, HostFacts, Intent, LintFinding, Subject, WorkloadShape, lint
from pytest_mooncake.stack.preflight.configuration import Fact, Facts
from pytest_mooncake.stack.preflight.sources.commands import Kind, Process, flags_of
from pytest_mooncake.stack.preflight.sources.documents import facts_of, read_file, settings_of
from pytest_mooncake.stack.preflight.sources.engines import Placement, engine_of
from pytest_mooncake.stack.preflight.sources.live import Seen, Shown, config_from_metrics, shown_by
from pytest_mooncake.stack.preflight.sources.shell import Document
from pytest_mooncake.stack.preflight.values import size_bytes
from pytest_mooncake.workload.build import CHUNK_TOKENS, layout_of
from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan, WorkloadPlan
    from pytest_mooncake.stack.probe import Prober

__all__ = [
    "findings",
    "inspect",
    "shape_of",
    "shape_with",
    "shown_by_engines",
    "shown_by_master",
    "subject_of",
    "this_host",
]

PROBE_S = 5.0
METRICS_BYTES = 16 * 2**20
"""As much as is read whenever counters are scraped."""
LMCACHE_PORTS = (7000, 6999)
"""Where LMCache's internal API listens on its own machine, if it is on: first worker, then scheduler."""


async def findings(plan: Plan, view: StackView, environ: Mapping[str, str]) -> tuple[LintFinding, ...]:
    """Lint a running stack against what the run is going to do.

    Args:
        plan: what will be run.
        view: the stack that runs; its network namespace must have been entered where it has one.
        environ: where the API key is, by the name that the plan gives.
    """
    return lint(await subject_of(plan, view, environ))


def inspect(plan: Plan, view: StackView, environ: Mapping[str, str]) -> tuple[LintFinding, ...]:
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
    return shape_with(work, chunk_tokens_of(view) or CHUNK_TOKENS, view.max_model_len)


def shape_with(work: WorkloadPlan, chunk_tokens: int, max_model_len: int | None = None) -> WorkloadShape | None:
    """What will be sent to engines whose cache works in such chunks; None for a workload that cannot be made."""
    try:
        layout = layout_of(work, max_model_len=max_model_len, chunk_tokens=chunk_tokens)
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
    master = flags_of(commands["master"][0], "the master's command line") if "master" in commands else None
    given = [size_bytes(flags["global_segment_size"].value) for flags in nodes if "global_segment_size" in flags]
    return {
        "engines": tuple(engines),
        "master_flags": master,
        "master_address": view.store.rpc_address if view.store else None,
        "metadata_reachable": True,
        "node_segment_bytes": sum(size or 0 for size in given) if given else None,
        "pool_runs": True,
        "model_config": _model_config(engines),
        "host": this_host(),
    }


def _model_config(engines: list[EngineConfig]) -> Mapping[str, object] | None:
    """The model's config.json, where an engine serves a directory of this machine."""
    model = engines[0].arg("model") if engines else None
    if not model:
        return None
    with contextlib.suppress(PlanError):
        return settings_of(read_file(Path(model) / "config.json"), "a model")
    return None


def _command(pid: int) -> tuple[list[str], dict[str, str]] | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return process.cmdline(), process.environ()
    except psutil.Error:
        return None


def _engine(name: str, words: list[str], env: Mapping[str, str]) -> EngineConfig:
    where = f"the environment of {name}"
    facts = {variable: Fact(value, where) for variable, value in env.items()}
    arguments = words[words.index("serve") + 1 :] if "serve" in words else words
    process = Process(kind=Kind.VLLM, words=tuple(arguments), env=facts, where=f"the command line of {name}")
    lmcache = _file(env.get("LMCACHE_CONFIG_FILE"))
    return engine_of(
        process,
        name=name,
        lmcache={} if lmcache is None else lmcache,
        mooncake=_file(env.get("MOONCAKE_CONFIG_PATH")),
        placement=Placement(whole_environment=True, device="cpu"),
    )


def _file(path: str | None) -> Facts | None:
    if not path:
        return None
    with contextlib.suppress(PlanError):
        return facts_of(settings_of(read_file(Path(path)), "the engine"), path)
    return None


def this_host() -> HostFacts:
    """What this machine has."""
    import psutil

    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return HostFacts(
        ram_bytes=psutil.virtual_memory().total,
        memory_limit_bytes=_cgroup_limit(),
        memlock_bytes=-1 if soft == resource.RLIM_INFINITY else soft,
        rdma_devices=_rdma_devices(),
    )


def _rdma_devices() -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        return tuple(sorted(path.name for path in Path("/sys/class/infiniband").iterdir()))
    return ()


def _cgroup_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path(path).read_text(encoding="ascii"))
    return None


async def _of_servers(plan: Plan, view: StackView, environ: Mapping[str, str]) -> dict[str, Any]:
    """Ask engines that somebody else started: what their metrics say of cache, block size and connector."""
    from pytest_mooncake.plan.secrets.credentials import credentials_of
    from pytest_mooncake.stack.probe import Prober

    if view.simulated:
        return {}
    async with Prober(credentials_of(plan.stack, environ), PROBE_S) as prober:
        engines = [await _ask_engine(prober, i, engine) for i, engine in enumerate(view.engines)]
    return {"engines": tuple(engines), "pool_runs": True}


async def shown_by_engines(plan: Plan, view: StackView, environ: Mapping[str, str]) -> tuple[Shown, ...]:
    """Say of every engine's counters whose they are and what they show."""
    from pytest_mooncake.plan.secrets.credentials import credentials_of
    from pytest_mooncake.stack.probe import Prober

    async with Prober(credentials_of(plan.stack, environ), PROBE_S) as prober:
        found = []
        for index, engine in enumerate(view.engines):
            url = engine.metrics_url or f"{engine.url}/metrics"
            try:
                answer = await prober.get(url, most_bytes=METRICS_BYTES)
                answer.require_ok()
            except EndpointError as problem:  # refused, too long, without end: the run would know usage alone
                line = f"{problem}; no counters, so evidence ends at usage there"
                found.append(Shown(seen=Seen.UNKNOWN, lines=(line,)))
                continue
            found.append(shown_by(engine.url, answer.raw, view.versions.get(f"engine-{index}")))
    return tuple(found)


async def shown_by_master(url: str) -> Shown:
    """Say what the admin port of a master shows.

    Raises:
        EndpointError: nothing answers there, or it is no master.
    """
    from pytest_mooncake.plan.secrets.credentials import Credentials
    from pytest_mooncake.stack.addresses import admin_url
    from pytest_mooncake.stack.probe import Prober

    base = admin_url(url)
    async with Prober(Credentials(), PROBE_S) as prober:
        answer = await prober.get(f"{base}/metrics", most_bytes=METRICS_BYTES)
        answer.require_ok(hint="--master wants the master's admin port (--metrics_port, 9003 by default)")
        shown = shown_by(base, answer.raw)
        if shown.seen is not Seen.MASTER:
            raise answer.error(f"shows the counters of {shown.seen}, not of a Mooncake master: is the port right?")
        health = await prober.try_get(f"{base}/health")
    waits = health is not None and '"service_ready":false' in health.raw.replace(" ", "")
    line = "    role: a standby, which serves nobody (/health: service_ready false); name the leader"
    return replace(shown, lines=(*shown.lines, line)) if waits else shown


async def _ask_engine(prober: Prober, index: int, engine: Engine) -> EngineConfig:
    url = engine.metrics_url or f"{engine.url}/metrics"
    answer = await prober.try_get(url, most_bytes=METRICS_BYTES)
    text = answer.raw if answer is not None and answer.status == 200 else ""
    conf = await _ask_lmcache(prober, engine)
    return config_from_metrics(f"engine {index}", text, where=url, lmcache=conf)


async def _ask_lmcache(prober: Prober, engine: Engine) -> Facts | None:
    """LMCache's effective settings by its internal API, which listens on its own machine's loopback only."""
    host = urlsplit(engine.url).hostname or ""
    if host != "localhost" and not host.startswith("127."):
        return None
    for port in LMCACHE_PORTS:
        answer = await prober.try_get(f"http://{host}:{port}/conf")
        if answer is not None and answer.status == 200:
            with contextlib.suppress(PlanError):  # whatever listens there, it is not LMCache
                return facts_of(settings_of(Document(answer.text, answer.url), "LMCache"), answer.url)
    return None
