"""The trend page says what the history holds: figures, intervals, shifts, what was not measured and what is missing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pytest_mooncake.report.charts.run_charts import library
from pytest_mooncake.report.charts.trend import gaps, interval, metric_trend
from pytest_mooncake.report.content.document import TrendRun
from tests.support.trend_runs import METRIC, START, page, run, series


def test_an_interval_is_that_of_the_runs_rounds() -> None:
    found = interval(run(0), METRIC)
    assert found is not None
    # t(0.975, 2) = 4.3027, standard deviation 1, three rounds
    assert found == pytest.approx((100 - 4.3027 / 3**0.5, 100 + 4.3027 / 3**0.5), rel=1e-4)
    assert interval(run(0, None), METRIC) is None
    assert interval(TrendRun(run_id="a", release="a", started_at=START, verdict="PASS", metrics={METRIC: 1.0},
                             rounds={METRIC: (1.0,)}), METRIC) is None  # fmt: skip


def test_a_shift_is_dated_and_names_its_release() -> None:
    ((at, point),) = metric_trend(series(shifted=True), METRIC, "TTFT").shifts
    assert (at, point.release) == (START + timedelta(days=14), "v14")
    assert "since v14" in page(series(shifted=True))
    assert metric_trend(series(shifted=False), METRIC, "TTFT").shifts == ()


def test_runs_whose_instrument_failed_date_nothing_but_are_shown() -> None:
    trend = metric_trend(series(shifted=True, verdict="INVALID"), METRIC, "TTFT")
    assert (trend.shifts, len(trend.runs)) == ((), 18)


def test_a_figure_of_zero_is_shown_and_dates_nothing() -> None:
    trend = metric_trend([*series(shifted=False), run(20, 0.0)], METRIC, "TTFT")
    assert trend.runs[-1].metrics[METRIC] == 0.0
    assert trend.shifts == ()


def test_missing_runs_are_an_alarm() -> None:
    days = [0, 1, 2, 3, 4, 20, 21]
    (found,) = gaps([run(day) for day in days], START + timedelta(days=22))
    assert found.words == "no run from 2026-01-05 until 2026-01-21: 16.0 days where 1.0 are usual"
    assert "Runs are missing:" in page([run(day) for day in days])


def test_a_history_that_stopped_is_an_alarm() -> None:
    (found,) = gaps([run(day) for day in range(6)], START + timedelta(days=40))
    assert found.open
    assert "until now: 35.0 days" in found.words


def test_a_night_or_a_young_history_has_no_gap() -> None:
    assert gaps([run(day) for day in (0, 0.1, 0.2, 0.3, 1.3)], START + timedelta(days=2)) == ()
    assert gaps([run(0), run(1), run(60)], START + timedelta(days=90)) == ()
    assert gaps([], START) == ()


def test_a_metric_that_was_not_measured_is_said() -> None:
    text = page([run(0), run(1, None), run(2)])
    assert "warm mean TTFT in 1 of 3 runs, last in v1" in text
    assert "warm hit share: no run measured it" in text


def test_foreign_text_stays_text_in_page_and_charts() -> None:
    text = page([run(0, release="</script><script>alert(1)</script>"), run(1, release="\x1b[31m'\"><img src=x>")])
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "\x1b" not in text


def test_the_same_history_gives_the_same_page_that_asks_nobody() -> None:
    text = page(series(shifted=True))
    assert text == page(series(shifted=True))
    assert "default-src 'none'" in text
    own = text.replace(library(), "")
    assert "<link" not in own
    assert "://" not in own
    assert len(text) < 2_000_000


def test_every_verdict_has_a_mark_of_its_own() -> None:
    verdicts = ["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
    text = page([run(day, verdict=verdict) for day, verdict in enumerate(verdicts)])
    assert [text.count(f'<span class="tag {verdict}">') for verdict in verdicts] == [1, 1, 1, 1]
    assert all(f'"{marker}"' in text for marker in ("circle", "x", "triangle", "square"))
