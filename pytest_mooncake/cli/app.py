"""`pytest-mooncake`: everything around the run that pytest does not do. Typer commands, nothing else.

Exit codes: 0 done (PASS), 1 FAIL, 10 INCONCLUSIVE, 11 INVALID for `verdict` and `judge`; 4 for whatever could not be
meant or done, with one line on standard error.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_mooncake import __version__
from pytest_mooncake.cli.doctor import doctor
from pytest_mooncake.cli.history import history_app
from pytest_mooncake.cli.judge import judge
from pytest_mooncake.cli.report import report
from pytest_mooncake.cli.saying import say, was_unheard
from pytest_mooncake.cli.workload import workload_app
from pytest_mooncake.errors import ExitCode, MooncakeError, UsageError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.records import StackView
from pytest_mooncake.run.progress import Console

if TYPE_CHECKING:
    from pytest_mooncake.report.content.document import Report

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
stack_app = typer.Typer(no_args_is_help=True, help="A stack that outlives a run: start, look at and stop it.")
app.add_typer(stack_app, name="stack")
app.add_typer(workload_app, name="workload")
app.add_typer(history_app, name="history")

app.command()(doctor)
app.command()(report)
app.command()(judge)


def main() -> None:
    """Entry point of the console script: a user's mistake, or our own, ends in one line and exit code 4."""
    try:
        app()
    except MooncakeError as error:
        from pytest_mooncake.run.runner import message_of

        sys.stderr.write(f"ERROR: {message_of(error)}\n")
        raise SystemExit(error.exit_code) from None
    except SystemExit as end:
        if was_unheard(end):
            raise SystemExit(MooncakeError.exit_code) from None
        raise
    except Exception as error:
        from pytest_mooncake.run.endings.crash import CommandCrash, keep

        if isinstance(error, CommandCrash):
            line = keep(error.error, error.directory, run_id=error.run_id)
        else:
            line = keep(error, None)
        sys.stderr.write(f"ERROR: {line}\n")
        raise SystemExit(MooncakeError.exit_code) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pytest-mooncake {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print version.")
    ] = False,
) -> None:
    """Prove that a KV cache pays, works and was not broken by this release."""


@contextlib.contextmanager
def _console() -> Iterator[Console]:
    def write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    yield Console(write, live=sys.stderr.isatty())


@stack_app.command("up")
def stack_up(
    stack: Annotated[str, typer.Option(help="Name or YAML file of a local stack.")] = "local",
) -> None:
    """Start a stack and leave it running; `pytest acceptance/ --mooncake-keep-stack` uses it."""
    from pytest_mooncake.plan.resolve import resolve
    from pytest_mooncake.stack import persistent

    plan = resolve(Options(stack=stack), Path.cwd())
    if plan.stack.kind != "local":
        raise UsageError(f"--stack {stack}: only a local stack can be kept; this one is {plan.stack.kind}")
    with _console() as console:
        view = persistent.up(plan.stack, console.tick)
    _print_view(view)


@stack_app.command("status")
def stack_status() -> None:
    """Show the stack that was left running; exit code 1 when there is none."""
    from pytest_mooncake.stack import persistent

    view = persistent.status()
    if view is None:
        typer.echo("no stack is running (start one: pytest-mooncake stack up)")
        raise typer.Exit(ExitCode.FAIL)
    _print_view(view)


@stack_app.command("down")
def stack_down() -> None:
    """Stop the stack that was left running."""
    from pytest_mooncake.stack import persistent

    typer.echo("stopped" if persistent.down() else "no stack was running")


def _print_view(view: StackView) -> None:
    for note in view.notes:
        typer.echo(note)
    for name, what in view.components.items():
        typer.echo(f"{name:<12} {what}")
    for engine in view.engines:
        typer.echo(f"endpoint     {engine.url}  model {view.model}")
    if view.store is not None:
        typer.echo(f"master       {view.store.master_url}")
        attach = f"--mooncake-url {view.engines[0].url} --mooncake-master {view.store.master_url}"
        typer.echo(f"try          pytest acceptance/ {attach}")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where to write acceptance/, fixtures/ and conftest.py.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(
            "--pipeline",
            metavar="github|gitlab|jenkins|kubernetes|argo",
            help="Write the gate of this pipeline instead; repeatable.",
        ),
    ] = None,
) -> None:
    """Write the acceptance suite into a repository of your own, or the gate of a pipeline that runs it."""
    from pytest_mooncake.cli.scaffold import write_pipeline, write_suite

    for name in pipeline or ():
        typer.echo(f"wrote {write_pipeline(directory, name, force=force)}")
    if pipeline:
        return
    for path in write_suite(directory, force=force):
        typer.echo(f"wrote {path}")
    typer.echo("next: pytest acceptance/ --mooncake-stack simulated   (seconds; no model runs)")


@app.command()
def verdict(
    directory: Annotated[Path, typer.Argument(help="Directory of a recorded run.")],
    fail_only: Annotated[
        bool, typer.Option("--fail-only", help="Exit 1 on FAIL only, 0 on PASS, INCONCLUSIVE and INVALID.")
    ] = False,
) -> None:
    """Judge a recorded run again and exit 0 PASS, 1 FAIL, 10 INCONCLUSIVE, 11 INVALID; 4: nothing to judge.

    What the history said of the release, and turns with an old endpoint, count too: the worst of all is the exit code.
    """
    from pytest_mooncake.journal import read
    from pytest_mooncake.report import exit_codes
    from pytest_mooncake.run.endings.crash import about
    from pytest_mooncake.run.runner import reported

    with about(directory):
        report, _ = reported(read(directory))
        say(_verdict_lines(report))
        raise typer.Exit(exit_codes.of_command(report, fail_only=fail_only))


def _verdict_lines(report: Report) -> Iterator[str]:
    from pytest_mooncake.report.content.reasons import not_made
    from pytest_mooncake.report.formats.no_verdict import sentence
    from pytest_mooncake.report.text.labels import catalogue

    if report.crash is not None:
        yield sentence(report.crash)
        return
    yield report.gate
    told = (*not_made(report, catalogue("en")), *report.judgement.reasons)
    further = (one.text for one in (report.release, report.versus) if one is not None)
    yield from (f"  {line}" for line in (*told, *further))


if __name__ == "__main__":
    main()
