"""From what the user typed to a plan that makes sense, or one line that says why it does not."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.gates import planned_gates
from pytest_mooncake.plan.models import EconomicsPlan, Plan, StackPlan, TargetsPlan, Timeouts, WorkloadPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.parsing.arrivals import parse_rate
from pytest_mooncake.plan.parsing.quantities import parse_bytes, parse_settle
from pytest_mooncake.plan.permissions import check_permissions, checked_stack
from pytest_mooncake.plan.sources.chunk_tokens import with_chunk_tokens
from pytest_mooncake.plan.sources.counters import FLAG, NONE, metrics_places
from pytest_mooncake.plan.sources.endpoints import STORE_SCHEME, check_store_url, check_url, versus_of
from pytest_mooncake.plan.sources.hardware import read_machine
from pytest_mooncake.plan.sources.lookup import find
from pytest_mooncake.plan.sources.workload import workload_of
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.plan.targets.sample_sizes import refuse_hopeless_claims
from pytest_mooncake.plan.targets.slo import parse_goodput
from pytest_mooncake.records import Rung

T = TypeVar("T")

DEFAULT_LOOKS = (3, 4, 5, 6, 8, 10)
MOST_TRIALS = 100
MOST_WORKERS = 64
_ATTACHED_ONLY = ("model", "api_key_env", "header_env", "master", "metadata", "metrics")
_TIMEOUTS = ("first-token", "between-chunks", "request", "run")


def resolve(options: Options, invocation_dir: Path, *, run_id: str | None = None) -> Plan:
    """The plan that `options` ask for.

    Raises:
        UsageError: an option is unknown, contradictory or out of range (PlanError: a YAML file is).
    """
    _refuse_contradictions(options)
    stack = with_chunk_tokens(_stack(options, invocation_dir), options.chunk_tokens)
    workload = _arriving(workload_of(options, invocation_dir), options)
    targets, looks = targets_of(options, invocation_dir), _looks(options.trials)
    if not options.quick:
        refuse_hopeless_claims(targets, workload.requests, looks)
    plan = Plan(
        run_id=run_id or new_run_id(),
        label=options.label,
        stack=stack,
        workload=workload,
        targets=targets,
        economics=economics_of(options, invocation_dir),
        machine=read_machine(options.hardware, invocation_dir) if options.hardware else None,
        looks=looks,
        quick=options.quick,
        sessions=_sessions(options, looks),
        evidence=_rung(options.evidence, stack),
        settle_fixed_s=parse_settle(options.settle or "counters"),
        store_budget_bytes=_budget(options.store_budget),
        allow_clear=_allow_clear(options.allow_clear),
        timeouts=_timeouts(options.timeout),
        api=_api(options.api),
        workers=_workers(options.workers),
        lang=lang_of(options.lang),
        keep_stack=options.keep_stack,
        steady=_steady(options, stack),
        cold_tax=_cold_tax(options.cold_tax, stack),
        versus=versus_of(options.versus, stack),
        compares_release=bool(options.history or options.baseline),
    )
    check_permissions(plan)
    return plan.model_copy(update={"gates": planned_gates(plan)})


def new_run_id() -> str:
    """A name for a run that sorts by time and is never given twice: `20261124-231501-4fa9c2`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _stem(value: str | None) -> str:
    return Path(value).stem if value else "default"


def _refuse_contradictions(options: Options) -> None:
    if options.url and options.stack and not _names_store(options):
        raise UsageError(
            "--mooncake-url attaches to what already runs and --mooncake-stack starts one: give only one of them"
        )
    if options.quick and options.trials:
        raise UsageError(
            "--mooncake-quick is one trial without a verdict: leave out --mooncake-trials, or --mooncake-quick"
        )
    orphan = next((name for name in _ATTACHED_ONLY if getattr(options, name)), None)
    if orphan and not options.url:
        flag = f"--mooncake-{orphan.replace('_', '-')}"
        raise UsageError(f"{flag} describes what already runs: give --mooncake-url as well")


def _names_store(options: Options) -> bool:
    """Whether `--mooncake-url` names a store that runs, not engines."""
    return any(url.startswith(STORE_SCHEME) for url in options.url)


