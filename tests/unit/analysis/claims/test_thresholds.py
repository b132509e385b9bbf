"""Thresholds against figures: kept, crossed, without a sample; and when they may end a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.claims.combine import combine
from pytest_mooncake.analysis.claims.thresholds import figure_of, judge_thresholds
from pytest_mooncake.analysis.figures.columns import columns_of
from pytest_mooncake.plan.targets.thresholds import Threshold, parse_expression
from pytest_mooncake.records import Claim, Kind, Round, Verdict
from tests.support.made_rounds import a_round, request


def rounds(cold: list[float], warm: list[float], *, errors: int = 0) -> tuple[Round, ...]:
    bad = [request(90 + i, error="refused") for i in range(errors)]
    made = [
        a_round([request(i, ttft_ms=one) for i, one in enumerate(cold)], number=0),
        a_round([*(request(i, ttft_ms=one) for i, one in enumerate(warm)), *bad], number=1, kind=Kind.WARM),
    ]
    return tuple(one for one in made if one.requests)


def judge(
    text: str,
    made: tuple[Round, ...],
    metric: str = "warm.ttft",
    *,
    trials: int = 3,
    quick: bool = False,
    abort: bool = False,
    optional: bool = False,
) -> Claim:
    one = Threshold(metric=metric, threshold=text, abort_on_fail=abort, optional=optional)
    (claim,) = judge_thresholds((one,), made, looks=(3, 5), trials=trials, quick=quick)
    return claim


TWICE = "looked at up to 2 times, nothing is tested"
MADE = rounds([1000, 1200, 1400], [300, 400, 500])


@pytest.mark.parametrize(
    ("metric", "text", "verdict"),
    [
        ("warm.ttft", "avg<=0.4*cold", Verdict.PASS),
        ("warm.ttft", "avg<=0.3*cold", Verdict.FAIL),
        ("warm.ttft", "p(99)<2s", Verdict.PASS),
        ("warm.ttft", "med<=400", Verdict.PASS),
        ("warm.ttft", "med<400", Verdict.FAIL),
        ("warm.ttft", "max==500", Verdict.PASS),
        ("warm.ttft", "min>=300ms", Verdict.PASS),
        ("cold.ttft", "avg>warm", Verdict.PASS),
        ("warm.tpot", "avg<=1.01*cold", Verdict.PASS),
        ("warm.itl", "p(99)<11", Verdict.PASS),
        ("warm.e2e", "max<540", Verdict.FAIL),
        ("warm.request_throughput", "value>cold", Verdict.PASS),
        ("warm.output_token_throughput", "value>20 tokens/s", Verdict.PASS),
        ("cold.makespan", "value<1s", Verdict.FAIL),
        ("warm.failed", "rate<1%", Verdict.PASS),
        ("warm.failed", "count==0", Verdict.PASS),
        ("warm.cached_share", "rate>0.9", Verdict.FAIL),
    ],
)
def test_a_figure_keeps_its_threshold_or_crosses_it(metric: str, text: str, verdict: Verdict) -> None:
    assert judge(text, MADE, metric).verdict is verdict


def test_the_reason_names_figure_threshold_and_what_the_other_rounds_make_of_it() -> None:
    claim = judge("avg<=0.4*cold", MADE)
    assert claim.reason == f"warm.ttft is 400 ms, avg<=0.4*cold (480 ms) asked: kept; {TWICE}"
    assert claim.details["reason_zh"].startswith(
        "warm.ttft 为 400 ms，要求 avg<=0.4*cold (480 ms)：满足；最多查看 2 次"
    )
    assert (claim.id, claim.gating, claim.details["warm"]) == ("warm.ttft: avg<=0.4*cold", True, 400)


def test_without_a_sample_an_upper_limit_is_invalid_not_kept() -> None:
    nothing_warm = rounds([1000], [])
    claim = judge("p(99)<2s", nothing_warm)
    assert claim.verdict is Verdict.INVALID
    assert claim.reason == "warm.ttft: p(99)<2s: no warm round has a sample of it"
    assert combine((claim,))[0] is Verdict.INVALID
    assert judge("avg>0.1*warm", nothing_warm, "cold.ttft").verdict is Verdict.INVALID
    assert judge("rate<1%", nothing_warm, "warm.failed").verdict is Verdict.INVALID


def test_all_requests_failed_is_no_sample_of_their_times() -> None:
    assert judge("avg<1s", rounds([1000], [], errors=2)).verdict is Verdict.INVALID


def test_failed_requests_rank_behind_all_others_and_count() -> None:
    made = rounds([1000], [300, 400, 500], errors=1)
    claim = judge("p(99)<2s", made)
    assert (claim.verdict, claim.details["warm"]) == (Verdict.FAIL, None)
    assert "is a failed request" in claim.reason
    assert judge("med<=400", made).verdict is Verdict.PASS
    assert judge("rate<=25%", made, "warm.failed").reason == f"warm.failed is 25.00 %, rate<=25% asked: kept; {TWICE}"
    assert judge("count<1", made, "warm.failed").reason == f"warm.failed is 1, count<1 asked: crossed; {TWICE}"


def test_a_threshold_of_a_single_look_needs_no_word_on_looks() -> None:
    one = Threshold(metric="warm.ttft", threshold="avg<=0.4*cold")
    (claim,) = judge_thresholds((one,), MADE, looks=(3,), trials=3, quick=False)
    assert claim.reason.endswith("asked: kept")


def test_before_the_first_look_and_in_a_quick_run_nothing_is_judged() -> None:
    assert judge("avg<1ms", MADE, trials=2).verdict is Verdict.INCONCLUSIVE
    assert judge("avg<9s", MADE, quick=True).verdict is Verdict.INCONCLUSIVE
    assert "described, not judged" in judge("avg<1ms", MADE, trials=2).reason


def test_a_threshold_that_ends_the_run_is_crossed_before_the_first_look() -> None:
    assert judge("avg<1ms", MADE, trials=1, abort=True).verdict is Verdict.FAIL
    assert judge("avg<9s", MADE, trials=1, abort=True).verdict is Verdict.INCONCLUSIVE
    assert judge("avg<1ms", MADE, trials=1, abort=True, quick=True).verdict is Verdict.INCONCLUSIVE


def test_an_optional_threshold_is_reported_and_ends_nothing() -> None:
    claim = judge("avg<1ms", MADE, abort=True, optional=True)
    assert (claim.verdict, claim.gating, claim.details["abort_on_fail"]) == (Verdict.FAIL, False, False)


def test_no_threshold_costs_nothing() -> None:
    assert judge_thresholds((), MADE, looks=(3,), trials=3, quick=False) == ()


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=40), st.floats(1, 100))
def test_a_percentile_is_the_smallest_figure_that_so_many_do_not_exceed(ttft_ms: list[int], quantile: float) -> None:
    columns = columns_of(request(i, ttft_ms=float(one)) for i, one in enumerate(ttft_ms))
    found = figure_of(columns, "ttft", parse_expression("warm.ttft", f"p({quantile:.4f})<1"))
    asked = math.ceil(float(f"{quantile:.4f}") / 100 * len(ttft_ms) - 1e-9)
    assert found == pytest.approx(np.sort(ttft_ms)[max(0, asked - 1)])
