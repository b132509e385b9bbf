"""`pytest-mooncake doctor`: lint a stack's configuration, from files or from what runs, before anything is measured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from pytest_mooncake.cache.preflight import Finding, Intent, Severity, Subject, lint
from pytest_mooncake.cache.preflight.reading import engine_of_command, flags_of, mapping_of, split_command
from pytest_mooncake.errors import PlanError, UsageError

__all__ = ["doctor"]

T = TypeVar("T")
Files = list[Path]


def doctor(
    vllm_args: Annotated[
        Files | None, typer.Option(help="File with an engine's command, `VAR=… vllm serve MODEL …`; one per engine.")
    ] = None,
    lmcache_yaml: Annotated[
        Files | None, typer.Option(help="LMCache's YAML; one for all engines, or one for each.")
    ] = None,
    mooncake_json: Annotated[
        Files | None,
        typer.Option(help="The file that MOONCAKE_CONFIG_PATH names; one for all engines, or one for each."),
    ] = None,
    master_flags: Annotated[Path | None, typer.Option(help="File with mooncake_master's command.")] = None,
    version: Annotated[
        list[str] | None,
        typer.Option(help="PART=VERSION, PART one of vllm, lmcache, mooncake, mooncake-master; repeatable."),
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option("--url", "--mooncake-url", help="An engine that runs, to be asked; repeatable.")
    ] = None,
    master: Annotated[
        str | None, typer.Option("--master", "--mooncake-master", help="Admin port of the Mooncake master that runs.")
    ] = None,
) -> None:
    """Name what is wrong with a configuration: what, why it matters, the fix. Exit code 1 when there are errors."""
    if url:
        found = _of_servers(tuple(url), master)
    elif vllm_args or lmcache_yaml or mooncake_json or master_flags:
        found = lint(subject_of_files(vllm_args or [], lmcache_yaml or [], mooncake_json or [], master_flags, version))
    else:
        found = _of_kept_stack()
    for line in lines(found):
        typer.echo(line)
    if any(finding.severity is Severity.ERROR for finding in found):
        raise typer.Exit(1)


def lines(found: tuple[Finding, ...]) -> Iterator[str]:
    """The findings as people read them, and how many there are."""
    for finding in found:
        yield f"{finding.id} {finding.severity}: {finding.what}"
        yield f"    why  {finding.why}"
        yield f"    fix  {finding.fix}"
    errors = sum(finding.severity is Severity.ERROR for finding in found)
    yield f"{errors} errors, {len(found) - errors} warnings"


def subject_of_files(
    vllm_args: Files,
    lmcache_yaml: Files,
    mooncake_json: Files,
    master_flags: Path | None,
    versions: list[str] | None,
) -> Subject:
    """Everything that a user's files tell.

    Raises:
        UsageError: the files do not go together, or a version cannot be read.
        PlanError: a file cannot be read, or holds something else.
    """
    count = max(len(vllm_args), len(lmcache_yaml), len(mooncake_json), 1)
    commands = [split_command(_text(path), str(path)) for path in vllm_args]
    lmcache = [mapping_of(_text(path), str(path)) for path in lmcache_yaml]
    mooncake = [mapping_of(_text(path), str(path)) for path in mooncake_json]
    engines = []
    for index in range(count):
        env, words = _one_of(commands, index, "--vllm-args") or ({}, ())
        engine = engine_of_command(
            words,
            env,
            name=f"engine {index}",
            lmcache=_one_of(lmcache, index, "--lmcache-yaml"),
            mooncake=_one_of(mooncake, index, "--mooncake-json"),
        )
        engines.append(engine)
    flags = flags_of(split_command(_text(master_flags), str(master_flags))[1]) if master_flags else None
    return Subject(
        engines=tuple(engines), versions=_versions(versions or []), master_flags=flags, intent=Intent(production=True)
    )


def _one_of(values: list[T], index: int, flag: str) -> T | None:
    if not values:
        return None
    if len(values) == 1:
        return values[0]
    if index >= len(values):
        raise UsageError(f"{flag} was given {len(values)} times and there are more engines: give it once, or for each")
    return values[index]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise PlanError(f"{path}: cannot be read ({getattr(problem, 'strerror', None) or problem})") from None


def _versions(given: list[str]) -> dict[str, str]:
    known = ("vllm", "lmcache", "mooncake", "mooncake-master")
    found = dict(text.partition("=")[::2] for text in given)
    wrong = next((part for part, number in found.items() if part not in known or not number), None)
    if wrong is not None:
        raise UsageError(f"--version {wrong}: expected PART=VERSION with PART one of {', '.join(known)}")
    return found


def _of_servers(urls: tuple[str, ...], master: str | None) -> tuple[Finding, ...]:
    from pytest_mooncake.inspection import findings
    from pytest_mooncake.options import Options
    from pytest_mooncake.plan.resolve import resolve
    from pytest_mooncake.stack.attach import attach

    plan = resolve(Options(url=urls, master=master), Path.cwd())

    async def ask() -> tuple[Finding, ...]:
        view = await attach(plan.stack, environ=os.environ, progress=lambda line: typer.echo(line, err=True))
        return await findings(plan, view, os.environ)

    return asyncio.run(ask())


def _of_kept_stack() -> tuple[Finding, ...]:
    """Lint the stack that was left running.

    Raises:
        UsageError: there is none, and nothing else was named.
    """
    from pytest_mooncake.inspection import findings
    from pytest_mooncake.options import Options
    from pytest_mooncake.plan.resolve import resolve
    from pytest_mooncake.stack import kept

    view = kept.status()
    if view is None:
        raise UsageError(
            "nothing to look at: give --url of an engine that runs, or files (--vllm-args, --lmcache-yaml, "
            "--mooncake-json, --master-flags), or start a stack with `pytest-mooncake stack up`"
        )
    return asyncio.run(findings(resolve(Options(), Path.cwd()), view, os.environ))
