"""What the lints look at: facts, each with its value and where it was told; a part that nobody told stays unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from pytest_mooncake.records import KVGeometry
from pytest_mooncake.stack.preflight.values import size_bytes, whole_number

__all__ = [
    "Connector",
    "EngineConfig",
    "Fact",
    "Facts",
    "HostFacts",
    "Intent",
    "LintFinding",
    "MPServer",
    "Part",
    "Severity",
    "Subject",
    "WorkloadShape",
    "port_of",
]


class Severity(StrEnum):
    """An error makes a measurement wrong or impossible; a warning makes it weaker or riskier; a note may be either."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Fact:
    """A setting as it is in force, and where it was told: `lmcache.yaml:3`, `LMCACHE_LOCAL_CPU in vllm.sh:2`, a URL."""

    value: object
    where: str


Facts = Mapping[str, Fact]


class Part(StrEnum):
    """What somebody has to tell of an engine before its absence means anything."""

    ARGS = "args"
    ENV = "env"
    LMCACHE = "lmcache"
    STORE = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One thing that is not as it should be: what was seen, why it matters, what to do, where it was told."""

    id: str
    severity: Severity
    what: str
    why: str
    fix: str
    where: str = ""


MULTIPROCESS = "LMCacheMPConnector"
VLLMS_OWN = "MooncakeStoreConnector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One connector of an engine: its own, or one inside MultiConnector. Settings are vLLM's `KVTransferConfig`."""

    settings: Mapping[str, object]
    where: str = ""
    inner: bool = False

    @property
    def name(self) -> str | None:
        """`kv_connector` as given."""
        name = self.settings.get("kv_connector")
        return name if isinstance(name, str) else None

    @property
    def role(self) -> str | None:
        """`kv_role` as given."""
        role = self.settings.get("kv_role")
        return role if isinstance(role, str) else None

    @property
    def extra(self) -> Mapping[str, object]:
        """`kv_connector_extra_config`."""
        extra = self.settings.get("kv_connector_extra_config")
        return extra if isinstance(extra, Mapping) else {}

    @property
    def has_own_module(self) -> bool:
        """It is loaded from a module that the user names: no connector of vLLM as released."""
        return "kv_connector_module_path" in self.settings

    @property
    def is_in_process_lmcache(self) -> bool:
        """LMCache runs in the engine and reads its YAML."""
        return "LMCache" in (self.name or "") and self.name != MULTIPROCESS

    @property
    def is_store(self) -> bool:
        """It puts into and gets from a store that outlives a request."""
        return self.is_in_process_lmcache or self.name in {MULTIPROCESS, VLLMS_OWN}


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """One engine: vLLM's arguments, its environment, LMCache's settings in force and the content of Mooncake's file.

    `lmcache` and `extra` (`extra_config`) are what is in force after YAML, `LMCACHE_*` and `lmcache.*` overrides.
    `mooncake` is None when MOONCAKE_CONFIG_PATH is not set. `unknown` names the parts that nobody told in full: what
    is absent from them is not held against the engine.
    """

    name: str = "engine 0"
    program: str | None = "vllm"
    args: Facts = field(default_factory=dict)
    env: Facts = field(default_factory=dict)
    lmcache: Facts = field(default_factory=dict)
    extra: Facts = field(default_factory=dict)
    mooncake: Facts | None = None
    connectors: tuple[Connector, ...] = ()
    transfer: Connector | None = None
    device: str | None = None
    host: str | None = None
    replicas: int = 1
    memory_limit_bytes: int | None = None
    services: frozenset[str] = frozenset()
    """Names of Kubernetes Services of the manifest that the engine comes from: no pod's own address."""
    unknown: frozenset[Part] = frozenset()

    def knows(self, part: Part) -> bool:
        """Whether all of a part is known."""
        return part not in self.unknown

    def arg(self, name: str, default: str | None = None) -> str | None:
        """Return an argument of vLLM."""
        fact = self.args.get(name)
        return default if fact is None else str(fact.value)

    def variable(self, name: str) -> str | None:
        """Return a variable of the environment."""
        fact = self.env.get(name)
        return None if fact is None else str(fact.value)

    def setting(self, key: str) -> object:
        """Return a setting of LMCache as it is in force, None where nobody set it."""
        fact = self.lmcache.get(key)
        return None if fact is None else fact.value

    def store_setting(self, key: str) -> object:
        """Return a setting of Mooncake as it is in force, None where nobody set it."""
        fact = self.store_settings.get(key)
        return None if fact is None else fact.value

    @cached_property
    def store_settings(self) -> Facts:
        """What Mooncake is set up with: the JSON file where there is one, it replaces `extra_config` entirely."""
        return self.extra if self.mooncake is None else self.mooncake

    @cached_property
    def uses_lmcache(self) -> bool:
        """LMCache runs in the engine; also where its files were given and nobody told the connector."""
        if self.connectors:
            return any(connector.is_in_process_lmcache for connector in self.connectors)
        files = bool(self.lmcache or self.extra) or self.mooncake is not None
        return not self.knows(Part.ARGS) and files and not self.uses_own_store

    @cached_property
    def uses_own_store(self) -> bool:
        """VLLM's own MooncakeStoreConnector; also where only its JSON (which has a `mode`) was given."""
        if self.connectors:
            return any(connector.name == VLLMS_OWN for connector in self.connectors)
        return not self.lmcache and self.mooncake is not None and "mode" in self.mooncake

    @property
    def uses_mp(self) -> bool:
        """LMCache in a process of its own."""
        return any(connector.name == MULTIPROCESS for connector in self.connectors)

    @property
    def connector_name(self) -> str | None:
        """The connector as given, MultiConnector's inner ones behind it."""
        return self.transfer.name if self.transfer else None

    @property
    def is_released_lmcache(self) -> bool:
        """LMCache's connector as released, not one loaded from a module of its own."""
        return any(c.is_in_process_lmcache and not c.has_own_module for c in self.connectors)

    @property
    def master(self) -> str | None:
        """The master's address as any of its spellings names it; None where Mooncake's settings are not known."""
        if not self.knows(Part.STORE):
            return None
        for key in ("mooncake_master_server_addr", "master_server_address"):
            if value := self.store_setting(key):
                return str(value)
        return None

    @property
    def protocol(self) -> str | None:
        """Mooncake's transport in force, None where its settings are not known."""
        if not self.knows(Part.STORE):
            return None
        told = self.store_setting("mooncake_protocol") or self.store_setting("protocol")
        return str(told) if told else ("rdma" if self.uses_own_store else "tcp")

    @property
    def segment_bytes(self) -> int | None:
        """What each rank gives to the pool; None where that cannot be read."""
        default = 4 * 2**30 if self.uses_own_store else 3_355_443_200
        return self._bytes("global_segment_size", default)

    @property
    def buffer_bytes(self) -> int | None:
        """Mooncake's staging buffer of each rank; None where that cannot be read."""
        return self._bytes("local_buffer_size", 4 * 2**30 if self.uses_own_store else 2**30)

    def _bytes(self, key: str, default: int) -> int | None:
        value = self.store_setting(f"mooncake_{key}")
        value = self.store_setting(key) if value is None else value
        return default if value is None else size_bytes(value)

    @property
    def ranks(self) -> int:
        """TP × PP."""
        tensor = whole_number(self.arg("tensor-parallel-size")) or 1
        return tensor * (whole_number(self.arg("pipeline-parallel-size")) or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MPServer:
    """LMCache's MP server: its command line, and the adapters that its `--l2-adapter` names."""

    flags: Facts
    adapters: tuple[Facts, ...] = ()
    unreadable: tuple[Fact, ...] = ()
    """`--l2-adapter` values that are no JSON object."""
    host: str | None = None

    def port(self, name: str, default: int) -> int:
        """Return the port that a flag names."""
        fact = self.flags.get(name)
        return default if fact is None else whole_number(fact.value) or default


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadShape:
    """What will be sent."""

    requests: int
    prompt_tokens: int
    """Of the longest prompt."""
    concurrency: int
    distinct_chunks: int | None = None
    """Chunks that a round stores, where prompts share some; None: those of all its prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a machine has; None where nobody looked. Bytes, but for names."""

    ram_bytes: int | None = None
    memory_limit_bytes: int | None = None
    memlock_bytes: int | None = None
    """`ulimit -l`; -1 is unlimited."""
    rdma_devices: tuple[str, ...] | None = None
    bandwidth_bytes_per_s: float | None = None
    """Expected between engine and store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What the run is going to claim and to do."""

    claims_mooncake: bool = True
    resets_prefix_cache: bool = False
    resets_external: bool = False
    removes_all: bool = False
    polls_keys: bool = False
    shared_store: bool = False
    foreign_keys: int | None = None
    injects_faults: bool = False
    separates_tenants: bool = False
    production: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A whole stack. `versions` names `vllm`, `lmcache`, `mooncake` and `mooncake-master` where they are known.

    `master_flags` are `mooncake_master`'s with underscores; `node_segment_bytes` what storage nodes of their own give
    to the pool, None where nobody told; `ports` every listening service by name, as `host:port`.
    """

    engines: tuple[EngineConfig, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    master_flags: Facts | None = None
    master_address: str | None = None
    metadata_reachable: bool | None = None
    metadata_flags: Facts | None = None
    node_segment_bytes: int | None = None
    pool_runs: bool = False
    """The pool runs: who gives memory to it is no question to the engines' files."""
    mp_server: MPServer | None = None
    model_config: Mapping[str, object] | None = None
    kv: KVGeometry | None = None
    workload: WorkloadShape | None = None
    host: HostFacts = HostFacts()
    intent: Intent = Intent()
    ports: Mapping[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> object:
        """Return a flag of the master, None where nobody set it."""
        fact = (self.master_flags or {}).get(name)
        return None if fact is None else fact.value

    @property
    def master_port(self) -> int | None:
        """Where the master listens for clients, None where its command is not known."""
        if self.master_flags is None:
            return None
        return whole_number(self.flag("rpc_port")) or whole_number(self.flag("port")) or 50051

    @property
    def masters(self) -> tuple[str, ...]:
        """Addresses of the master that engines and stack name."""
        named = [self.master_address, *(engine.master for engine in self.engines if engine.knows(Part.STORE))]
        return tuple(dict.fromkeys(address for address in named if address))

    @property
    def prompt_rank_bytes(self) -> int | None:
        """KV bytes of one prompt on one rank; None when geometry or workload is not known."""
        if self.kv is None or self.workload is None:
            return None
        return self.workload.prompt_tokens * self.kv.bytes_per_token // self.kv.ranks

    @property
    def read_seconds(self) -> float | None:
        """How long the slowest read of one prompt takes per rank; 1 GB/s where the bandwidth is not known."""
        size = self.prompt_rank_bytes
        return None if size is None else size / (self.host.bandwidth_bytes_per_s or 1e9)


def port_of(address: str) -> int | None:
    """Return the port of `host:port` or of a URL.

    >>> port_of("mooncakestore://master:50051/"), port_of("[::1]:7"), port_of("master")
    (50051, 7, None)
    """
    match = re.search(r":(\d{1,5})(?:/|$)", address.partition("://")[2] or address)
    return int(match[1]) if match else None
