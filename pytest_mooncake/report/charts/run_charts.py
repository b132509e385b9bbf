"""The page's charts as Bokeh documents in JSON, with names instead of colours: the page fills in those of its theme.

Bokeh numbers its models through the life of a process; they are renumbered here, so that the same report gives the
same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pytest_mooncake.records import Kind
from pytest_mooncake.report.charts import chart_data
from pytest_mooncake.report.charts.chart_data import Bin, RatioRow, RequestPoint
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.tables import claim_label
from pytest_mooncake.report.text.labels import Catalogue, plain
from pytest_mooncake.report.text.numbers import percent, quantity

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure

INK, GRID, COLD, WARM, BAD, NEAR, NEXT = (f"#00000{n}" for n in range(1, 8))
"""Colours that stand for the theme's own; no theme uses them itself."""
COLOURS = {Kind.COLD: COLD, Kind.WARM: WARM}
TIER_COLOURS = {
    "gpu_prefix": NEAR, "lmcache_cpu": NEXT, "mooncake": WARM, chart_data.CACHED: WARM, chart_data.COMPUTED: COLD
}  # fmt: skip
MARKERS = {Kind.COLD: "circle", Kind.WARM: "triangle"}
"""Sides differ by shape too, for readers who do not see the colours."""
_MODEL_ID = re.compile(r"^p\d+$")


@cache
def library() -> str:
    """The charts' script, from the installed package."""
    return files("bokeh").joinpath("server/static/js/bokeh.min.js").read_text(encoding="utf-8")


def charts(report: Report, words: Catalogue) -> dict[str, Any]:
    """Every chart that the report's records allow, by the name of its section.

    Returns:
        JSON-ready Bokeh items, to be embedded with `Bokeh.embed.embed_item`.
    """
    rounds = chart_data.chain_rounds(report)
    made = {
        "ecdf": _ecdf(rounds, words) if rounds else None,
        "requests": _requests(chart_data.request_points(rounds), words),
        "ratios": _ratios(report, chart_data.ratio_rows(report.judgement.claims), words),
        "attribution": _attribution(report, words),
    }
    return {name: item(plot) for name, plot in made.items() if plot is not None}


def item(plot: Figure) -> dict[str, Any]:
    """A chart as JSON, the same bytes for the same chart."""
    from bokeh.embed import json_item

    made: dict[str, Any] = _renumbered(json_item(plot))
    return made


def _renumbered(item: Any) -> Any:
    """The same document with its models numbered from 1 in order of appearance."""
    numbers: dict[str, str] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [walk(inner) for inner in value]
        if isinstance(value, str) and _MODEL_ID.match(value):
            return numbers.setdefault(value, f"p{len(numbers) + 1}")
        return value

    return walk(item)


def base_figure(*, height: int, **options: Any) -> Figure:
    """An empty chart in the page's colours."""
    from bokeh.plotting import figure

    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=GRID,
        **options,
    )
    plot.axis.axis_label_text_color = plot.axis.major_label_text_color = INK
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = plot.axis.minor_tick_line_color = GRID
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font = plot.axis.major_label_text_font = "sans-serif"
    plot.grid.grid_line_color = GRID
    return plot


def _from_zero() -> Any:
    """A range that fits its data and begins at 0 (with a little room for marks that lie on it)."""
    from bokeh.models import DataRange1d

    return DataRange1d(start=0)


def legend(plot: Figure) -> None:
    """The legend above the chart."""
    plot.legend.label_text_color = INK
    plot.legend.label_text_font = "sans-serif"
    plot.legend.background_fill_alpha = 0
    plot.legend.border_line_color = None
    plot.legend.orientation = "horizontal"
    plot.add_layout(plot.legend[0], "above")


def hover(plot: Figure, renderers: Sequence[Any], tooltips: Sequence[tuple[str, str]]) -> None:
    """What is told of the mark under the pointer; Bokeh escapes the values."""
    from bokeh.models import HoverTool

    plot.add_tools(HoverTool(renderers=list(renderers), tooltips=list(tooltips)))


def _ecdf(rounds: Sequence[Any], words: Catalogue) -> Figure:
    plot = base_figure(
        height=300,
        x_axis_label="TTFT (ms)",
        y_axis_label=words("page.share_of_requests"),
        x_range=_from_zero(),
        y_range=(0, 1.02),
    )
    drawn = []
    for kind in Kind:
        steps = chart_data.distribution(rounds, kind)
        data = {"ttft": [step.ttft_ms for step in steps], "share": [step.share for step in steps]}
        label = words(f"word.{kind.value}_short")
        dash = "solid" if kind is Kind.COLD else "dashed"
        line = plot.step(
            "ttft", "share", source=source(data), mode="after", line_width=2, color=COLOURS[kind], line_dash=dash,
            legend_label=label,
        )  # fmt: skip
        drawn.append(line)
    hover(plot, drawn, [("TTFT (ms)", "@ttft{0.0}"), (words("page.share_of_requests"), "@share{0.000}")])
    legend(plot)
    return plot


