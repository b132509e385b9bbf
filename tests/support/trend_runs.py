"""Runs of a history as its trend page shows them: daily, shifted or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pytest_mooncake.report.content.document import TrendRun
from pytest_mooncake.report.formats.trend_page import render_trend

START = datetime(2026, 1, 1, tzinfo=UTC)
METRIC = "warm.ttft_mean_ms"
TITLES = {METRIC: "warm mean TTFT", "warm.hit_share": "warm hit share"}


def run(day: float, value: float | None = 100.0, *, verdict: str = "PASS", release: str | None = None) -> TrendRun:
    return TrendRun(
        run_id=f"run-{day}",
        release=release or f"v{day:g}",
        started_at=START + timedelta(days=day),
        verdict=verdict,
        metrics={} if value is None else {METRIC: value},
        rounds={} if value is None else {METRIC: (value * 0.99, value, value * 1.01)},
    )


def series(*, shifted: bool, verdict: str = "PASS") -> list[TrendRun]:
    level = [100 + (n % 3) for n in range(14)]
    after = [130 + (n % 3) for n in range(4)] if shifted else []
    runs = [run(n, value) for n, value in enumerate(level)]
    return runs + [run(14 + n, value, verdict=verdict) for n, value in enumerate(after)]


def page(runs: list[TrendRun], now: datetime | None = None) -> str:
    return render_trend(runs, TITLES, "f" * 24, now or runs[-1].started_at + timedelta(hours=1))
