"""A run held against the releases before it in the history; findings are stored with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.regression.alarm import RELEASES_PER_YEAR, Comparison, PastRun, compare_release
from pytest_mooncake.analysis.regression.release import ReleaseFinding, finding_of
from pytest_mooncake.analysis.regression.versus import Versus
from pytest_mooncake.records import Verdict

if TYPE_CHECKING:
    from pytest_mooncake.history.store import History
    from pytest_mooncake.history.stored_run import Finding, StoredRun


ALARM, CONFIRMATION = "alarm", "confirmation"


_UNFIT = (Verdict.FAIL, Verdict.INVALID)
"""Verdicts of runs that no release is measured by."""


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
        found = finding_of(_compared(run, past, anchor, per_year), versus)
        if keep:
            history.add_finding(*_findings(run, past, found))
    return found


def _compared(run: StoredRun, past: Sequence[StoredRun], anchor: Sequence[StoredRun], per_year: float) -> Comparison:
    return compare_release(
        _as_past(run),
        [_as_past(one) for one in past],
        anchor=[_as_past(one) for one in anchor],
        releases_per_year=per_year,
    )


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
    from pytest_mooncake.history.stored_run import Finding

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