def _requests(points: Sequence[RequestPoint], words: Catalogue) -> Figure | None:
    if not points:
        return None
    plot = base_figure(height=320, x_axis_label=words("page.seconds"), y_axis_label="TTFT (ms)", y_range=_from_zero())
    if len(points) > chart_data.MOST_REQUESTS:
        _draw_bins(plot, chart_data.bins(points), words)
    else:
        _draw_each(plot, points, words)
    legend(plot)
    return plot


def _draw_each(plot: Figure, points: Sequence[RequestPoint], words: Catalogue) -> None:
    drawn = []
    for kind in Kind:
        mine = [p for p in points if p.kind is kind and p.ttft_ms is not None]
        data = {
            "at": [p.at_s for p in mine],
            "ttft": [p.ttft_ms for p in mine],
            "round": [p.round for p in mine],
            "index": [p.index for p in mine],
            "cached": ["-" if p.cached_tokens is None else str(p.cached_tokens) for p in mine],
        }
        drawn.append(
            plot.scatter(
                "at", "ttft", source=source(data), size=6, marker=MARKERS[kind], color=COLOURS[kind], alpha=0.7,
                legend_label=words(f"word.{kind.value}_short"),
            )
        )  # fmt: skip
    lost = [p for p in points if p.ttft_ms is None]
    if lost:
        data = {"at": [p.at_s for p in lost], "ttft": [0.0] * len(lost), "round": [p.round for p in lost],
                "index": [p.index for p in lost], "cached": ["-"] * len(lost)}  # fmt: skip
        drawn.append(
            plot.scatter("at", "ttft", source=source(data), size=9, marker="x", color=BAD, line_width=2,
                         legend_label=words("metric.failures"))
        )  # fmt: skip
    tips = [(words("word.rounds"), "@round"), ("#", "@index"), ("TTFT (ms)", "@ttft{0.0}")]
    hover(plot, drawn, [*tips, (words("page.cached"), "@cached")])


def _draw_bins(plot: Figure, found: Sequence[Bin], words: Catalogue) -> None:
    drawn = []
    for kind in Kind:
        mine = [b for b in found if b.kind is kind and b.mean_ms is not None]
        data = {
            "at": [(b.from_s + b.to_s) / 2 for b in mine],
            "mean": [b.mean_ms for b in mine],
            "least": [b.least_ms for b in mine],
            "most": [b.most_ms for b in mine],
            "requests": [b.requests for b in mine],
            "failed": [b.failed for b in mine],
        }
        held, label = source(data), words(f"word.{kind.value}_short")
        plot.segment("at", "least", "at", "most", source=held, color=COLOURS[kind], alpha=0.4, legend_label=label)
        drawn.append(
            plot.scatter("at", "mean", source=held, size=5, marker=MARKERS[kind], color=COLOURS[kind],
                         legend_label=label)
        )  # fmt: skip
    tips = [("TTFT (ms)", "@mean{0.0} (@least{0.0} - @most{0.0})"), (words("method.requests"), "@requests")]
    hover(plot, drawn, [*tips, (words("metric.failures"), "@failed")])


def _ratios(report: Report, rows: Sequence[RatioRow], words: Catalogue) -> Figure | None:
    from bokeh.models import FixedTicker, NumeralTickFormatter

    if not rows:
        return None
    claims = {claim.id: claim for claim in report.judgement.claims}
    labels = [claim_label(words, claims[row.id])[:40] for row in rows]
    labels = [label if labels.count(label) == 1 else f"{label} ({n})" for n, label in enumerate(labels, 1)]
    plot = base_figure(
        height=90 + 44 * len(rows), x_axis_type="log", y_range=labels[::-1], x_axis_label=words("word.ratio")
    )
    plot.xaxis.formatter = NumeralTickFormatter(format="0.[000]")
    plot.xaxis.ticker = FixedTicker(ticks=list(chart_data.ratio_ticks(rows)))
    _draw_intervals(plot, rows, labels, words)
    _draw_trials(plot, rows, labels, words)
    legend(plot)
    return plot


