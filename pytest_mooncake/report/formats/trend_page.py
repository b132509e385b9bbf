"""The page of a history: its trend drawn and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.regression.ruptures_points import Method
from pytest_mooncake.report.charts import run_charts
from pytest_mooncake.report.charts.trend import MOST_RUNS, Gap, MetricTrend, gaps, metric_trend
from pytest_mooncake.report.content.document import TrendRun
from pytest_mooncake.report.formats.html_environment import environment, in_script
from pytest_mooncake.report.text.labels import catalogue

if TYPE_CHECKING:
    pass


def render_trend(
    runs: Sequence[TrendRun],
    metrics: Mapping[str, str],
    fingerprint: str,
    now: datetime,
    *,
    method: Method = Method.TESTED,
) -> str:
    """The page.

    Args:
        runs: oldest first, of one fingerprint; the newest 1000 are shown.
        metrics: title of each metric, by name.
        fingerprint: what the runs have in common.
        now: with time zone; a history whose last run is long ago has a gap.
        method: who dates shifts.

    Returns:
        Self-contained HTML; the same arguments give the same bytes.
    """
    shown = tuple(runs[-MOST_RUNS:])
    trends = [metric_trend(shown, name, title, method=method) for name, title in metrics.items()]
    pauses = gaps(shown, now)
    drawn = {f"trend-{n}": _drawn(trend, pauses) for n, trend in enumerate(trends) if trend.runs}
    words = catalogue("en")
    text = environment(words).get_template("trend.html.j2").render(
        words=words,
        fingerprint=fingerprint,
        runs=shown,
        left_out=len(runs) - len(shown),
        trends=trends,
        pauses=pauses,
        names=tuple(metrics),
        drawn=drawn,
        data=in_script(drawn),
        library=run_charts.library() if drawn else "",
    )  # fmt: skip
    return text.strip() + "\n"


def _drawn(trend: MetricTrend, pauses: Sequence[Gap]) -> dict[str, Any]:
    from pytest_mooncake.report.charts.trend_chart import chart

    return run_charts.item(chart(trend, pauses))
