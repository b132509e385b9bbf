"""`pytest-mooncake history`: past runs, two releases side by side, which one is accepted. Sends nothing."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_mooncake.analysis.regression.ruptures_points import Method
from pytest_mooncake.errors import UsageError
from pytest_mooncake.history import DEFAULT_URL

if TYPE_CHECKING:
    from pytest_mooncake.history.store import History
    from pytest_mooncake.history.stored_run import StoredRun

history_app = typer.Typer(no_args_is_help=True)

At = Annotated[
    str,
    typer.Option("--history", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE."),
]
OfLabel = Annotated[str | None, typer.Option("--label", metavar="LABEL", help="Only runs of this label.")]
OfFingerprint = Annotated[
    str | None,
    typer.Option("--fingerprint", metavar="DIGITS", help="Only runs of this fingerprint (its first digits)."),
]


@history_app.callback()
def history() -> None:
    """Past runs in SQL: list and compare them, accept a release, carry them elsewhere."""


def _opened(url: str, *, must_exist: bool = True) -> History:
    from pytest_mooncake.history.store import open_history

    return open_history(url, must_exist=must_exist)


@history_app.command("add")
def add(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a recorded run.")],
    at: At = DEFAULT_URL,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="LABEL|RUN", help="What it is held against, as in a run.")
    ] = None,
) -> None:
    """Store a recorded run that missed its place: killed before it, or measured without a history.

    It is held against the runs before it as if it had been stored then, its reports are written again, and what was
    found goes into its record. A run that is there already, unchanged, stays as it is.
    """
    from pytest_mooncake.cli.history_add import add_recorded
    from pytest_mooncake.run.endings.crash import about

    with about(directory):
        for line in add_recorded(directory, at, baseline):
            typer.echo(line)


@history_app.command("list")
def list_runs(
    at: At = DEFAULT_URL,
    label: OfLabel = None,
    fingerprint: OfFingerprint = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 20,
) -> None:
    """The runs of a history, oldest first."""
    from pytest_mooncake.cli.history_tables import run_table

    with _opened(at) as opened:
        whole = _whole_fingerprint(opened, fingerprint)
        runs = opened.runs(whole, label, limit)
        accepted = {run_id for anchor in opened.anchors() for run_id in anchor.run_ids}
        typer.echo(run_table(runs, accepted) if runs else f"no such run in {opened.shown}")


@history_app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="LABEL|RUN", help="Label of a release or id of a run.")],
    at: At = DEFAULT_URL,
) -> None:
    """All that is kept of a run (of a label: of its newest run)."""
    from pytest_mooncake.cli.history_tables import run_lines

    with _opened(at) as opened:
        run = opened.named(name)[-1]
        anchors = tuple(one for one in opened.anchors(run.fingerprint) if run.id in one.run_ids)
        for line in run_lines(run, opened.findings(run_id=run.id), anchors):
            typer.echo(line)


@history_app.command("compare")
def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="Label of a release or id of a run.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The one that is held against it.")],
    at: At = DEFAULT_URL,
) -> None:
    """B against A, one ratio a metric; refused where they were not measured on the same.

    A description and no verdict: whether a release is slower is for `--mooncake-baseline` to say.
    """
    from pytest_mooncake.cli.history_tables import change_table, sides_line
    from pytest_mooncake.history.compare import changes, comparable

    with _opened(at) as opened:
        old, new = comparable(opened.named(before), opened.named(after))
    found = changes(old, new)
    typer.echo(sides_line(old, new))
    typer.echo(change_table(found) if found else "nothing to compare: neither has a valid trial")


@history_app.command("trend")
def trend(
    at: At = DEFAULT_URL,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="Repeatable; default: what gates releases.")
    ] = None,
    label: OfLabel = None,
    fingerprint: OfFingerprint = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 30,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with charts, shifts and gaps instead.")
    ] = None,
    changes: Annotated[
        Method, typer.Option("--changes", help="Who dates shifts: the package itself, or ruptures (an extra).")
    ] = Method.TESTED,
) -> None:
    """Metrics from run to run, of the newest run's fingerprint unless another is given; shifts with their release."""
    from pytest_mooncake.analysis.regression.alarm import WATCHED
    from pytest_mooncake.cli.history_tables import counted, shift_lines, trend_table

    with _opened(at) as opened:
        newest = opened.runs(_whole_fingerprint(opened, fingerprint), label, 1)
        runs = opened.runs(newest[0].fingerprint, label, limit) if newest else ()
        findings = opened.findings(newest[0].fingerprint) if newest else ()
    if not runs:
        raise UsageError(f"no such run in {opened.shown}: pytest-mooncake history list shows what there is")
    _check_metrics(metric or (), runs)
    names = metric or [one.name for one in WATCHED]
    if html is not None:
        from pytest_mooncake.cli.history_page import trend_page

        _write_whole(html, trend_page(runs, names, findings, method=changes).encode())
        typer.echo(f"wrote {html}: {counted(len(runs))}", err=True)
        return
    typer.echo(f"fingerprint {runs[-1].fingerprint}, {counted(len(runs))}, oldest first")
    typer.echo(trend_table(runs, names, findings))
    for line in shift_lines(runs, names, changes):
        typer.echo(line)


