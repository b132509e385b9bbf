"""A judged run against the releases before it: what the history says of it is stored there and put into its report.

Findings are stored with the runs and the version that made them and never rewritten.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.regression.alarm import WATCHED
from pytest_mooncake.history.compare_release import compare_with_history
from pytest_mooncake.history.store_run import history_url, releases_per_year, stored_run
from pytest_mooncake.journal import HISTORY, append_event
from pytest_mooncake.plan.options import Options
from pytest_mooncake.report.content.document import RELEASE
from pytest_mooncake.run.runner import Outcome

if TYPE_CHECKING:
    from pytest_mooncake.history.stored_run import StoredRun
    from pytest_mooncake.report.content.document import TrendRun

__all__ = ["compare_with_history", "with_release"]

MOST_SHOWN = 60
"""Runs that the page of a run shows; `history trend --html` shows more."""
TITLES = tuple(one.name for one in WATCHED)


def with_release(
    options: Options, invocation_dir: Path, outcome: Outcome, *, keep: bool, on_record: bool = True
) -> Outcome:
    """The outcome with its release held against the history, in its report's files too; unchanged without a history.

    Args:
        options: where the history is, and which baseline.
        invocation_dir: directory that a relative SQLite file lies below.
        outcome: of a judged run.
        keep: whether findings are stored in the history.
        on_record: whether they go into the record of the run, so that it is judged alike ever after; a replay has none.

    Raises:
        UsageError: nothing in the history is called as the baseline is.
        HistoryError: the history cannot be read or written.
    """
    if (url := history_url(options)) is None:
        return outcome
    from pytest_mooncake.report.formats.write import write_reports

    run = stored_run(outcome.recorded, outcome.view, outcome.judgement)
    found = compare_with_history(
        url,
        invocation_dir,
        run,
        baseline=options.baseline,
        versus=outcome.report.versus,
        keep=keep,
        per_year=releases_per_year(options),
    )
    past = _trend(url, invocation_dir, run)
    if on_record:
        append_event(outcome.directory, HISTORY, release=found, runs=past)
    missing = {name: why for name, why in outcome.report.beside_not_made.items() if name != RELEASE}
    report = replace(outcome.report, release=found, past=past, beside_not_made=missing)
    files = write_reports(report, outcome.directory, lang=outcome.recorded.plan.lang)
    return replace(outcome, report=report, files=files)


def _trend(url: str, base: Path, run: StoredRun) -> tuple[TrendRun, ...]:
    """Comparable runs up to this one, the newest few, for the page."""
    from pytest_mooncake.history.store import open_history
    from pytest_mooncake.report.content.document import TrendRun

    with open_history(url, base=base) as history:
        earlier = [one for one in history.runs(fingerprint=run.fingerprint) if one.started_at <= run.started_at]
        words: dict[str, list[str]] = {}
        for finding in history.findings(fingerprint=run.fingerprint):
            words.setdefault(finding.run_id or "", []).append(finding.words)
    runs = [*(one for one in earlier if one.id != run.id), run][-MOST_SHOWN:]
    return tuple(
        TrendRun(
            run_id=one.id,
            release=one.release_name,
            started_at=one.began,
            verdict=one.verdict,
            metrics={name: one.metrics[name] for name in TITLES if name in one.metrics},
            rounds={name: one.of_rounds(name) for name in TITLES},
            found=tuple(words.get(one.id, ())),
        )
        for one in runs
    )
