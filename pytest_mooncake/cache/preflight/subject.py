"""What the lints look at: the configuration of a stack as values, each part of it unknown until somebody tells."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pytest_mooncake.records import KVGeometry

__all__ = [
    "EngineConfig",
    "Finding",
    "HostFacts",
    "Intent",
    "Severity",
    "Subject",
    "WorkloadShape",
    "is_true",
    "json_mapping",
    "parse_vllm_args",
    "size_bytes",
    "version_key",
]


class Severity(StrEnum):
    """An error makes a measurement wrong or impossible; a warning makes it weaker or riskier."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be: what was seen where, why it matters, what to do."""

    id: str
    severity: Severity
    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """One vLLM engine: its arguments (`parse_vllm_args`), LMCache's YAML, its environment, Mooncake's JSON.

    `mooncake` is the content of the file that `MOONCAKE_CONFIG_PATH` names; None when the variable is not set.
    `unknown` names the parts that nobody told: what is absent from them is not held against the engine.
    """

    name: str = "engine 0"
    args: Mapping[str, str] = field(default_factory=dict)
    lmcache: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    mooncake: Mapping[str, object] | None = None
    device: str | None = None
    host: str | None = None
    unknown: frozenset[str] = frozenset()

    def knows(self, part: str) -> bool:
        """Whether all of a part is known: `args`, `lmcache` (its settings) or `env`."""
        return part not in self.unknown

    @property
    def transfer(self) -> Mapping[str, object]:
        """`--kv-transfer-config`; empty when it is absent or no JSON object."""
        return json_mapping(self.args.get("kv-transfer-config")) or {}

    @property
    def connector(self) -> str | None:
        """`kv_connector` as given."""
        name = self.transfer.get("kv_connector")
        return name if isinstance(name, str) else None

    @property
    def is_in_process_lmcache(self) -> bool:
        """LMCache's connector as released, not one loaded from a module of its own."""
        return self.connector == "LMCacheConnectorV1" and "kv_connector_module_path" not in self.transfer

    @property
    def uses_lmcache(self) -> bool:
        """LMCache's YAML counts for this engine."""
        return "LMCache" in (self.connector or "") and self.connector != "LMCacheMPConnector"

    def setting(self, key: str) -> object:
        """Return an LMCache setting: the environment's `LMCACHE_<KEY>`, else the YAML's, else None."""
        return self.env.get(f"LMCACHE_{key.upper()}", self.lmcache.get(key))

    @property
    def extra(self) -> Mapping[str, object]:
        """LMCache's `extra_config`."""
        value = self.setting("extra_config")
        found = json_mapping(value) if isinstance(value, str) else value
        return found if isinstance(found, Mapping) else {}

    @property
    def store_settings(self) -> Mapping[str, object]:
        """What Mooncake is set up with: the JSON file where there is one, it replaces `extra_config` entirely."""
        return self.extra if self.mooncake is None else self.mooncake

    @property
    def ranks(self) -> int:
        """TP × PP."""
        sizes = (self.args.get("tensor-parallel-size", "1"), self.args.get("pipeline-parallel-size", "1"))
        tensor, pipeline = (int(size) if size.isdigit() else 1 for size in sizes)
        return tensor * pipeline


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

    `master_flags` are `mooncake_master`'s without dashes; `master_address` its RPC address; `node_segment_bytes` what
    storage nodes of their own give to the pool; `ports` every listening service by name, as `host:port`.
    """

    engines: tuple[EngineConfig, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    master_flags: Mapping[str, str] | None = None
    master_address: str | None = None
    metadata_reachable: bool | None = None
    node_segment_bytes: int = 0
    mp_adapter: Mapping[str, object] | None = None
    model_config: Mapping[str, object] = field(default_factory=dict)
    kv: KVGeometry | None = None
    workload: WorkloadShape | None = None
    host: HostFacts = HostFacts()
    intent: Intent = Intent()
    ports: Mapping[str, str] = field(default_factory=dict)

    def at_least(self, part: str, version: str) -> bool:
        """Whether a part is known to be of this version or newer."""
        known = self.versions.get(part)
        return known is not None and version_key(known) >= version_key(version)

    def below(self, part: str, version: str) -> bool:
        """Whether a part is known to be older than this version."""
        known = self.versions.get(part)
        return known is not None and version_key(known) < version_key(version)

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


def parse_vllm_args(args: Sequence[str]) -> dict[str, str]:
    """Read vLLM's arguments without vLLM: long names with dashes, flags as "true" or "false", the model as `model`.

    What stands before `serve` is left out.

    >>> parse_vllm_args(["serve", "m", "-tp", "2", "--no-enable-prefix-caching", "--block_size=128"])
    {'model': 'm', 'tensor-parallel-size': '2', 'enable-prefix-caching': 'false', 'block-size': '128'}
    """
    found: dict[str, str] = {}
    words = list(args)
    rest = words[words.index("serve") + 1 :] if "serve" in words else words
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            found.setdefault("model", word)
            continue
        name, equals, value = word.partition("=")
        name = _SHORT.get(name, name.lstrip("-").replace("_", "-"))
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("-") and name not in _FLAGS else "true"
        if name.startswith("no-"):
            name, value = name[3:], "false"
        found[name] = value
    return found


_SHORT = {"-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size", "-O": "optimization-level"}
_FLAGS = frozenset(
    {
        "enable-prefix-caching",
        "no-enable-prefix-caching",
        "enable-prompt-tokens-details",
        "enforce-eager",
        "enable-chunked-prefill",
        "no-enable-chunked-prefill",
        "trust-remote-code",
        "disable-log-requests",
    }
)


def json_mapping(text: str | None) -> Mapping[str, object] | None:
    """Return a JSON object as a mapping; None when the text is absent or anything else."""
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size_bytes(value: object) -> int | None:
    """Read a size as Mooncake does: bytes, or a number with a binary unit.

    >>> size_bytes("4GB"), size_bytes(1024), size_bytes("much")
    (4294967296, 1024, None)
    """
    if isinstance(value, int | float):
        return int(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def version_key(text: str) -> tuple[int, ...]:
    """Return what versions are ordered by: numbers and post-release; pre-releases and local parts do not count.

    >>> version_key("0.3.12.post1") > version_key("0.3.12") > version_key("0.3.9")
    True
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:\.post(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)


def is_true(value: object) -> bool:
    """Whether a YAML or environment value means yes."""
    return value is True or (isinstance(value, str) and value.lower() in {"true", "1", "yes", "on"})
