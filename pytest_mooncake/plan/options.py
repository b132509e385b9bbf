"""The `--mooncake-*` options and their ini twins: declared once, parsed once into a frozen value.

Imported at plugin load, so only the standard library is used here. Meaning and validation live in `plan.resolve`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

PREFIX = "mooncake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for, as text; `None` or empty means not given. Nothing is validated yet."""

    url: tuple[str, ...] = ()
    versus: str | None = None
    stack: str | None = None
    workload: str | None = None
    requests: str | None = None
    concurrency: str | None = None
    rate: str | None = None
    prompt_tokens: str | None = None
    output_tokens: str | None = None
    seed: str | None = None
    trials: str | None = None
    quick: bool = False
    sessions: str | None = None
    targets: str | None = None
    economics: str | None = None
    goodput: str | None = None
    hardware: str | None = None
    timeout: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    header_env: str | None = None
    api: str | None = None
    workers: str | None = None
    master: str | None = None
    metadata: str | None = None
    metrics: tuple[str, ...] = ()
    chunk_tokens: str | None = None
    evidence: str | None = None
    settle: str | None = None
    store_budget: str | None = None
    allow_clear: str | None = None
    report: str | None = None
    lang: str | None = None
    label: str | None = None
    history: str | None = None
    baseline: str | None = None
    releases_per_year: str | None = None
    replay: str | None = None
    steady: bool = False
    cold_tax: bool = False
    keep_stack: bool = False
    dry_run: bool = False

    @property
    def any_given(self) -> bool:
        """Whether at least one option or ini value was given."""
        return any(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, slots=True)