def _on_running_store(options: Options, invocation_dir: Path) -> StackPlan:
    """Engines of a local stack, started here against a store that runs."""
    if len(options.url) > 1:
        raise UsageError(
            f"--mooncake-url {options.url[0]}: a store is named alone; engines are started here against it"
        )
    orphan = next((name for name in ("model", "api_key_env", "header_env", "metrics") if getattr(options, name)), None)
    if orphan:
        flag = f"--mooncake-{orphan.replace('_', '-')}"
        raise UsageError(f"{flag} describes engines that run; with {STORE_SCHEME}host:port they are started here")
    check_store_url("--mooncake-url", options.url[0])
    for flag, given in (("master", options.master), ("metadata", options.metadata)):
        if given:
            check_url(f"--mooncake-{flag}", given)
    name = options.stack or "local"
    stack = load(find("stacks", name, invocation_dir), StackPlan, name=_stem(name))
    if stack.kind != "local":
        raise UsageError(f"--mooncake-stack {name}: only a local stack's engines can join a running store")
    joined = {"store_url": options.url[0].rstrip("/"), "master_url": options.master, "metadata_url": options.metadata}
    return stack.model_copy(update={**joined, "isolate": "never"})


def _stack(options: Options, invocation_dir: Path) -> StackPlan:
    if _names_store(options):
        return _on_running_store(options, invocation_dir)
    if not options.url:
        name = options.stack or "local"
        return checked_stack(load(find("stacks", name, invocation_dir), StackPlan, name=_stem(name)))
    for url in options.url:
        check_url("--mooncake-url", url)
    metrics_places(options.url, options.metrics)  # refuses wrong addresses before any server is asked
    for flag, given in (("master", options.master), ("metadata", options.metadata)):
        if given:
            check_url(f"--mooncake-{flag}", given)
    return StackPlan(
        name="attached",
        kind="attached",
        urls=options.url,
        model_name=options.model,
        api_key_env=options.api_key_env,
        header_env=options.header_env,
        master_url=options.master,
        metadata_url=options.metadata,
        metrics_urls=options.metrics,
    )


def economics_of(options: Options, invocation_dir: Path) -> EconomicsPlan:
    """The costs that `options` name, else the packed example."""
    path = find("economics", options.economics or "default", invocation_dir)
    return load(path, EconomicsPlan, name=_stem(options.economics))


def targets_of(options: Options, invocation_dir: Path) -> TargetsPlan:
    """The claims that `options` ask for: a targets file, and the service level that goodput counts by.

    Raises:
        UsageError: the service level cannot be read (PlanError: the file cannot).
    """
    path = find("targets", options.targets or "default", invocation_dir)
    return with_goodput(load(path, TargetsPlan, name=_stem(options.targets)), options.goodput)


def with_goodput(targets: TargetsPlan, text: str | None) -> TargetsPlan:
    """The targets with the service level of `--mooncake-goodput`, where one is given."""
    if text is None:
        return targets
    try:
        return targets.with_goodput(parse_goodput(text))
    except ValueError as error:
        raise UsageError(f"--mooncake-goodput: {error}") from None


def _looks(text: str | None) -> tuple[int, ...]:
    if text is None:
        return DEFAULT_LOOKS
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UsageError(f"--mooncake-trials {text}: expected numbers of trials like 3,4,5,6,8,10, or one number")
    looks = tuple(int(part) for part in parts)
    if looks != tuple(sorted(set(looks))) or looks[0] < 2 or looks[-1] > MOST_TRIALS:
        raise UsageError(
            f"--mooncake-trials {text}: looks must rise, start at 2 or more (one trial has no spread: "
            f"--mooncake-quick) and end at {MOST_TRIALS} or less"
        )
    return looks


def _sessions(options: Options, looks: tuple[int, ...]) -> int:
    if options.sessions is None:
        return 1
    flag = f"--mooncake-sessions {options.sessions}"
    if not options.sessions.isdigit() or int(options.sessions) < 1:
        raise UsageError(f"{flag}: expected a number of engine starts, at least 1")
    if int(options.sessions) == 1:
        return 1
    other = next((name for name in ("quick", "keep_stack") if getattr(options, name)), None)
    if other:
        raise UsageError(f"{flag} starts the stack several times: leave out --mooncake-{other.replace('_', '-')}")
    if int(options.sessions) > looks[0]:
        raise UsageError(
            f"{flag}: the first look comes after {looks[0]} trials, one a start is needed; "
            f"give --mooncake-trials with a first look of {options.sessions} or more"
        )
    return int(options.sessions)


