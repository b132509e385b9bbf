"""Which processes a local stack consists of, as values: arguments, environment and configuration files, no I/O.

Loopback throughout. What cannot be told to bind loopback (the metadata server, the nodes' HTTP ports, two data ports of
every Mooncake client) is why a stack gets a network namespace of its own where that is possible.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mooncake.plan.models import ConnectorSpec, EngineSpec, StackPlan
from pytest_mooncake.stack.local.host.paths import PACKAGE_PARENT
from pytest_mooncake.stack.local.requirements import Parts
from pytest_mooncake.stack.process import Command

HOST = "127.0.0.1"
MODEL_NAME = "pytest-mooncake-tiny"
INSIDE = "pytest_mooncake.stack.local.inside"
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""All that a component inherits: a stray LMCACHE_*, VLLM_*, MC_* or proxy variable would change what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Who listens where."""

    rpc: int
    admin: int
    metadata: int
    nodes: tuple[int, ...]
    node_http: tuple[int, ...]
    engines: tuple[int, ...]
    lmcache: tuple[int, ...] = ()
    """LMCache's internal API of every engine's worker, where it may be on."""

    @classmethod
    def count(cls, plan: StackPlan) -> int:
        """How many ports a stack needs."""
        return 3 + 2 * nodes_of(plan) + plan.engine.count * (2 if keeps_chunks(plan) else 1)

    @classmethod
    def assign(cls, plan: StackPlan, free: tuple[int, ...]) -> Ports:
        """Give `count` free ports out."""
        nodes = nodes_of(plan)
        return cls(
            rpc=free[0],
            admin=free[1],
            metadata=free[2],
            nodes=free[3 : 3 + nodes],
            node_http=free[3 + nodes : 3 + 2 * nodes],
            engines=free[3 + 2 * nodes :][: plan.engine.count],
            lmcache=free[3 + 2 * nodes :][plan.engine.count :],
        )


def keeps_chunks(plan: StackPlan) -> bool:
    """Whether LMCache keeps chunks in memory of its own, which only its internal API can clear."""
    return plan.connector.kind == "lmcache" and plan.connector.local_cpu