class Declared:
    """One option: its field in `Options`, what stands for its value in `--help`, and what it means."""

    field: str
    metavar: str
    help: str

    @property
    def flag(self) -> str:
        """The command-line flag, e.g. `--mooncake-prompt-tokens`."""
        return f"--{PREFIX}-{self.field.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """The ini key, e.g. `mooncake_prompt_tokens`."""
        return f"{PREFIX}_{self.field}"


DECLARED: tuple[Declared, ...] = (
    Declared(
        "url",
        "URL",
        "http(s)://… of an OpenAI-compatible endpoint that already runs (repeat for several engines on "
        "one store). Absent: the stack is started here",
    ),
    Declared(
        "versus",
        "URL",
        "http(s)://… of the endpoint that --mooncake-url replaces: after the run both are measured in turns, and each "
        "metric is confirmed as slower, not slower or undecided",
    ),
    Declared(
        "stack",
        "NAME|PATH",
        "stack to start: 'local' (default: real vLLM + LMCache + Mooncake on this machine), "
        "'simulated' (no model runs; to try things out), or a YAML file",
    ),
    Declared(
        "workload",
        "NAME|PATH|trace:PATH",
        "prompts to send: 'long-document' (default: 30 requests of 16,384 tokens, 128 output tokens, concurrency 4), "
        "'kb-qa', 'customer-chat', 'code-assistant', 'mixed', a YAML file, or trace:PATH",
    ),
    Declared("requests", "N", "requests in a round, instead of the workload's"),
    Declared("concurrency", "N", "requests in flight, instead of the workload's"),
    Declared(
        "rate",
        "RATE",
        "requests per second instead of a fixed number in flight: 5 or poisson:5, constant:5, gamma:5:BURSTINESS, "
        "ramp:1-10; with --mooncake-concurrency at most so many in flight",
    ),
    Declared("prompt_tokens", "N", "tokens in a prompt, instead of the workload's"),
    Declared("output_tokens", "N", "tokens to generate, instead of the workload's"),
    Declared("seed", "N", "seed of the documents' text; nonces come from the run, never from the seed"),
    Declared("trials", "LOOKS", "after how many trials to look for a verdict (default 3,4,5,6,8,10), or one number"),
    Declared("quick", "", "one trial, described; no verdict but INCONCLUSIVE: for trying things out"),
    Declared(
        "sessions",
        "N",
        "spread the trials over at least N starts of the stack (release gates: what one start brings with it is seen)",
    ),
    Declared("targets", "NAME|PATH", "claims to test (default: TTFT -60 %%, throughput +150 %%, TPOT stable)"),
    Declared("economics", "NAME|PATH", "costs from which the business case is computed"),
    Declared(
        "hardware",
        "PATH",
        "YAML file of the machines and the model (keys hardware, model, network_gbps as for 'pytest-mooncake judge'): "
        "what physics allows is audited and reported",
    ),
    Declared(
        "goodput",
        "LIMITS",
        "service level, such as ttft_p90_ms<=500,tpot_mean_ms<=20: requests per second that kept it are reported",
    ),
    Declared(
        "timeout",
        "first-token=S,between-chunks=S,request=S,run=S",
        "limits in seconds; what passes one counts as failed",
    ),
    Declared("model", "NAME", "model to ask for, where the endpoint serves several"),
    Declared("api_key_env", "VAR", "environment variable that holds the endpoint's API key"),
    Declared(
        "header_env",
        "VAR",
        "environment variable that holds one more header of every request, as 'Name: value'; never printed or recorded",
    ),
    Declared(
        "api",
        "completions|chat|auto",
        "token ids to /v1/completions or text to /v1/chat/completions (default auto: the first where it is there)",
    ),
    Declared(
        "workers",
        "N|auto",
        "processes that send the requests (default 1; auto: one for every 128 in flight, at most one for every 2 CPUs)",
    ),
    Declared("master", "URL", "admin port of the Mooncake master, for the store's own counters (http://host:9003)"),
    Declared("metadata", "URL", "metadata server of the store (http://host:8080/metadata)"),
    Declared(
        "metrics",
        "URL|none",
        "where the engines' counters are, if not at URL/metrics: repeat it for each process behind the endpoint "
        "(of several endpoints: one each in their order, or URL=METRICS_URL); none: they are not read",
    ),
    Declared(
        "chunk_tokens",
        "N",
        "tokens in a chunk of the cache of an endpoint that already runs, such as LMCache's chunk_size (default: found "
        "in the replies)",
    ),
    Declared(
        "evidence",
        "RUNG",
        "least evidence that counts: store (default for a stack started here), engine, usage "
        "(default when attached), timing",
    ),
    Declared(
        "settle",
        "counters|fixed:S",
        "how to wait after a cold round until everything is stored: until the counters stand still (default), or "
        "S seconds by the clock",
    ),
    Declared(
        "store_budget",
        "BYTES",
        "KV bytes that may lie in the store at once because of this run, such as 20GB (default: 20 %% of what is free "
        "in an attached store); above it nothing is sent. What an attached model stores a token is told by "
        "--mooncake-hardware: without it the budget cannot be kept, and that is said",
    ),
    Declared(
        "allow_clear",
        "",
        "clear caches for real: the store before the first round, what is nearer before every warm round. Refused "
        "where the store holds keys of somebody else, unless given twice (ini: 1 or 2)",
    ),
    Declared("report", "DIR", "where the record and the reports go (default: mooncake-report/<run>)"),
    Declared("lang", "en|zh", "language of the reports (default en)"),
    Declared("label", "TEXT", "name of this run in reports and history"),
    Declared(
        "history",
        "URL",
        "store the judged run in this history: sqlite:///FILE, or postgresql://USER@HOST/DATABASE for a team",
    ),
    Declared(
        "baseline",
        "LABEL",
        "label of the past release to compare with (without --mooncake-history: in mooncake-history.sqlite here)",
    ),
    Declared(
        "releases_per_year",
        "N",
        "releases that go through this gate in a year, for the false alarms to expect (default 52)",
    ),
    Declared("replay", "DIR", "judge and report a recorded run again; sends nothing"),
    Declared(
        "steady",
        "",
        "steady state: the store is smaller than the working set and evicts; rounds must be served what an exact LRU "
        "of its size keeps",
    ),
    Declared(
        "cold_tax",
        "",
        "after the run, measure cold rounds on an engine without the connector too: what storing costs them, and the "
        "gain without it (only where the stack is started here)",
    ),
    Declared(
        "keep_stack",
        "",
        "leave a stack that was started here running for the next run (pytest-mooncake stack down stops it)",
    ),
    Declared("dry_run", "", "print the plan: what would start, be sent and stored, and how long; send nothing"),
)
_BOOLEAN = {"quick", "steady", "cold_tax", "keep_stack", "dry_run"}
_REPEATED = {"url", "metrics"}
_COUNTED = {"allow_clear"}


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini value with pytest."""
    group = parser.getgroup(PREFIX, "mooncake: accept or reject a KV cache (vLLM + LMCache + Mooncake)")
    for declared in DECLARED:
        dest = declared.ini
        if declared.field in _BOOLEAN:
            group.addoption(declared.flag, dest=dest, action="store_true", default=None, help=declared.help)
            parser.addini(dest, f"see {declared.flag}", type="bool", default=False)
        elif declared.field in _COUNTED:
            group.addoption(declared.flag, dest=dest, action="count", default=None, help=declared.help)
            parser.addini(dest, f"see {declared.flag}", default="")
        elif declared.field in _REPEATED:
            group.addoption(
                declared.flag, dest=dest, action="append", default=None, metavar=declared.metavar, help=declared.help
            )
            parser.addini(dest, f"see {declared.flag}", type="linelist", default=[])
        else:
            group.addoption(declared.flag, dest=dest, default=None, metavar=declared.metavar, help=declared.help)
            parser.addini(dest, f"see {declared.flag}", default="")


def options_of(config: pytest.Config) -> Options:
    """What was given on the command line, else in the ini file."""

    def value(declared: Declared) -> Any:
        given = config.getoption(declared.ini)
        text = given if given is not None else config.getini(declared.ini)
        if declared.field in _BOOLEAN:
            return bool(text)
        if declared.field in _COUNTED:
            return str(text) if text else None
        return tuple(text) if declared.field in _REPEATED else text or None

    values: dict[str, Any] = {declared.field: value(declared) for declared in DECLARED}
    return Options(**values)


def invocation_dir(config: pytest.Config) -> Path:
    """The directory pytest was called in: relative paths and the default report directory start there."""
    return config.invocation_params.dir
