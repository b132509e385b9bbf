"""Every `--mooncake-*` option, declared once: its value here, its help, its ini twin and the plan's field that it sets.

Imported at plugin load, so only the standard library is used here. Meaning and validation live in `plan.resolve`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum

PREFIX = "mooncake"


class Value(Enum):
    """How an option is given: on the command line, and in the ini file."""

    TEXT = "text"
    SWITCH = "switch"
    REPEATED = "repeated"
    """Given any number of times; a line each in the ini file."""
    COUNTED = "counted"
    """What counts is how often it is given; a number in the ini file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    value: Value
    help: str
    metavar: str = ""
    sets: tuple[str, ...] = ()
    more: str = ""


def _text(metavar: str, text: str, *, sets: tuple[str, ...] = (), more: str = "") -> str | None:
    about = _About(value=Value.TEXT, metavar=metavar, help=text, sets=sets, more=more)
    return field(default=None, metadata={PREFIX: about})


def _switch(text: str, *, sets: tuple[str, ...] = (), more: str = "") -> bool:
    return field(default=False, metadata={PREFIX: _About(value=Value.SWITCH, help=text, sets=sets, more=more)})


def _repeated(metavar: str, text: str, *, sets: tuple[str, ...]) -> tuple[str, ...]:
    return field(default=(), metadata={PREFIX: _About(value=Value.REPEATED, metavar=metavar, help=text, sets=sets)})


