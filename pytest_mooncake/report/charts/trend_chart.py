"""One chart of the trend page: runs by verdict, their intervals, shifts as lines, gaps as bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_mooncake.records import Verdict
from pytest_mooncake.report.charts.run_charts import (
    BAD,
    GRID,
    INK,
    NEAR,
    NEXT,
    WARM,
    base_figure,
    hover,
    legend,
    source,
)
from pytest_mooncake.report.charts.trend import Gap, MetricTrend, interval
from pytest_mooncake.report.content.document import TrendRun

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure

SLANT = 0.6
"""Radians by which dates are turned: on a phone they would run into each other."""
MARKS = {
    Verdict.PASS: ("circle", NEXT),
    Verdict.FAIL: ("x", BAD),
    Verdict.INCONCLUSIVE: ("triangle", WARM),
    Verdict.INVALID: ("square", NEAR),
}
"""Verdicts differ by shape too, for readers who do not see the colours."""


def chart(trend: MetricTrend, pauses: Sequence[Gap]) -> Figure:
    """The metric over time."""
    plot = base_figure(height=280, x_axis_type="datetime", y_axis_label=trend.title)
    plot.xaxis.major_label_orientation = SLANT
    _bands(plot, pauses)
    _intervals(plot, trend)
    drawn = [
        _runs(plot, trend.name, verdict, [run for run in trend.runs if run.verdict == verdict]) for verdict in Verdict
    ]
    tips = [("release", "@release"), ("verdict", "@verdict"), (trend.title, "@value{0.000}"), ("began", "@began")]
    hover(plot, [one for one in drawn if one is not None], tips)
    _shifts(plot, trend)
    if plot.legend and plot.legend[0].items:
        legend(plot)
    return plot


def _ms(moment: Any) -> float:
    return float(moment.timestamp() * 1000)


def _runs(plot: Figure, name: str, verdict: Verdict, runs: Sequence[TrendRun]) -> Any:
    if not runs:
        return None
    marker, colour = MARKS[verdict]
    data = {
        "at": [_ms(run.started_at) for run in runs],
        "value": [run.metrics[name] for run in runs],
        "release": [run.release for run in runs],
        "verdict": [run.verdict for run in runs],
        "began": [run.started_at.isoformat(timespec="minutes") for run in runs],
    }
    return plot.scatter(
        "at",
        "value",
        source=source(data),
        size=9,
        marker=marker,
        color=colour,
        line_width=2,
        legend_label=verdict.value,
    )


def _intervals(plot: Figure, trend: MetricTrend) -> None:
    found = [(run, ends) for run in trend.runs if (ends := interval(run, trend.name)) is not None]
    if not found:
        return
    data = {
        "at": [_ms(run.started_at) for run, _ in found],
        "low": [ends[0] for _, ends in found],
        "high": [ends[1] for _, ends in found],
    }
    plot.segment(
        "at", "low", "at", "high", source=source(data), color=INK, alpha=0.5, line_width=2,
    )  # fmt: skip


def _bands(plot: Figure, pauses: Sequence[Gap]) -> None:
    from bokeh.models.annotations import BoxAnnotation

    for gap in pauses:
        plot.add_layout(BoxAnnotation(left=_ms(gap.start), right=_ms(gap.end), fill_color=GRID, fill_alpha=0.4))


def _shifts(plot: Figure, trend: MetricTrend) -> None:
    from bokeh.models.annotations import Span

    for at, _ in trend.shifts:
        plot.add_layout(Span(location=_ms(at), dimension="height", line_color=BAD, line_dash="dashed", line_width=2))
