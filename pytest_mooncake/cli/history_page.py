"""`pytest-mooncake history trend --html FILE`: what a history holds, as the trend page wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.regression.alarm import WATCHED
from pytest_mooncake.analysis.regression.ruptures_points import Method
from pytest_mooncake.history.stored_run import Finding, StoredRun

if TYPE_CHECKING:
    from pytest_mooncake.report.content.document import TrendRun

TITLES: Mapping[str, str] = {one.name: one.title for one in WATCHED}


def trend_page(
    runs: Sequence[StoredRun],
    names: Sequence[str],
    findings: Sequence[Finding],
    now: datetime | None = None,
    *,
    method: Method = Method.TESTED,
) -> str:
    """The page of runs of one fingerprint, oldest first; `now` has a time zone, `method` dates shifts."""
    from pytest_mooncake.report.formats.trend_page import render_trend

    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(finding.run_id or "", []).append(finding.words)
    made = [_trend_run(run, names, tuple(found.get(run.id, ()))) for run in runs]
    titles = {name: TITLES.get(name, name) for name in names}
    return render_trend(made, titles, runs[-1].fingerprint, now or datetime.now(UTC), method=method)


def _trend_run(run: StoredRun, names: Sequence[str], found: tuple[str, ...]) -> TrendRun:
    from pytest_mooncake.report.content.document import TrendRun

    return TrendRun(
        run_id=run.id,
        release=run.release_name,
        started_at=run.began,
        verdict=run.verdict,
        metrics=run.metrics,
        rounds={name: run.of_rounds(name) for name in names},
        found=found,
    )
