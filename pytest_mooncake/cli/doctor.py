"""`pytest-mooncake doctor`: lint a stack's configuration, from files or from what runs, before anything is measured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_mooncake.cli.saying import say
from pytest_mooncake.errors import ExitCode, UsageError
from pytest_mooncake.stack.preflight import RULES, Ending, Examination, Intent, LintFinding, Severity, Subject, examine
from pytest_mooncake.stack.preflight.rule import page_of
from pytest_mooncake.stack.preflight.sources.files import Files, model_config_of, read_files
from pytest_mooncake.stack.preflight.sources.stack import subject_of_files

if TYPE_CHECKING:
    from pytest_mooncake.stack.preflight import WorkloadShape
    from pytest_mooncake.stack.preflight.sources.live import Shown

__all__ = ["doctor"]

PARTS = ("vllm", "lmcache", "mooncake", "mooncake-master")


class Planned(StrEnum):
    """What a run may do beyond measuring, as `--planned` names it."""

    CLEAR = "clear"
    RESET_EXTERNAL = "reset-external"
    FAULTS = "faults"
    TENANTS = "tenants"


VllmArgs = Annotated[
    list[Path] | None,
    typer.Option(help="File with an engine's command, `VAR=… vllm serve MODEL …`, or the script that runs it."),
]
LMCacheYaml = Annotated[list[Path] | None, typer.Option(help="LMCache's YAML; one for all engines, or one for each.")]
MooncakeJson = Annotated[
    list[Path] | None,
    typer.Option(help="The file that MOONCAKE_CONFIG_PATH names; one for all engines, or one for each."),
]
MasterFlags = Annotated[Path | None, typer.Option(help="File with mooncake_master's command.")]
ServerArgs = Annotated[
    Path | None, typer.Option(help="File with the command of LMCache's MP server, `lmcache server …`.")
]
ModelConfig = Annotated[Path | None, typer.Option(help="The model's config.json.")]
Manifests = Annotated[
    list[Path] | None,
    typer.Option(help="Kubernetes manifest (a rendered chart), compose file or systemd unit; repeatable."),
]
Versions = Annotated[
    list[str] | None,
    typer.Option(help="PART=VERSION, PART one of vllm, lmcache, mooncake, mooncake-master; repeatable."),
]
Workload = Annotated[str | None, typer.Option(help="NAME or PATH of what will be sent.")]
Here = Annotated[
    bool, typer.Option("--here", help="The engines run on this machine: look at its memory and RDMA devices.")
]
Plans = Annotated[list[Planned] | None, typer.Option(help="What the run is going to do; repeatable.")]
Urls = Annotated[
    list[str] | None, typer.Option("--url", "--mooncake-url", help="An engine that runs, to be asked; repeatable.")
]
Master = Annotated[
    str | None, typer.Option("--master", "--mooncake-master", help="Admin port of the Mooncake master that runs.")
]
Rules = Annotated[bool, typer.Option("--rules", help="Print what is looked for, as Markdown, and nothing else.")]


def doctor(
    vllm_args: VllmArgs = None,
    lmcache_yaml: LMCacheYaml = None,
    mooncake_json: MooncakeJson = None,
    master_flags: MasterFlags = None,
    lmcache_server_args: ServerArgs = None,
    model_config: ModelConfig = None,
    manifest: Manifests = None,
    version: Versions = None,
    workload: Workload = None,
    here: Here = False,
    planned: Plans = None,
    url: Urls = None,
    master: Master = None,
    rules: Rules = False,
) -> None:
    """Name what is wrong with a configuration: what, why it matters, the fix. Exit code 1 when there are errors."""
    if rules:
        typer.echo(page_of(RULES.values()), nl=False)
        return
    files = Files(
        vllm_args=tuple(vllm_args or ()),
        lmcache_yaml=tuple(lmcache_yaml or ()),
        mooncake_json=tuple(mooncake_json or ()),
        master_flags=master_flags,
        lmcache_server_args=lmcache_server_args,
        model_config=model_config,
        manifests=tuple(manifest or ()),
    )
    intent = _intent(frozenset(planned or ()), shared=True)
    versions = _versions(version or [])
    subject = _of_files(files, versions, workload, intent, here=here) if files else None
    if url or master:
        subject = _of_servers(tuple(url or ()), master, subject, intent)
    elif subject is None:
        subject = _of_kept_stack()
    _tell(examine(subject))


def _tell(examination: Examination) -> None:
    say(lines(examination))
    if any(finding.severity is Severity.ERROR for finding in examination.findings):
        raise typer.Exit(ExitCode.FAIL)


def lines(examination: Examination) -> Iterator[str]:
    """The findings as people read them, what could not be judged and why, and how many there are of each."""
    for finding in examination.findings:
        yield from _lines_of(finding)
    wanted: dict[tuple[str, ...], list[str]] = {}
    for outcome in examination.outcomes:
        if outcome.ending is Ending.NOT_APPLIED:
            wanted.setdefault(outcome.give, []).append(outcome.id)
    for give, ids in wanted.items():
        yield f"could not be applied: {', '.join(ids)}: give {', '.join(give)}"
    counted = {severity: sum(f.severity is severity for f in examination.findings) for severity in Severity}
    yield (
        f"{counted[Severity.ERROR]} errors, {counted[Severity.WARNING]} warnings, {counted[Severity.NOTE]} notes; "
        f"of {len(examination.outcomes)} rules {examination.count(Ending.APPLIED)} applied, "
        f"{examination.count(Ending.NOT_APPLICABLE)} not applicable, "
        f"{examination.count(Ending.NOT_APPLIED)} could not be applied"
    )


def _lines_of(finding: LintFinding) -> Iterator[str]:
    where = f" ({finding.where})" if finding.where else ""
    yield f"{finding.id} {finding.severity}: {finding.what}{where}"
    yield f"    why  {finding.why}"
    yield f"    fix  {finding.fix}"


def _intent(planned: frozenset[Planned], *, shared: bool) -> Intent:
    return Intent(
        production=True,
        shared_store=shared,
        removes_all=Planned.CLEAR in planned,
        resets_external=Planned.RESET_EXTERNAL in planned,
        injects_faults=Planned.FAULTS in planned,
        separates_tenants=Planned.TENANTS in planned,
    )


def _versions(given: list[str]) -> dict[str, str]:
    found = dict(text.partition("=")[::2] for text in given)
    wrong = next((part for part, number in found.items() if part not in PARTS or not number), None)
    if wrong is not None:
        raise UsageError(f"--version {wrong}: expected PART=VERSION with PART one of {', '.join(PARTS)}")
    return found


def _of_files(
    files: Files, versions: Mapping[str, str], workload: str | None, intent: Intent, *, here: bool
) -> Subject:
    """Everything that a user's files tell.

    Raises:
        UsageError: the files do not go together.
        PlanError: a file cannot be read, or holds something else.
    """
    from pytest_mooncake.run.preflight import this_host

    config = model_config_of(files.model_config) if files.model_config else None
    told = read_files(files)
    host = this_host() if here else None
    subject = subject_of_files(told, versions=versions, model_config=config, intent=intent, host=host)
    chunk_tokens = subject.kv.chunk_tokens if subject.kv else None
    return replace(subject, workload=_shape(workload, chunk_tokens)) if workload else subject


def _shape(workload: str, chunk_tokens: int | None) -> WorkloadShape | None:
    from pytest_mooncake.plan.options import Options
    from pytest_mooncake.plan.resolve import resolve
    from pytest_mooncake.run.preflight import shape_with
    from pytest_mooncake.workload.build import CHUNK_TOKENS

    plan = resolve(Options(workload=workload), Path.cwd())
    return shape_with(plan.workload, chunk_tokens or CHUNK_TOKENS)


def _of_servers(urls: tuple[str, ...], master: str | None, files: Subject | None, intent: Intent) -> Subject:
    """Ask what runs, say what it is and shows, and return the stack: the files' one where files were given too."""
    from pytest_mooncake.plan.options import Options
    from pytest_mooncake.plan.resolve import resolve
    from pytest_mooncake.run.preflight import shown_by_engines, shown_by_master, subject_of
    from pytest_mooncake.stack.attach import attach

    async def ask() -> Subject:
        seen = await shown_by_master(master) if master else None
        _say((seen,) if seen else ())
        live = Subject(intent=intent)
        if urls:
            plan = resolve(Options(url=urls, master=master), Path.cwd())
            view = await attach(plan.stack, environ=os.environ, progress=lambda line: typer.echo(line, err=True))
            _say(await shown_by_engines(plan, view, os.environ))
            live = await subject_of(plan, view, os.environ)
        known = replace(intent, foreign_keys=seen.keys if seen else None)
        return replace(files, intent=known) if files else replace(live, intent=_both(live.intent, known))

    return asyncio.run(ask())


def _both(told: Intent, asked: Intent) -> Intent:
    """What the plan of a run does by itself, and what was asked for."""
    return replace(
        told,
        removes_all=told.removes_all or asked.removes_all,
        resets_external=asked.resets_external,
        injects_faults=asked.injects_faults,
        separates_tenants=asked.separates_tenants,
        foreign_keys=asked.foreign_keys,
    )


def _say(seen: tuple[Shown, ...]) -> None:
    for one in seen:
        for line in one.lines:
            typer.echo(line)


def _of_kept_stack() -> Subject:
    """Look at the stack that was left running.

    Raises:
        UsageError: there is none, and nothing else was named.
    """
    from pytest_mooncake.plan.options import Options
    from pytest_mooncake.plan.resolve import resolve
    from pytest_mooncake.run.preflight import subject_of
    from pytest_mooncake.stack import persistent

    view = persistent.status()
    if view is None:
        raise UsageError(
            "nothing to look at: give --url of an engine that runs, or files (--vllm-args, --lmcache-yaml, "
            "--mooncake-json, --master-flags, --lmcache-server-args, --manifest), or start a stack with "
            "`pytest-mooncake stack up`"
        )
    return asyncio.run(subject_of(resolve(Options(), Path.cwd()), view, os.environ))
