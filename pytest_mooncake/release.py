"""A judged run against the releases before it: what the history says of it is stored there and put into its report.

Findings are stored with the runs and the version that made them and never rewritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.regression import RELEASES_PER_YEAR, WATCHED, PastRun, compare_release
from pytest_mooncake.analysis.release import ReleaseFinding, finding_of
from pytest_mooncake.analysis.versus import Versus
from pytest_mooncake.conduct import Outcome
from pytest_mooncake.journal import HISTORY, append_event
from pytest_mooncake.options import Options
from pytest_mooncake.recording import history_url, releases_per_year, stored_run
from pytest_mooncake.records import Verdict
from pytest_mooncake.report.document import RELEASE

if TYPE_CHECKING:
    from pytest_mooncake.history.kept import Finding, StoredRun
    from pytest_mooncake.history.store import History
    from pytest_mooncake.report.trend_run import TrendRun

__all__ = ["compare_with_history", "with_release"]

ALARM, CONFIRMATION = "alarm", "confirmation"
MOST_SHOWN = 60
"""Runs that the page of a run shows; `history trend --html` shows more."""
TITLES = tuple(one.name for one in WATCHED)
_UNFIT = (Verdict.FAIL, Verdict.INVALID)
"""Verdicts of runs that no release is measured by."""


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
    from pytest_mooncake.report.files import write_reports

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
    from pytest_mooncake.report.trend_run import TrendRun

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


def compare_with_history(
    url: str,
    base: Path,
    run: StoredRun,
    *,
    baseline: str | None,
    versus: Versus | None,
    keep: bool,
    per_year: float = RELEASES_PER_YEAR,
) -> ReleaseFinding:
    """Compare a run with the history and store what was found.

    Args:
        url: of the history.
        base: directory that a relative SQLite file lies below.
        run: this release's.
        baseline: label or run that is the anchor instead of the accepted one.
        versus: the new and the old endpoint in turns, if they were measured.
        keep: whether findings are stored; a replay stores none.
        per_year: releases a year, for the false alarms to expect.

    Raises:
        UsageError: nothing in the history is called as the baseline is.
        HistoryError: the history cannot be read or written.
    """
    from pytest_mooncake.history.acceptance import anchored_runs, level_since
    from pytest_mooncake.history.store import open_history

    with open_history(url, base=base) as history:
        past = _past(history.runs(), run, level_since(history, run.fingerprint))
        anchor = _named(history, baseline, run) if baseline else anchored_runs(history, run.fingerprint)
        comparison = compare_release(
            _as_past(run),
            [_as_past(one) for one in past],
            anchor=[_as_past(one) for one in anchor],
            releases_per_year=per_year,
        )
        found = finding_of(comparison, versus)
        if keep:
            history.add_finding(*_findings(run, past, found))
    return found


def _past(runs: Sequence[StoredRun], run: StoredRun, since: str | None) -> list[StoredRun]:
    """Runs that count: from the accepted level on, not this one, nothing later, none that failed or was invalid."""
    ids = [one.id for one in runs]
    level = runs[ids.index(since) :] if since in ids else runs
    earlier = (one for one in level if one.id != run.id and one.started_at <= run.started_at)
    return [one for one in earlier if one.verdict not in _UNFIT]


def _named(history: History, baseline: str, run: StoredRun) -> tuple[StoredRun, ...]:
    """The runs of the baseline; none where the run at hand is the first that is called so."""
    others = [one for one in history.runs() if one.id != run.id]
    return history.named(baseline) if others else ()


def _as_past(run: StoredRun) -> PastRun:
    return PastRun(run_id=run.id, release=run.release_name, fingerprint=run.fingerprint, metrics=run.metrics)


def _findings(run: StoredRun, past: Sequence[StoredRun], found: ReleaseFinding) -> list[Finding]:
    from pytest_mooncake.history.kept import Finding

    at = datetime.now(UTC).isoformat(timespec="seconds")
    ids = (*(one.id for one in past if one.fingerprint == run.fingerprint), run.id)
    kept = []
    for one in found.comparison.alarms:
        kinds = (ALARM, CONFIRMATION) if one.metric in found.confirmed else (ALARM,)
        kept += [
            Finding(
                kind=kind,
                fingerprint=run.fingerprint,
                run_ids=ids,
                words=one.words,
                made_at=at,
                metric=one.metric,
                run_id=run.id,
                figures={"ratio": one.ratio, "bound_ratio": one.bound_ratio, "p": one.p, "p_adjusted": one.p_adjusted},
            )
            for kind in kinds
        ]
    return kept
