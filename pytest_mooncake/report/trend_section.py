"""The trend inside a run's page: each metric over the releases before it, out of the run's own record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_mooncake.analysis.regression import WATCHED
from pytest_mooncake.report import charts
from pytest_mooncake.report.document import Report
from pytest_mooncake.report.labels import Catalogue
from pytest_mooncake.report.trend import MetricTrend, gaps, metric_trend
from pytest_mooncake.report.trend_chart import chart

__all__ = ["LEAST_RUNS", "TrendSection", "section"]

LEAST_RUNS = 2
"""One run shows no trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendSection:
    """What the section says and draws; `drawn` and `described` by the name of the chart."""

    runs: int
    notes: tuple[str, ...]
    drawn: dict[str, Any]
    described: dict[str, str]


def section(report: Report, words: Catalogue) -> TrendSection | None:
    """The section; `None` where no history was asked, or it holds nothing to compare with.

    A gap is counted up to the run itself, not up to now: the same record gives the same page.
    """
    runs = report.past
    if len(runs) < LEAST_RUNS:
        return None
    trends = [metric_trend(runs, one.name, one.title) for one in WATCHED]
    measured = [trend for trend in trends if trend.runs]
    pauses = gaps(runs, runs[-1].started_at)
    missing = [trend for trend in trends if trend.missing]
    return TrendSection(
        runs=len(runs),
        notes=(
            *(words("trend.gap", words=gap.words) for gap in pauses),
            *(words("trend.missing", metric=one.title, n=len(one.missing), of=len(runs)) for one in missing),
        ),
        drawn={_name(trend): charts.item(chart(trend, pauses)) for trend in measured},
        described={_name(trend): trend.words for trend in measured},
    )


def _name(trend: MetricTrend) -> str:
    return f"trend-{trend.name.replace('.', '-')}"
