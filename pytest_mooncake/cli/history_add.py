"""A recorded run that missed its place in the history gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_mooncake.errors import UsageError
from pytest_mooncake.history.store import open_history
from pytest_mooncake.history.store_run import stored_run
from pytest_mooncake.journal import DECIDED, FAILED, TIME_LIMIT, Recorded, read
from pytest_mooncake.plan.options import Options
from pytest_mooncake.run.outcome import conclude, reported
from pytest_mooncake.run.phases.release import with_release

__all__ = ["add_recorded"]


def add_recorded(directory: Path, url: str, baseline: str | None) -> Iterator[str]:
    """Store the run of a directory and hold it against the runs before it; lines that say what became of it.

    Args:
        directory: of the run.
        url: of the history.
        baseline: label or run that is the anchor instead of the accepted one.

    Raises:
        JournalError: there is no run, or nothing of it was finished.
        UsageError: a run that was cut short has no place, or its directory cannot be written to.
        HistoryError: the history cannot be reached, or holds another run of this id.
    """
    recorded = read(directory)
    _refuse_unended(recorded)
    report, view = reported(recorded)
    run = stored_run(recorded, view, report.judgement)
    with open_history(url) as history:
        if baseline is not None and any(one.id != run.id for one in history.runs()):
            history.named(baseline)
        new = history.add(run)
        runs = history.count(run.fingerprint)
        what = "added" if new else "was there already"
        yield f"{run.id} {what}: {history.shown}, {runs} comparable run{'s' if runs > 1 else ''} with this one"
    if recorded.history is not None:
        return
    try:
        outcome = conclude(recorded, directory)
        compared = with_release(Options(history=url, baseline=baseline), Path.cwd(), outcome, keep=True)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written to ({error.strerror})") from None
    if compared.report.release is not None:
        yield compared.report.release.text
    yield f"wrote {', '.join(path.name for path in compared.files)} in {directory}"


def _refuse_unended(recorded: Recorded) -> None:
    if recorded.crash is not None:
        raise UsageError(f"{recorded.directory}: an internal error ended this run; it has no verdict to be kept")
    if recorded.end not in {DECIDED, TIME_LIMIT, FAILED}:
        raise UsageError(
            f"{recorded.directory}: this run was cut short before it had ended; a history keeps runs that came to "
            "their end (pytest-mooncake verdict tells what stands of this one)"
        )
    if not recorded.environment.get("started_at"):
        raise UsageError(
            f"{recorded.directory}: its record does not say when it began, so it has no place among others"
        )
