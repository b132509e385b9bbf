"""The plan: everything a run will do, validated and frozen. YAML and options become these models and nothing else.

The plan is a value: it is printed by `--mooncake-dry-run`, hashed into the fingerprint, written to `plan.json` and can
be run again. Unknown keys are refused (`extra="forbid"`); `plan.sources.yaml_loader` turns that into a line that names
file, line and the nearest known key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_serializer, field_validator, model_validator

from pytest_mooncake.plan.base import Model
from pytest_mooncake.plan.hardware import Machine
from pytest_mooncake.plan.parsing.arrivals import Arrivals
from pytest_mooncake.plan.secrets.masking import without_secrets, without_values
from pytest_mooncake.plan.targets.models import Target as Target
from pytest_mooncake.plan.targets.models import TargetsPlan as TargetsPlan
from pytest_mooncake.records import Rung

MOST_TRACE_REQUESTS = 10_000_000
MOST_CHUNK_TOKENS = 2**20


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
    hash_seed: int | tuple[int, ...] = 0
    """`PYTHONHASHSEED`, or one for each engine: different ones never find each other's chunks."""
    launcher: Literal["fork", "plain"] = "fork"
    extra_args: tuple[str, ...] = Field(default=(), repr=False)
    """Further arguments of `vllm serve`. What follows `--api-key` and the like is left out of every record."""
    extra_env: dict[str, str] = Field(default_factory=dict, repr=False)
    """Further variables of its environment. Their values go to the engine and into no record."""

    @field_validator("extra_env", mode="before")
    @classmethod
    def _texts_only(cls, given: object) -> object:
        if not isinstance(given, dict):
            raise ValueError("expected names and values of variables (`NAME: 'value'` lines)")
        wrong = next((name for name, value in given.items() if not isinstance(value, str)), None)
        if wrong is not None:  # the value itself, which may be a secret, is not shown
            raise ValueError(f"the value of {str(wrong)!r} is no text: put it into quotes")
        return given

    @field_serializer("extra_env")
    def _names_only(self, variables: dict[str, str]) -> dict[str, str]:
        return without_values(variables)

    @field_serializer("extra_args")
    def _without_secrets(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        return without_secrets(arguments)


class SimulatedCost(Model):
    """Cost model of the simulated engine: how long each step of a request takes, and what goes wrong on purpose."""

    prefill_us_per_token: PositiveFloat = 12.0
    cached_us_per_token: PositiveFloat = 2.0
    decode_ms_per_token: PositiveFloat = 1.0
    decode_slowdown: Annotated[float, Field(ge=1)] = 2.0
    """How many times slower the engine decodes while it prefills another request."""
    base_ms: PositiveFloat = 2.0
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.02
    store_delay_ms: Annotated[float, Field(ge=0)] = 20.0
    seed: int = 0
    faults: tuple[str, ...] = ()
    """What goes wrong on purpose, each `NAME` or `NAME:VALUE`; the names are in `stack.simulated.faults`."""


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
    store_url: str | None = None
    """`mooncakestore://host:port`, the RPC address of a master that runs: engines are started here and join it."""
    urls: tuple[str, ...] = ()
    model_name: str | None = None
    api_key_env: str | None = None
    header_env: str | None = None
    """Environment variable that holds one more header of every request, `Name: value`."""
    master_url: str | None = None
    metadata_url: str | None = None
    metrics_urls: tuple[str, ...] = ()
    chunk_tokens: Annotated[int, Field(gt=0, le=MOST_CHUNK_TOKENS, strict=True)] | None = None
    """Tokens in a chunk of an attached stack's cache; `None`: found in the replies."""

    @model_validator(mode="after")
    def _chunks_of_what_runs(self) -> StackPlan:
        if self.chunk_tokens is not None and self.kind != "attached":
            raise ValueError(
                "'chunk_tokens' describes a stack that already runs (kind: attached); "
                "one that is started here takes 'connector: {chunk_tokens: N}'"
            )
        return self


class Lengths(Model):
    """How long prompts or outputs are, as multiples of the workload's `prompt_tokens` or `output_tokens`.

    `spread` is the coefficient of variation (standard deviation / mean); draws are cut to `least`..`most` times the
    mean. Relative, so that one option scales a whole scenario up or down.
    """

    shape: Literal["fixed", "uniform", "lognormal"] = "fixed"
    scale: PositiveFloat = 1.0
    spread: Annotated[float, Field(ge=0, le=2)] = 0.0
    least: Annotated[float, Field(gt=0, le=1)] = 0.1
    most: Annotated[float, Field(ge=1, le=20)] = 4.0


class Traffic(Model):
    """One kind of request in a scenario: what its prompts share, how they grow, how much of them is reused."""

    name: str
    weight: PositiveFloat = 1.0
    """Share of the requests, against the weights of the other kinds."""
    reuse: Annotated[float, Field(ge=0, lt=1)]
    """Share of all whole cache chunks of the prompts that an earlier prompt of the same round has already had."""
    shared_prefix_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """System prompt that every request starts with, as a share of the mean prompt."""
    documents: PositiveInt | None = None
    """Size of the pool that requests (or conversations) draw a document from; `None`: each has its own."""
    zipf: Annotated[float, Field(ge=0, le=5)] = 1.0
    """Popularity of the document of rank r is r ** -zipf; 0 is uniform."""
    turns: PositiveInt = 1
    think_time_s: Annotated[float, Field(ge=0)] = 0.0
    prompt: Lengths = Lengths()
    output: Lengths = Lengths()
    reply: Literal["fixed", "real"] = "fixed"
    """What later turns carry as the answer of earlier ones: text fixed by the seed, or what the server answered."""


class TraceSpec(Model):
    """A recorded trace in Mooncake's format: which part of it is replayed, and how fast."""

    path: str
    speed: PositiveFloat = 1.0
    """2.0 sends in half the recorded time."""
    schedule: Literal["recorded", "none"] = "recorded"
    """`none` sends in the recorded order, as fast as `concurrency` allows."""
    start_s: Annotated[float, Field(ge=0)] = 0.0
    duration_s: PositiveFloat | None = None
    block_tokens: PositiveInt = 512
    max_prompt_tokens: PositiveInt | None = None
    """Longer prompts are cut to this (and always to the model's context)."""
    max_output_tokens: PositiveInt | None = None


class WorkloadPlan(Model):
    """Which prompts, how long, how many in flight.

    `kind` says which of the further blocks applies: `scenario` needs `traffic`, `trace` needs `trace`. In a trace the
    lengths and arrival times are the recorded ones and `requests` is the most that are sent (all, unless given).
    """

    name: str
    kind: Literal["long-document", "scenario", "trace"] = "long-document"
    description: str = ""
    requests: PositiveInt = 30
    concurrency: PositiveInt = 4
    prompt_tokens: PositiveInt = 16384
    output_tokens: PositiveInt = 128
    seed: int = 0
    documents: str | None = None
    """Own text instead of made-up tokens: a pattern like `docs/*.md`, or a JSONL file of texts or conversations."""
    arrivals: Arrivals | None = None
    """Times of sending; `None` keeps `concurrency` in flight."""
    traffic: tuple[Traffic, ...] = ()
    trace: TraceSpec | None = None

    @property
    def in_flight_cap(self) -> int | None:
        """Requests that may be in flight at once; None for a schedule of arrivals, whatever that takes."""
        if self.arrivals is not None:
            return self.arrivals.cap
        return None if self.trace is not None and self.trace.schedule == "recorded" else self.concurrency

    @model_validator(mode="before")
    @classmethod
    def _all_of_a_trace(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("kind") == "trace":
            return {"requests": MOST_TRACE_REQUESTS, **data}
        return data

    @model_validator(mode="after")
    def _blocks_fit_kind(self) -> WorkloadPlan:
        if (self.kind == "scenario") != bool(self.traffic):
            raise ValueError("kind 'scenario' and the key 'traffic' belong together: give both or neither")
        if (self.kind == "trace") != (self.trace is not None):
            raise ValueError("kind 'trace' and the key 'trace' belong together: give both or neither")
        if self.arrivals and self.trace and self.trace.schedule == "recorded":
            raise ValueError("a trace is sent at its recorded times: give 'arrivals' only with schedule 'none'")
        return self


class ReuseScenario(Model):
    """A kind of use and the share of its prompt tokens that are cached when they arrive."""

    id: str
    title: str
    reuse: Annotated[float, Field(ge=0, le=1)]


class EconomicsPlan(Model):
    """Costs from which the business case is computed; the spec's figures are the default, marked as an example."""

    name: str = "default"
    description: str = ""
    servers: PositiveFloat = 10
    server_cost_per_month: Annotated[float, Field(ge=0)] = 50000
    currency: str = "CNY"
    investment: Annotated[float, Field(ge=0)] = 200000
    example: bool = False
    """Whether these are the packed example figures, to be marked as such in every report."""
    storage_cost_per_month: Annotated[float, Field(ge=0)] = 0.0
    """Running cost of all storage nodes together."""
    spare_servers: Annotated[int, Field(ge=0)] = 1
    """The 1 of N + 1."""
    store_bytes: PositiveInt | None = None
    """Size of the store to be bought, for the number of documents that fit."""
    scenarios: tuple[ReuseScenario, ...] = (
        ReuseScenario(id="kb-qa", title="knowledge base questions", reuse=0.90),
        ReuseScenario(id="customer-chat", title="customer service", reuse=0.85),
        ReuseScenario(id="code-assistant", title="coding assistant", reuse=0.80),
    )


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
    economics: EconomicsPlan = EconomicsPlan(example=True)
    machine: Machine | None = None
    """Hardware and model, for what physics allows; `None` where nobody told."""
    looks: tuple[PositiveInt, ...] = (3, 4, 5, 6, 8, 10)
    quick: bool = False
    sessions: PositiveInt = 1
    """Engine starts over which the trials are spread, at least; every look rests on as many."""
    evidence: Rung
    settle_fixed_s: PositiveFloat | None = None
    """Seconds to wait after a round by the clock; `None` watches the counters."""
    store_budget_bytes: PositiveInt | None = None
    """KV bytes that may lie in the store at once because of the run; `None`: a share of what is free."""
    allow_clear: Literal["none", "own", "everything"] = "none"
    """Whether caches may really be cleared: not at all, a store without keys of others, or any store."""
    timeouts: Timeouts = Timeouts()
    api: Literal["completions", "chat", "auto"] = "auto"
    workers: PositiveInt | Literal["auto"] = 1
    """Processes that send the requests of a round."""
    lang: Literal["en", "zh"] = "en"
    keep_stack: bool = False
    steady: bool = False
    """Whether the store is meant to be smaller than the working set: rounds are a steady state, evictions no fault."""
    cold_tax: bool = False
    """Whether cold rounds on an engine without the connector are measured after the run."""
    versus: StackPlan | None = None
    """The endpoint that the attached one replaces; both are measured in turns after the run."""
    compares_release: bool = False
    """Whether a history was named, against which the release is held once the run is over."""
    gates: tuple[str, ...] | None = None
    """Gates that were planned (`planned_gates`); `None` in a record of a version that kept no status of them."""

    @property
    def trials_per_start(self) -> int | None:
        """Trials after which the stack is started anew, so that the first look rests on as many starts as were asked.

        `None` where one start serves the whole run.
        """
        if self.sessions == 1:
            return None
        even = -(-self.looks[0] // self.sessions)
        return even if -(-self.looks[0] // even) >= self.sessions else self.looks[0] // self.sessions
