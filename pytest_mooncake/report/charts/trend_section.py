"""The trend inside a run's page: each metric over the releases before it, out of the run's own record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pytest_mooncake.analysis.regression.alarm import WATCHED
from pytest_mooncake.report.charts import run_charts
from pytest_mooncake.report.charts.trend import Gap, MetricTrend, gaps, metric_trend
from pytest_mooncake.report.charts.trend_chart import chart
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.text.labels import Catalogue
from pytest_mooncake.report.text.numbers import quantity

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
    trends = [metric_trend(runs, one.name, words(f"trend.{one.name.replace('.', '_')}")) for one in WATCHED]
    measured = [trend for trend in trends if trend.runs]
    pauses = gaps(runs, runs[-1].started_at)
    missing = [trend for trend in trends if trend.missing]
    return TrendSection(
        runs=len(runs),
        notes=(
            *(_told_gap(gap, words) for gap in pauses),
            *(words("trend.missing", metric=one.title, n=len(one.missing), of=len(runs)) for one in missing),
        ),
        drawn={_name(trend): run_charts.item(chart(trend, pauses)) for trend in measured},
        described={_name(trend): _told(trend, words) for trend in measured},
    )


def _told_gap(gap: Gap, words: Catalogue) -> str:
    days, usual = (f"{span / timedelta(days=1):.1f}" for span in (gap.end - gap.start, gap.usual))
    return words("trend.gap", start=f"{gap.start:%Y-%m-%d}", end=f"{gap.end:%Y-%m-%d}", days=days, usual=usual)


def _told(trend: MetricTrend, words: Catalogue) -> str:
    """What the chart shows, for readers who do not see it."""
    values = [run.metrics[trend.name] for run in trend.runs]
    shifts = [
        words(
            "trend.shift",
            change=f"{(point.ratio - 1) * 100:+.1f} %",
            release=point.release,
            before=point.runs_before,
            after=point.runs_after,
        )
        for _, point in trend.shifts
    ]
    low, high, last = map(quantity, (min(values), max(values), values[-1]))
    return words("trend.caption", metric=trend.title, n=len(values), low=low, high=high, last=last) + "; ".join(
        shifts or [words("trend.no_shift")]
    )


def _name(trend: MetricTrend) -> str:
    return f"trend-{trend.name.replace('.', '-')}"