def _check_metrics(names: Sequence[str], runs: Sequence[StoredRun]) -> None:
    known = sorted({name for run in runs for name in run.metrics})
    for name in names:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=3, cutoff=0.3) or known[:5]
            words = f"did you mean {', '.join(near)}?" if near else "no run has any"
            raise UsageError(f"--metric {name}: no run has it; {words}")


def _whole_fingerprint(opened: History, start: str | None) -> str | None:
    """The one fingerprint that starts so."""
    if start is None:
        return None
    found = {run.fingerprint for run in opened.runs() if run.fingerprint.startswith(start)}
    if len(found) != 1:
        what = "no run has a" if not found else f"{len(found)} fingerprints start so, none is the"
        raise UsageError(f"--fingerprint {start}: {what} fingerprint that is meant; history list shows them")
    return found.pop()


@history_app.command("accept")
def accept(
    name: Annotated[str, typer.Argument(metavar="LABEL|RUN", help="Release that others are measured by from now on.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Kept with your name and the time.")],
    at: At = DEFAULT_URL,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who accepts it (default: you).")] = None,
    although: Annotated[
        list[str] | None,
        typer.Option("--although", metavar="METRIC", help="May be worse by more than 5 %; repeatable; or 'verdict'."),
    ] = None,
    new_level: Annotated[
        bool,
        typer.Option("--new-level", help="A shift is here to stay: the rolling baseline starts with this release."),
    ] = False,
) -> None:
    """Accept a release: refused while a metric is more than 5 % worse than the release accepted before."""
    from pytest_mooncake.cli.history_tables import counted
    from pytest_mooncake.history.acceptance import Act, accept

    act = Act(who=by or getpass.getuser(), why=why, although=tuple(although or ()), new_level=new_level)
    with _opened(at) as opened:
        for anchor in accept(opened, name, act):
            runs = counted(len(anchor.run_ids))
            typer.echo(f"accepted by {anchor.who}: {name} ({runs}, fingerprint {anchor.fingerprint})")


@history_app.command("export")
def export(
    output: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File to write (default: standard output).")
    ] = None,
    at: At = DEFAULT_URL,
    label: OfLabel = None,
    otava: Annotated[
        Path | None,
        typer.Option("--otava", metavar="DIR", help="CSV and otava.yaml for Apache Otava instead, of one fingerprint."),
    ] = None,
    fingerprint: OfFingerprint = None,
) -> None:
    """Write a history as JSONL, to be imported elsewhere."""
    from pytest_mooncake.cli.history_tables import counted
    from pytest_mooncake.history.jsonl import content_of, export_lines

    with _opened(at) as opened:
        if otava is not None:
            _export_otava(opened, otava, label, fingerprint)
            return
        content = content_of(opened, label)
    if output is None:
        sys.stdout.buffer.writelines(export_lines(content))
        return
    _write_whole(output, b"".join(export_lines(content)))
    typer.echo(f"wrote {output}: {counted(len(content.runs))}, {counted(content.records, 'record')}", err=True)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file of that name whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def _export_otava(opened: History, directory: Path, label: str | None, fingerprint: str | None) -> None:
    from pytest_mooncake.analysis.regression.alarm import WATCHED
    from pytest_mooncake.analysis.regression.otava import CSV_NAME, ExportedRun, otava_csv, otava_yaml

    newest = opened.runs(_whole_fingerprint(opened, fingerprint), label, 1)
    if not newest:
        raise UsageError(f"no such run in {opened.shown}: nothing was written")
    exported = [
        ExportedRun(started_at=run.started_at, run_id=run.id, release=run.release_name, metrics=run.metrics)
        for run in opened.runs(newest[0].fingerprint, label)
    ]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--otava {directory}: cannot be made ({error.strerror})") from None
    _write_whole(directory / CSV_NAME, otava_csv(exported, WATCHED).encode())
    _write_whole(directory / "otava.yaml", otava_yaml(WATCHED).encode())
    typer.echo(f"wrote {directory / CSV_NAME} and otava.yaml: {len(exported)} runs", err=True)


@history_app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What history export wrote.")],
    at: At = DEFAULT_URL,
) -> None:
    """Add an exported history: all of it or nothing; what is there already stays as it is."""
    from pytest_mooncake.history.jsonl import import_file

    with _opened(at, must_exist=False) as opened:
        content, new = import_file(opened, path)
        typer.echo(f"{path}: {content.records} records, {new} of them new, are in {opened.shown}")


@history_app.command("prune")
def prune(
    at: At = DEFAULT_URL,
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="Keep the newest N of each fingerprint.")] = None,
    before: Annotated[str | None, typer.Option("--before", metavar="DATE", help="Remove what began before.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it they are only listed.")] = False,
) -> None:
    """Remove old runs; those of accepted releases stay, and so do all findings and anchors."""
    from pytest_mooncake.cli.history_tables import counted, run_table
    from pytest_mooncake.history.prune import superfluous

    if (keep is None) == (before is None):
        raise UsageError("history prune: give --keep N or --before DATE, one of the two")
    with _opened(at) as opened:
        going = superfluous(opened.runs(), opened.anchors(), keep=keep, before=_day(before))
        if not going:
            typer.echo("nothing to remove")
        elif yes:
            typer.echo(f"removed {counted(opened.remove([run.id for run in going]))}")
        else:
            typer.echo(run_table(going, set()))
            typer.echo(f"{counted(len(going))} would be removed; --yes removes what is listed")


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--before {text}: expected a date like 2026-01-31") from None