def _counted(text: str, *, sets: tuple[str, ...]) -> str | None:
    return field(default=None, metadata={PREFIX: _About(value=Value.COUNTED, help=text, sets=sets)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for, as text; `None` or empty means not given. Nothing is validated yet."""

    url: tuple[str, ...] = _repeated(
        "URL",
        "http(s)://… of an OpenAI-compatible endpoint that already runs (repeat for several engines on one store)."
        " Absent: the stack is started here",
        sets=("stack.urls", "stack.store_url"),
    )
    versus: str | None = _text(
        "URL",
        "http(s)://… of the endpoint that --mooncake-url replaces: after the run both are measured in turns, and "
        "each metric is confirmed as slower, not slower or undecided",
        sets=("versus",),
        more="Model, key and header are those of --mooncake-url; how it is judged: [is this release "
        "slower](../explanation/regressions.md#step-two-the-confirmation)",
    )
    stack: str | None = _text(
        "NAME|PATH",
        "stack to start: 'local' (default: real vLLM + LMCache + Mooncake on this machine), 'simulated' (no model "
        "runs; to try things out), or a YAML file",
        sets=("stack",),
    )
    workload: str | None = _text(
        "NAME|PATH|trace:PATH",
        "prompts to send: 'long-document' (default: 30 requests of 16,384 tokens, 128 output tokens, concurrency "
        "4), 'kb-qa', 'customer-chat', 'code-assistant', 'mixed', a YAML file, or trace:PATH",
        sets=("workload",),
    )
    requests: str | None = _text(
        "N",
        "requests in a round, instead of the workload's",
        sets=("workload.requests",),
    )
    concurrency: str | None = _text(
        "N",
        "requests in flight, instead of the workload's",
        sets=("workload.concurrency",),
    )
    rate: str | None = _text(
        "RATE",
        "requests per second instead of a fixed number in flight: 5 or poisson:5, constant:5, gamma:5:BURSTINESS, "
        "ramp:1-10; with --mooncake-concurrency at most so many in flight",
        sets=("workload.arrivals",),
    )
    prompt_tokens: str | None = _text(
        "N",
        "tokens in a prompt, instead of the workload's",
        sets=("workload.prompt_tokens",),
    )
    output_tokens: str | None = _text(
        "N",
        "tokens to generate, instead of the workload's",
        sets=("workload.output_tokens",),
    )
    seed: str | None = _text(
        "N",
        "seed of the documents' text; nonces come from the run, never from the seed",
        sets=("workload.seed",),
    )
    trials: str | None = _text(
        "LOOKS",
        "after how many trials to look for a verdict (default 3,4,5,6,8,10), or one number",
        sets=("looks",),
    )
    quick: bool = _switch(
        "one trial, described; no verdict but INCONCLUSIVE: for trying things out",
        sets=("quick",),
        more="Exit code 0 unless the product is at fault",
    )
    sessions: str | None = _text(
        "N",
        "spread the trials over at least N starts of a stack that is started here, for release gates: what one "
        "start brings with it is seen",
        sets=("sessions",),
        more="It is stopped and started anew as often as it takes for every look to rest on at least N starts",
    )
    targets: str | None = _text(
        "NAME|PATH",
        "claims to test (default: TTFT -60 %%, throughput +150 %%, TPOT stable)",
        sets=("targets",),
    )
    economics: str | None = _text(
        "NAME|PATH",
        "costs from which the business case is computed",
        sets=("economics",),
    )
    hardware: str | None = _text(
        "PATH",
        "YAML file of the machines and the model (keys hardware, model, network_gbps as for 'pytest-mooncake "
        "judge'): what physics allows is audited and reported",
        sets=("machine",),
        more="Compute, bytes and time bounds are audited, and the report says how close the run came to what physics "
        "allows; the keys are those of [figures to judge](figures.md)",
    )
    goodput: str | None = _text(
        "LIMITS",
        "service level, such as ttft_p90_ms<=500,tpot_mean_ms<=20: requests per second that kept it are reported, "
        "cold and warm",
        sets=("targets.goodput",),
        more="How limits are written: [targets](targets.md)",
    )
    timeout: str | None = _text(
        "first-token=S,between-chunks=S,request=S,run=S",
        "limits in seconds; what passes one counts as failed",
        sets=("timeouts",),
    )
    model: str | None = _text(
        "NAME",
        "model to ask for, where the endpoint serves several",
        sets=("stack.model_name",),
    )
    api_key_env: str | None = _text(
        "VAR",
        "environment variable that holds the endpoint's API key",
        sets=("stack.api_key_env",),
    )
    header_env: str | None = _text(
        "VAR",
        "environment variable that holds one more header of every request, as 'Name: value'; never printed or recorded",
        sets=("stack.header_env",),
    )
    api: str | None = _text(
        "completions|chat|auto",
        "token ids to /v1/completions or text to /v1/chat/completions (default auto: the first where it is there)",
        sets=("api",),
    )
    workers: str | None = _text(
        "N|auto",
        "processes that send the requests (default 1; auto: one for every 128 in flight, at most one for every 2 CPUs)",
        sets=("workers",),
    )
    master: str | None = _text(
        "URL",
        "admin port of the Mooncake master, for the store's own counters (http://host:9003)",
        sets=("stack.master_url",),
    )
    metadata: str | None = _text(
        "URL",
        "metadata server of the store (http://host:8080/metadata)",
        sets=("stack.metadata_url",),
    )
    metrics: tuple[str, ...] = _repeated(
        "URL|none",
        "where the engines' counters are, if not at URL/metrics: repeat it for each process behind the endpoint "
        "(of several endpoints: one each in their order, or URL=METRICS_URL); none: they are not read",
        sets=("stack.metrics_urls",),
    )
    chunk_tokens: str | None = _text(
        "N",
        "tokens in a chunk of the cache of an endpoint that already runs, such as LMCache's chunk_size (default: "
        "found in the replies)",
        sets=("stack.chunk_tokens",),
        more="In the YAML of an attached stack it is `chunk_tokens:`. A size that is only assumed never makes a FAIL "
        "([evidence](../guide/evidence.md#how-large-a-chunk-is))",
    )
    evidence: str | None = _text(
        "RUNG",
        "least evidence that counts: store (default for a stack started here), engine, usage (default when "
        "attached), timing",
        sets=("evidence",),
    )
    settle: str | None = _text(
        "counters|fixed:S",
        "how to wait after a cold round until everything is stored: until the counters stand still (default), or S"
        " seconds by the clock",
        sets=("settle_fixed_s",),
    )
    store_budget: str | None = _text(
        "BYTES",
        "KV bytes that may lie in the store at once because of this run, such as 20GB (default: 20 %% of what is "
        "free in an attached store); above it nothing is sent. What an attached model stores a token is told by "
        "--mooncake-hardware: without it the budget cannot be kept, and that is said",
        sets=("store_budget_bytes",),
        more="It is said before anything is sent and in every report, and the run goes on; the keys of that file are "
        "`model.kv_bytes_per_token` or `model.config`",
    )
    allow_clear: str | None = _counted(
        "clear caches for real: the store before the first round, what is nearer before every warm round. Refused "
        "where the store holds keys of somebody else, unless given twice (ini: 1 or 2)",
        sets=("allow_clear",),
    )
    report: str | None = _text("DIR", "where the record and the reports go (default: mooncake-report/<run>)")
    lang: str | None = _text("en|zh", "language of the reports (default en)", sets=("lang",))
    label: str | None = _text("TEXT", "name of this run in reports and history", sets=("label",))
    history: str | None = _text(
        "URL",
        "store the judged run in this history: sqlite:///FILE, or postgresql://USER@HOST/DATABASE for a team",
        sets=("compares_release",),
        more="A relative FILE lies below the directory of invocation; a replay stores nothing",
    )
    baseline: str | None = _text(
        "LABEL",
        "label of the past release to compare with (without --mooncake-history: in mooncake-history.sqlite here)",
        sets=("compares_release",),
    )
    releases_per_year: str | None = _text(
        "N",
        "releases that go through this gate in a year, for the false alarms to expect (default 52)",
    )
    replay: str | None = _text("DIR", "judge and report a recorded run again; sends nothing")
    steady: bool = _switch(
        "steady state: the store is smaller than the working set and evicts; rounds must be served what an exact "
        "LRU of its size keeps",
        sets=("steady",),
        more="What such a round is: [what a round is](../explanation/rounds.md#steady-state)",
    )
    cold_tax: bool = _switch(
        "after the run, measure cold rounds on an engine without the connector too: what storing costs them, and "
        "the gain without it (only where the stack is started here)",
        sets=("cold_tax",),
    )
    keep_stack: bool = _switch(
        "leave a stack that was started here running for the next run (pytest-mooncake stack down stops it)",
        sets=("keep_stack",),
    )
    dry_run: bool = _switch(
        "print the plan: what would start, be sent and stored, and how long; send nothing",
    )

    @property
    def any_given(self) -> bool:
        """Whether at least one option or ini value was given."""
        return any(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One option, as its field in `Options` declares it."""

    field: str
    value: Value
    metavar: str
    """What stands for its value in `--help`."""
    help: str
    """One sentence without a full stop; `%%` is a per cent sign, as argparse wants it."""
    sets: tuple[str, ...]
    """Fields of the plan that it sets (`workload.requests`); none where it is no part of the plan."""
    more: str
    """What the reference page says beyond the help, in Markdown."""

    @property
    def flag(self) -> str:
        """The command-line flag, e.g. `--mooncake-prompt-tokens`."""
        return f"--{PREFIX}-{self.field.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """The ini key, e.g. `mooncake_prompt_tokens`."""
        return f"{PREFIX}_{self.field}"


def _declared(name: str, about: _About) -> Declared:
    return Declared(
        field=name, value=about.value, metavar=about.metavar, help=about.help, sets=about.sets, more=about.more
    )


DECLARED: tuple[Declared, ...] = tuple(_declared(f.name, f.metadata[PREFIX]) for f in fields(Options))
