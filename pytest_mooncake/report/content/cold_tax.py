"""The cold tax as lines of a table: without connector, cold, warm, and what each is against the other."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.cold_tax import Gain
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.text.labels import Catalogue
from pytest_mooncake.report.text.numbers import MISSING, interval, quantity, ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRow:
    """One metric: its three figures, then the ratios cold/without, warm/cold and warm/without."""

    label: str
    without: str
    cold: str
    warm: str
    tax: str
    own: str
    gain: str


def tax_rows(report: Report, words: Catalogue) -> tuple[TaxRow, ...]:
    """Lines of TTFT and throughput; none where rounds without a connector were not measured."""
    tax = report.cold_tax
    if tax is None:
        return ()
    sides = (tax.without, report.cold, report.warm)
    means = [[side.ttft_ms.mean for side in sides], [side.request_throughput for side in sides]]
    found = (
        ("ttft_mean", "ms", means[0], tax.ttft_tax, tax.ttft_gain),
        ("request_throughput", "req/s", means[1], tax.throughput_tax, tax.throughput_gain),
    )
    return tuple(_row(report, words, *line) for line in found)


def _row(
    report: Report,
    words: Catalogue,
    metric: str,
    unit: str,
    figures: list[float | None],
    cold: Gain | None,
    warm: Gain | None,
) -> TaxRow:
    claim = report.claim(metric)
    own = Gain(ratio=claim.estimate_ratio, interval=claim.ci_ratio) if claim and claim.estimate_ratio else None
    without, with_cold, with_warm = (MISSING if v is None else f"{quantity(v)} {unit}" for v in figures)
    return TaxRow(
        label=words(f"metric.{metric}"),
        without=without,
        cold=with_cold,
        warm=with_warm,
        tax=gain_text(cold),
        own=gain_text(own),
        gain=gain_text(warm),
    )


def gain_text(gain: Gain | None) -> str:
    """A ratio with its interval behind it."""
    if gain is None:
        return MISSING
    return ratio(gain.ratio) if gain.interval is None else f"{ratio(gain.ratio)} {interval(gain.interval)}"
