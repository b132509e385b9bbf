"""The points of the page's charts: true to the records and few enough for a page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.records import Kind, Phase
from pytest_mooncake.report.charts import chart_data
from tests.support import runs
from tests.support.original_report import original_report


def test_a_distribution_rises_to_one_when_nothing_failed() -> None:
    steps = chart_data.distribution(runs.rounds()[1:], Kind.WARM)

    assert [step.ttft_ms for step in steps] == sorted(step.ttft_ms for step in steps)
    assert steps[-1].share == 1.0
    assert len(steps) == 12


def test_failures_rank_last_so_a_distribution_with_them_ends_below_one() -> None:
    steps = chart_data.distribution(runs.rounds(error="refused")[1:], Kind.COLD)

    assert steps[-1].share == 0.75


def test_a_large_distribution_is_thinned_and_keeps_its_ends() -> None:
    one = runs.chain_round(1, requests=5000)
    steps = chart_data.distribution([one], Kind.COLD)

    assert len(steps) == chart_data.MOST_POINTS
    assert (steps[0].ttft_ms, steps[-1].ttft_ms) == (1200, 6199)
    assert steps[-1].share == 1.0


def test_requests_are_in_order_of_time_and_count_from_the_first_send() -> None:
    points = chart_data.request_points(runs.rounds()[1:])

    assert points[0].at_s == 0
    assert [p.at_s for p in points] == sorted(p.at_s for p in points)
    assert points[0].ttft_ms == 1200


def test_a_request_that_was_never_sent_is_no_point_and_a_failed_one_has_no_ttft() -> None:
    one = runs.chain_round(1, error="refused")
    unsent = replace(one, requests=(replace(one.requests[0], sent_ns=None), *one.requests[1:]))

    assert len(chart_data.request_points([unsent])) == 3
    assert chart_data.request_points([one])[0].ttft_ms is None
    assert chart_data.request_points([]) == ()


@given(st.integers(1, 50), st.integers(1, 40))
def test_bins_lose_no_request(requests: int, count: int) -> None:
    points = chart_data.request_points([runs.chain_round(1, requests=requests), runs.chain_round(2, requests=requests)])
    found = chart_data.bins(points, count)

    assert sum(b.requests for b in found) == 2 * requests
    assert len(found) <= 2 * count
    assert all(b.least_ms is not None and b.least_ms <= (b.mean_ms or 0) <= (b.most_ms or 0) for b in found)


def test_a_bin_of_failures_has_no_times() -> None:
    (only,) = chart_data.bins(chart_data.request_points([runs.chain_round(1, requests=1, error="refused")]))

    assert (only.failed, only.mean_ms, only.least_ms) == (1, None, None)
    assert chart_data.bins(()) == ()


def test_ratio_rows_hold_the_trials_that_are_known() -> None:
    claim = replace(runs.claim("ttft_mean", 0.3, 0.4), details={"trial_ratios": (0.29, None, 0.31)})
    none = replace(runs.claim("failures", 1, 1), estimate_ratio=None)

    (row,) = chart_data.ratio_rows((claim, none))

    assert row.trials == (0.29, 0.31)
    assert row.interval == pytest.approx((0.285, 0.315))


def test_attribution_adds_up_to_the_prompt_tokens() -> None:
    cold, warm = chart_data.attribution(runs.report())

    assert (cold.cached, cold.computed) == (0, 16 * 16384)
    assert warm.cached + warm.computed == 12 * 16384
    assert chart_data.attribution(original_report()) == ()


def test_charts_leave_the_left_out_round_out() -> None:
    assert {r.phase for r in chart_data.chain_rounds(runs.report())} == {Phase.CHAIN}
