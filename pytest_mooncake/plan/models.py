"""The plan: everything a run will do, validated and frozen. YAML and options become these models and nothing else.

The plan is a value: it is printed by `--mooncake-dry-run`, hashed into the fingerprint, written to `plan.json` and can
be run again. Unknown keys are refused (`extra="forbid"`); `plan.yaml_source` turns that into a line that names file,
line and the nearest known key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from pytest_mooncake.records import Rung

Loopback = Literal["127.0.0.1"]


class Model(BaseModel):
    """Frozen base: unknown keys are errors, nothing can be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class LocalModel(Model):
    """Geometry of the tiny random-weight model that the local stack serves (Qwen3 architecture, bf16)."""

    layers: PositiveInt = 2
    hidden: PositiveInt = 128
    heads: PositiveInt | Literal["auto"] = "auto"
    """Query heads; `auto` takes as many as make prefill dear enough on this CPU, by a probe of attention speed."""
    kv_heads: PositiveInt = 1
    head_dim: PositiveInt = 64
    vocab: PositiveInt = 8192
    max_position: PositiveInt = 40960
    seed: int = 0


class StoreSpec(Model):
    """Mooncake: one master with metadata server and `nodes` storage nodes of `segment_bytes` each."""

    nodes: PositiveInt = 2
    segment_bytes: PositiveInt = 4 * 2**30
    lease_ttl_ms: PositiveInt = 5000
    local_buffer_bytes: PositiveInt = 64 * 2**20
    protocol: Literal["tcp", "rdma"] = "tcp"


class ConnectorSpec(Model):
    """What joins engine and store. `none` serves without any cache (a control)."""

    kind: Literal["lmcache", "mooncakestore", "none"] = "lmcache"
    chunk_tokens: PositiveInt = 256
    local_cpu: bool = False
    max_local_cpu_gb: PositiveFloat = 1.0
    local_buffer_bytes: PositiveInt = 256 * 2**20
    transfer_timeout_s: PositiveFloat = 30.0


class EngineSpec(Model):
    """One vLLM engine."""

    count: PositiveInt = 1
    prefix_caching: bool = False
    max_model_len: PositiveInt = 32768
    max_num_seqs: PositiveInt = 8
    kv_space_gb: PositiveInt = 2
    hash_seed: int = 0
    launcher: Literal["fork", "plain"] = "fork"
    extra_args: tuple[str, ...] = ()
    extra_env: dict[str, str] = Field(default_factory=dict)


class SimulatedCost(Model):
    """Cost model of the simulated engine: seconds a request spends per token in each step."""

    prefill_us_per_token: PositiveFloat = 12.0
    cached_us_per_token: PositiveFloat = 0.6
    decode_ms_per_token: PositiveFloat = 1.0
    base_ms: PositiveFloat = 2.0
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.02
    store_delay_ms: Annotated[float, Field(ge=0)] = 20.0


class StackPlan(Model):
    """What is under test and how it comes to be: `local` and `simulated` are started by us, `attached` was there."""

    name: str
    kind: Literal["local", "simulated", "attached"]
    description: str = ""
    model: LocalModel = LocalModel()
    store: StoreSpec = StoreSpec()
    connector: ConnectorSpec = ConnectorSpec()
    engine: EngineSpec = EngineSpec()
    simulated: SimulatedCost = SimulatedCost()
    isolate: Literal["auto", "never"] = "auto"
    """`auto` puts the stack into a network namespace of its own where that is possible."""
    ready_timeout_s: PositiveFloat = 240.0
    urls: tuple[str, ...] = ()
    model_name: str | None = None
    api_key_env: str | None = None
    master_url: str | None = None
    metadata_url: str | None = None
    metrics_urls: tuple[str, ...] = ()


class WorkloadPlan(Model):
    """Which prompts, how long, how many in flight."""

    name: str
    kind: Literal["long-document"] = "long-document"
    description: str = ""
    requests: PositiveInt = 30
    concurrency: PositiveInt = 4
    prompt_tokens: PositiveInt = 16384
    output_tokens: PositiveInt = 128
    seed: int = 0


class Target(Model):
    """One claim: `metric` of the warm rounds against the cold ones.

    `direction` says which side of `ratio` (warm/cold) is good. TTFT down >= 60 % is `lower 0.40`; throughput up
    >= 150 % is `higher 2.5`; "TPOT stable" is `lower 1.10` (not worse than +10 %).
    """

    metric: str
    title: str
    direction: Literal["lower", "higher", "equivalent"] = "lower"
    ratio: PositiveFloat
    gating: bool = True
    stated: str
    """The target in the words of whoever set it: "-60 %", "+150 %", "stable"."""


class TargetsPlan(Model):
    """All claims of a run."""

    name: str
    description: str = ""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """1 - the largest rate of false PASS per claim."""
    warm_hit_share: Annotated[float, Field(gt=0, le=1)] = 0.99
    claims: tuple[Target, ...]


class Timeouts(Model):
    """Limits in seconds; what passes one is a failed record with its reason. The defaults fit a 72B model."""

    first_token_s: PositiveFloat = 600.0
    between_chunks_s: PositiveFloat = 120.0
    request_s: PositiveFloat = 1800.0
    run_s: PositiveFloat = 6 * 3600.0


class Plan(Model):
    """A whole run."""

    version: Literal[1] = 1
    run_id: str
    label: str | None = None
    stack: StackPlan
    workload: WorkloadPlan
    targets: TargetsPlan
    looks: tuple[PositiveInt, ...] = (3, 4, 5, 6, 8, 10)
    quick: bool = False
    evidence: Rung
    timeouts: Timeouts = Timeouts()
    keep_stack: bool = False
