"""The registry of metrics: what a target may name."""

from __future__ import annotations

import pytest

from pytest_mooncake.analysis.figures.metrics import METRICS, metric_named
from pytest_mooncake.analysis.figures.summary import summarise
from pytest_mooncake.errors import PlanError
from tests.support.made_rounds import a_round, request, serial

FULL = summarise([a_round([*serial(100, 10, 4), request(9, error="refused")])])
EMPTY = summarise([])


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_name_in_both_languages_and_no_figure_for_nothing(name: str) -> None:
    metric = metric_named(name)
    assert metric.name == name
    assert metric.title
    assert metric.title_zh
    assert metric.of(EMPTY) is None


def test_metrics_read_their_field_of_the_summary() -> None:
    assert metric_named("ttft_mean").of(FULL) == 100
    assert metric_named("tpot_p50").of(FULL) == 10
    assert metric_named("e2e_p90").of(FULL) is None
    assert metric_named("makespan").of(FULL) == FULL.makespan_s
    assert metric_named("success_share").of(FULL) == 0.8
    assert metric_named("cached_share").of(FULL) == 0


def test_throughput_is_better_when_higher_and_latency_when_lower() -> None:
    assert metric_named("request_throughput").better == "higher"
    assert metric_named("itl_p99").better == "lower"


def test_a_name_far_from_any_metric_lists_them_all() -> None:
    with pytest.raises(PlanError, match="known metrics: cached_share, e2e_mean"):
        metric_named("qqqq")