def _rung(text: str | None, stack: StackPlan) -> Rung:
    if text is None:
        return Rung.USAGE if stack.kind == "attached" else Rung.STORE
    rung = _choice("--mooncake-evidence", text, {rung.value: rung for rung in Rung})
    if rung is Rung.ENGINE and tuple(map(str.lower, stack.metrics_urls)) == (NONE,):
        raise UsageError(
            f"--mooncake-evidence engine asks for the engines' counters, which {FLAG} none leaves unread: "
            "leave one of both out"
        )
    return rung


def _budget(text: str | None) -> int | None:
    return parse_bytes("--mooncake-store-budget", text) if text else None


def _allow_clear(times: str | None) -> Literal["none", "own", "everything"]:
    known: dict[str, Literal["none", "own", "everything"]] = {"0": "none", "1": "own", "2": "everything"}
    if (times or "0") not in known:
        raise UsageError(
            f"--mooncake-allow-clear was given {times} times: once clears caches that hold nobody else's keys, "
            "twice everybody's"
        )
    return known[times or "0"]


def _steady(options: Options, stack: StackPlan) -> bool:
    """A steady state needs a store to fill; whether it may be filled, `plan.permissions` says."""
    if options.steady and stack.connector.kind == "none":
        raise UsageError(f"--mooncake-steady: the stack {stack.name!r} has no connector, so there is no store to fill")
    return options.steady


def _cold_tax(wanted: bool, stack: StackPlan) -> bool:
    if wanted and stack.connector.kind == "none":
        raise UsageError(f"--mooncake-cold-tax: the stack {stack.name!r} has no connector, so it pays no cold tax")
    return wanted


def lang_of(text: str | None) -> str:
    """The language of the reports."""
    return _choice("--mooncake-lang", text or "en", {"en": "en", "zh": "zh"})


def _choice(flag: str, text: str, known: Mapping[str, T]) -> T:
    if text not in known:
        raise UsageError(f"{flag} {text}: expected one of {', '.join(known)}")
    return known[text]


def _arriving(workload: WorkloadPlan, options: Options) -> WorkloadPlan:
    """The workload, with the times of sending that `--mooncake-rate` asks for."""
    if options.rate is None:
        return workload
    if workload.trace is not None and workload.trace.schedule == "recorded":
        raise UsageError(
            "--mooncake-rate: a trace is sent at its recorded times; speed=2 in trace:PATH?speed=2 scales them"
        )
    try:
        arrivals = parse_rate(options.rate)
    except ValueError as error:
        raise UsageError(f"--mooncake-rate {options.rate}: {error}") from None
    cap = workload.concurrency if options.concurrency is not None else None
    return workload.model_copy(update={"arrivals": arrivals.model_copy(update={"cap": cap})})


def _api(text: str | None) -> Literal["completions", "chat", "auto"]:
    known: dict[str, Literal["completions", "chat", "auto"]] = {
        "completions": "completions",
        "chat": "chat",
        "auto": "auto",
    }
    return _choice("--mooncake-api", text or "auto", known)


def _workers(text: str | None) -> int | Literal["auto"]:
    if text is None or text == "auto":
        return "auto" if text else 1
    if text == "ray":
        raise UsageError("--mooncake-workers ray: workers on a Ray cluster are not built yet; give a number or auto")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_WORKERS):
        raise UsageError(f"--mooncake-workers {text}: expected 1 to {MOST_WORKERS} processes, or auto")
    return int(text)


def _timeouts(text: str | None) -> Timeouts:
    values: dict[str, float] = {}
    for part in text.split(",") if text else ():
        key, _, number = part.strip().partition("=")
        flag = f"--mooncake-timeout {part.strip()}"
        if key not in _TIMEOUTS:
            raise UsageError(f"{flag}: expected {', '.join(f'{k}=S' for k in _TIMEOUTS)}")
        values[f"{key.replace('-', '_')}_s"] = _seconds(flag, number)
    return Timeouts(**values)


def _seconds(flag: str, text: str) -> float:
    parse: Callable[[str], float] = float
    try:
        seconds = parse(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{flag}: expected seconds above 0")
    return seconds