def nodes_of(plan: StackPlan) -> int:
    """Storage nodes to start: none where a store runs."""
    return 0 if plan.store_url else plan.store.nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStore:
    """A store that was there before: where its master takes calls, tells its counters, and has its metadata server."""

    rpc_address: str
    admin_url: str
    metadata_url: str

    @classmethod
    def of(cls, plan: StackPlan) -> RunningStore | None:
        """The store that a plan names, with Mooncake's usual ports where it names none."""
        if plan.store_url is None:
            return None
        address = plan.store_url.partition("://")[2].strip("/")
        host = address.rpartition(":")[0]
        return cls(
            rpc_address=address,
            admin_url=(plan.master_url or f"http://{host}:9003").rstrip("/"),
            metadata_url=plan.metadata_url or f"http://{host}:8080/metadata",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a stack is set up: what from, which directories, which model, which ports."""

    parts: Parts
    run_dir: Path
    log_dir: Path
    cache_dir: Path
    model: Path
    ports: Ports
    environ: Mapping[str, str]
    store: RunningStore | None = None
    proof_tag: str = "proof"
    """In the keys of what the engines stored to prove themselves."""
    is_apart: bool = False
    """Whether the stack has a network namespace of its own."""

    @property
    def metadata_url(self) -> str:
        """Mooncake's HTTP metadata server."""
        return self.store.metadata_url if self.store else f"http://{HOST}:{self.ports.metadata}/metadata"

    @property
    def master_address(self) -> str:
        """The master's RPC address."""
        return self.store.rpc_address if self.store else f"{HOST}:{self.ports.rpc}"


def admin_url(site: Site) -> str:
    """Where the master tells its counters."""
    return site.store.admin_url if site.store else f"http://{HOST}:{site.ports.admin}"


def base_env(site: Site) -> dict[str, str]:
    """What every component gets."""
    kept = {name: site.environ[name] for name in KEPT_VARIABLES if name in site.environ}
    return {
        **kept,
        "TMPDIR": str(site.run_dir),
        "NO_PROXY": f"{HOST},localhost",
        "no_proxy": f"{HOST},localhost",
        "MC_TCP_BIND_ADDRESS": HOST,
    }


def master(plan: StackPlan, site: Site) -> Command:
    """The Mooncake master with its HTTP metadata server."""
    argv = (
        str(site.parts.master),
        f"-rpc_address={HOST}",
        f"-rpc_port={site.ports.rpc}",
        f"-metrics_host={HOST}",
        f"-metrics_port={site.ports.admin}",
        "-enable_http_metadata_server=true",
        f"-http_metadata_server_host={HOST}",
        f"-http_metadata_server_port={site.ports.metadata}",
        f"-default_kv_lease_ttl={plan.store.lease_ttl_ms}",
        "-logtostderr",
    )
    return Command(name="master", argv=argv, env=base_env(site), log=site.log_dir / "master.log", cwd=site.run_dir)


def node(plan: StackPlan, site: Site, index: int) -> Command:
    """One storage node: it lends its memory to the store and does nothing else."""
    argv = (
        str(site.parts.node),
        f"-host={HOST}",
        f"-port={site.ports.nodes[index]}",
        f"-global_segment_size={plan.store.segment_bytes}",
        f"-local_buffer_size={plan.store.local_buffer_bytes}",
        f"-master_server_address={site.master_address}",
        f"-metadata_server={site.metadata_url}",
        f"-protocol={plan.store.protocol}",
        "-enable_http_server=true",
        f"-http_port={site.ports.node_http[index]}",
        "-logtostderr",
    )
    name = f"node-{index}"
    return Command(name=name, argv=argv, env=base_env(site), log=site.log_dir / f"{name}.log", cwd=site.run_dir)


def lmcache_settings(plan: StackPlan, site: Site, index: int) -> dict[str, Any]:
    """LMCache's configuration file for one engine.

    The master and the NICs are spelled twice: LMCache >= 0.4.5 with Mooncake >= 0.3.9 ignores the documented names
    (`master_server_address`, `device_name`) without a word, older ones know no others.
    """
    spec = plan.connector
    return {
        "chunk_size": spec.chunk_tokens,
        "local_cpu": spec.local_cpu,
        "max_local_cpu_size": spec.max_local_cpu_gb,
        "save_unfull_chunk": False,
        "remote_url": f"mooncakestore://{site.master_address}/",
        "remote_serde": "naive",
        "extra_config": {
            "local_hostname": HOST,
            "metadata_server": site.metadata_url,
            "protocol": plan.store.protocol,
            "device_name": "",
            "mooncake_rdma_devices": "",
            "master_server_address": site.master_address,
            "mooncake_master_server_addr": site.master_address,
            "global_segment_size": 0,
            "local_buffer_size": spec.local_buffer_bytes,
            "transfer_timeout": spec.transfer_timeout_s,
            "save_chunk_meta": False,
        },
        **_lmcache_api(plan, site, index),
    }


def _lmcache_api(plan: StackPlan, site: Site, index: int) -> dict[str, Any]:
    """The internal API of the engine's only worker; the scheduler's would take one port less and is left out.

    It runs whatever code is sent to it, so it is on in a network namespace only, where nobody else gets at it.
    """
    if not (site.is_apart and keeps_chunks(plan)):
        return {}
    return {
        "internal_api_server_enabled": True,
        "internal_api_server_host": HOST,
        "internal_api_server_port_start": site.ports.lmcache[index] - 1,
        "internal_api_server_include_index_list": [1],
    }


def mooncake_settings(plan: StackPlan, site: Site) -> dict[str, Any]:
    """The file that vLLM's own MooncakeStoreConnector reads: no memory of its own, the storage nodes have it.

    It knows the documented names only, and takes rdma where no protocol is named.
    """
    return {
        "mode": "standalone-store",
        "metadata_server": site.metadata_url,
        "master_server_address": site.master_address,
        "protocol": plan.store.protocol,
        "device_name": "",
        "global_segment_size": 0,
        "local_buffer_size": plan.connector.local_buffer_bytes,
    }


def kv_transfer(spec: ConnectorSpec) -> dict[str, str] | None:
    """`--kv-transfer-config`, None for an engine without a cache.

    The failure policy is spelled out because its default has changed twice. "fail": a load that fails has to be seen
    as a failed request, not as a slow one.
    """
    if spec.kind == "none":
        return None
    common = {"kv_role": "kv_both", "kv_load_failure_policy": "fail"}
    if spec.kind == "mooncakestore":
        return {"kv_connector": "MooncakeStoreConnector", **common}
    return {
        "kv_connector": "LMCacheCPUConnector",
        "kv_connector_module_path": f"{INSIDE}.connector",
        **common,
    }


def engine(plan: StackPlan, site: Site, index: int, *, fork: bool) -> Command:
    """One vLLM engine, started by the fork launcher or plainly."""
    name = f"vllm-{index}"
    module = f"{INSIDE}.serve" if fork else "vllm.entrypoints.cli.main"
    argv = (str(site.parts.python), "-m", module, "serve", str(site.model), *engine_arguments(plan, site, index))
    env = engine_env(plan, site, index, fork=fork)
    return Command(name=name, argv=argv, env=env, log=site.log_dir / f"{name}.log", cwd=site.run_dir)


def engine_arguments(plan: StackPlan, site: Site, index: int) -> tuple[str, ...]:
    """What follows `vllm serve MODEL`."""
    spec = plan.engine
    transfer = kv_transfer(plan.connector)
    return (
        *("--served-model-name", MODEL_NAME),
        *("--host", HOST, "--port", str(site.ports.engines[index])),
        *("--dtype", "bfloat16", "--enforce-eager"),
        *("--max-model-len", str(spec.max_model_len), "--max-num-seqs", str(spec.max_num_seqs)),
        "--enable-prefix-caching" if spec.prefix_caching else "--no-enable-prefix-caching",
        "--enable-prompt-tokens-details",
        *(("--kv-transfer-config", json.dumps(transfer)) if transfer else ()),
        *spec.extra_args,
    )


def engine_env(plan: StackPlan, site: Site, index: int, *, fork: bool) -> dict[str, str]:
    """The engine's whole environment."""
    spec, run = plan.engine, engine_dir(site, index)
    python_path = (site.run_dir / "python", PACKAGE_PARENT)
    env = base_env(site) | {
        "PYTHONPATH": os.pathsep.join(str(path) for path in python_path),
        "PYTHONHASHSEED": str(hash_seed(spec, index)),  # enters LMCache's keys: equal wherever a store is shared
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(run),
        "VLLM_RPC_BASE_PATH": str(run),
        "PROMETHEUS_MULTIPROC_DIR": str(run / "prometheus"),
        "VLLM_CACHE_ROOT": str(site.cache_dir / "vllm"),
        "VLLM_CONFIG_ROOT": str(site.cache_dir / "vllm-config"),
        "VLLM_CPU_KVCACHE_SPACE": str(spec.kv_space_gb),
        "VLLM_HOST_IP": HOST,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        **_connector_env(plan.connector, site, index),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": str(engine_threads(len(os.sched_getaffinity(0)), spec.count)),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TORCHDYNAMO_DISABLE": "1",  # else the first answer with log-probabilities compiles a kernel for 19 s
        "LD_PRELOAD": os.pathsep.join(str(path) for path in site.parts.preload),
    }
    if spec.prefix_caching and site.is_apart:
        env["VLLM_SERVER_DEV_MODE"] = "1"  # /reset_prefix_cache, with which a run that may clear empties it
    if fork and plan.connector.kind == "lmcache":
        env["PYTEST_MOONCAKE_PRELOAD"] = f"{INSIDE}.connector lmcache.integration.vllm.vllm_v1_adapter"
    return env | spec.extra_env


def _connector_env(spec: ConnectorSpec, site: Site, index: int) -> dict[str, str]:
    """Where the connector finds its settings."""
    if spec.kind == "mooncakestore":
        return {"MOONCAKE_CONFIG_PATH": str(site.run_dir / "mooncake.json")}
    return {"LMCACHE_TRACK_USAGE": "false", "LMCACHE_CONFIG_FILE": str(engine_dir(site, index) / "lmcache.yaml")}


def hash_seed(spec: EngineSpec, index: int) -> int:
    """The seed of one engine; where there are fewer than engines they are given out in turn."""
    if isinstance(spec.hash_seed, int):
        return spec.hash_seed
    return spec.hash_seed[index % len(spec.hash_seed)]


def engine_dir(site: Site, index: int) -> Path:
    """An engine's own temporary directory; short, for a socket's path may have 107 characters."""
    return site.run_dir / f"v{index}"


def engine_threads(cores: int, engines: int) -> int:
    """OpenMP threads of one engine: its share of the cores, one left to the measuring client where there are many."""
    return max(1, min(16, (cores if cores <= 2 else cores - 1) // engines)) if cores > engines else 1