def _draw_trials(plot: Figure, rows: Sequence[RatioRow], labels: Sequence[str], words: Catalogue) -> None:
    named = zip(labels, rows, strict=True)
    trials = [(label, n, ratio) for label, row in named for n, ratio in enumerate(row.trials, 1)]
    if not trials:
        return
    data = {"label": [t[0] for t in trials], "trial": [t[1] for t in trials], "ratio": [t[2] for t in trials]}
    dots = plot.scatter(
        "ratio", "label", source=source(data), size=6, fill_color=None, line_color=INK, alpha=0.7,
        legend_label=words("word.trial"),
    )  # fmt: skip
    hover(plot, [dots], [(words("word.trial"), "@trial"), (words("word.ratio"), "@ratio{0.000}")])


def _draw_intervals(plot: Figure, rows: Sequence[RatioRow], labels: Sequence[str], words: Catalogue) -> None:
    named = list(zip(labels, rows, strict=True))
    ends = [(label, row.interval) for label, row in named if row.interval]
    if ends:
        data = {"label": [e[0] for e in ends], "low": [e[1][0] for e in ends], "high": [e[1][1] for e in ends]}
        band = plot.segment(
            "low", "label", "high", "label", source=source(data), line_width=7, color=WARM, alpha=0.5,
            legend_label=words("word.interval"),
        )  # fmt: skip
        hover(plot, [band], [(words("word.interval"), "@low{0.000} - @high{0.000}")])
    data = {"label": list(labels), "ratio": [row.estimate for row in rows]}
    point = plot.scatter(
        "ratio", "label", source=source(data), size=11, marker="diamond", color=WARM,
        legend_label=words("page.estimate"),
    )  # fmt: skip
    goals = [(label, row.target) for label, row in named if row.target]
    data = {"label": [g[0] for g in goals], "ratio": [g[1] for g in goals]}
    mark = plot.scatter(
        "ratio", "label", source=source(data), size=22, marker="dash", angle=1.5708, line_width=3, color=BAD,
        legend_label=words("word.target"),
    )  # fmt: skip
    hover(plot, [point, mark], [(words("word.ratio"), "@ratio{0.000}")])


def _attribution(report: Report, words: Catalogue) -> Figure | None:
    from bokeh.models import NumeralTickFormatter

    found = chart_data.attribution(report)
    if not found:
        return None
    names = [name for name in TIER_COLOURS if any(dict(side.tiers).get(name) for side in found)]
    sides = [words(f"word.{a.kind.value}_short") for a in found]
    data = {"side": sides} | {name: [dict(side.tiers).get(name, 0) for side in found] for name in names}
    plot = base_figure(height=190, y_range=sides[::-1], x_range=_from_zero(), x_axis_label="tokens")
    plot.xaxis.formatter = NumeralTickFormatter(format="0.[0]a")
    labels = [words(f"tier.{name}") for name in names]
    colours = [TIER_COLOURS[name] for name in names]
    bars = plot.hbar_stack(
        names, y="side", height=0.6, source=source(data), color=colours, legend_label=labels, line_color=None
    )
    hover(plot, bars, [(label, f"@{name}{{0,0}}") for name, label in zip(names, labels, strict=True)])
    legend(plot)
    return plot


def source(data: Mapping[str, Any]) -> Any:
    """Columns by name, as Bokeh takes them."""
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(dict(data))


def _tiers_told(side: chart_data.Attribution, words: Catalogue) -> str:
    total = sum(tokens for _, tokens in side.tiers) or 1
    return ", ".join(f"{words(f'tier.{name}')} {percent(tokens / total, 1)}" for name, tokens in side.tiers if tokens)


def descriptions(report: Report, words: Catalogue) -> dict[str, str]:
    """What each chart shows, in words, for readers who do not see it."""
    sides = (("word.cold_short", report.cold), ("word.warm_short", report.warm))
    told = {
        "ecdf": "; ".join(
            f"{words(name)}: P50 {quantity(side.ttft_ms.p50)} ms, P90 {quantity(side.ttft_ms.p90)} ms"
            for name, side in sides
        ),
        "attribution": "; ".join(
            f"{words(f'word.{side.kind.value}_short')}: {_tiers_told(side, words)}"
            for side in chart_data.attribution(report)
        ),
        "requests": words("page.each_sent", n=sum(len(r.requests) for r in chart_data.chain_rounds(report))),
    }
    return {name: f"{plain(words(f'title.{name}'))}{words('word.stop')}{text}" for name, text in told.items()} | {
        "ratios": words("page.no_chart", title=plain(words("title.ratios")))
    }
