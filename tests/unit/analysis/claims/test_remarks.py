"""A/A control, drift, skew, tail and prompts: what is said beside a verdict."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.claims.remarks import remarks
from pytest_mooncake.analysis.statistics.contrast import Contrast, Point, contrast
from pytest_mooncake.analysis.statistics.drift import (
    Remark,
    control,
    drift_remark,
    skew_remark,
    skewness,
    stated_confidence,
)
from pytest_mooncake.analysis.statistics.tail import paired_ratios, rate_bound, warm_tail
from pytest_mooncake.records import Kind
from tests.support.made_rounds import a_round, chain, noisy, request
from tests.support.spec_figures import SPEC


def cold(values: list[float]) -> list[Point]:
    return [Point(kind=Kind.COLD, position=2 * i, value=value) for i, value in enumerate(values)]


def chain_of(logs: list[float]) -> list[Point]:
    return [Point(kind=Kind.WARM if i % 2 else Kind.COLD, position=i, value=math.exp(v)) for i, v in enumerate(logs)]


def contrasted(points: list[Point]) -> Contrast:
    found = contrast(points)
    assert isinstance(found, Contrast)
    return found


def test_consecutive_cold_rounds_that_agree_hold_a_ratio_of_one() -> None:
    found = control(cold((100 * np.exp(np.random.default_rng(0).normal(scale=0.03, size=8))).tolist()))
    assert found.ratio == pytest.approx(1, abs=0.06)
    assert found.ci_ratio is not None
    assert found.ci_ratio[0] < 1 < found.ci_ratio[1]
    assert "holds 1" in found.text
    assert "包含 1" in found.text_zh


def test_the_control_covers_one_as_often_as_it_says_whatever_the_drift() -> None:
    generator, covered = np.random.default_rng(1), 0
    for _ in range(400):
        logs = generator.normal(scale=0.05, size=6) + 0.1 * np.arange(6)
        interval = control(cold(np.exp(logs).tolist())).ci_ratio
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert covered / 400 == pytest.approx(0.95, abs=0.035)


def test_alternating_cold_rounds_are_called_out() -> None:
    found = control(cold([100, 150, 101, 149, 99, 151, 100.5]))
    assert found.ratio == pytest.approx(1.5, abs=0.02)
    assert "trust no small effect" in found.text


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, -1.0, 2.0]])
def test_too_few_cold_rounds_leave_the_control_without_figures(values: list[float]) -> None:
    found = control([*cold(values), Point(kind=Kind.WARM, position=1, value=9.0)])
    assert (found.ratio, found.ci_ratio) == (None, None)
    assert "4 are needed" in found.text


def test_a_drift_is_said_and_called_harmless() -> None:
    noise = np.random.default_rng(2).normal(scale=0.01, size=13)
    drifting = drift_remark(contrasted(chain_of((noise + 0.05 * np.arange(13)).tolist())), "TTFT", "TTFT")
    assert drifting is not None
    assert "+5." in drifting.text
    assert "cancels" in drifting.text
    assert drift_remark(contrasted(chain_of(noise.tolist())), "TTFT", "TTFT") is None


def test_a_right_skew_of_the_warm_rounds_is_said() -> None:
    logs = [0.0, 0, 0.01, 0, -0.01, 0, 0.01, 0.9, 0, 0, 0.01, 0, 0.0]
    points = chain_of(logs)
    skewed = skew_remark(contrasted(points), points, "TTFT", "TTFT")
    assert skewed is not None
    assert "up to 8 %" in skewed.text
    flipped = chain_of([-v for v in logs])
    assert skew_remark(contrasted(flipped), flipped, "TTFT", "TTFT") is None
    short = chain_of([0.0, 0, 0.01, 0.9, -0.01])
    assert skew_remark(contrasted(short), short, "TTFT", "TTFT") is None


@given(st.lists(st.floats(-5, 5).map(lambda v: round(v, 3)), min_size=3, max_size=20))
def test_skewness_changes_its_sign_with_the_data(values: list[float]) -> None:
    array = np.array(values)
    assert skewness(-array) == pytest.approx(-skewness(array), abs=1e-9)
    assert skewness(np.ones(4)) == 0


def test_the_stated_confidence_is_downgraded_in_words() -> None:
    plain = stated_confidence([], None, sessions=2)
    skewed = stated_confidence([Remark(id="skew", text="", text_zh="")], None, sessions=2)
    stalled = stated_confidence([], warm_tail(np.array([100.0] * 29 + [900.0])), sessions=1)

    assert plain.text.startswith("false PASS at most 5 % for independent rounds without rare stalls")
    assert "engine start" not in plain.text
    assert "at most 8 %" in skewed.text
    assert "1 of 30 warm requests stalled" in stalled.text
    assert "one engine start" in stalled.text
    assert "11 %" in stalled.text_zh


def test_ninety_requests_without_a_stall_bound_the_rate_at_three_percent() -> None:
    tail = warm_tail(np.full(90, 400.0))
    assert tail is not None
    assert tail.text == "90 warm requests without a stall bound its rate only at 3.3 %"
    assert "3.3 %" in tail.text_zh
    assert warm_tail(np.array([math.nan])) is None


def test_a_stall_is_counted_and_bounded() -> None:
    tail = warm_tail(np.array([100.0] * 28 + [250.0, 900.0]))
    assert tail is not None
    assert (tail.stalls, tail.worst_ms) == (1, 900)
    assert tail.text.startswith(
        "1 of 30 warm requests stalled (TTFT over 3 medians, worst 900 ms at a median of 100 ms)"
    )
    assert "1 个停顿" in tail.text_zh


def test_the_bound_of_a_rate_agrees_with_the_closed_form_and_the_binomial_sum() -> None:
    assert rate_bound(0, 90) == pytest.approx(1 - 0.05 ** (1 / 90))
    bound = rate_bound(2, 50)
    tail = sum(math.comb(50, k) * bound**k * (1 - bound) ** (50 - k) for k in range(3))
    assert tail == pytest.approx(0.05)
    assert rate_bound(5, 5) == 1.0


def test_prompts_are_compared_with_themselves() -> None:
    before = a_round([request(i, ttft_ms=100 * (i + 1)) for i in range(4)])
    after = [request(i, ttft_ms=50 * (i + 1)) for i in range(3)]
    paired = paired_ratios(before, a_round([*after, request(3, error="cut"), request(7)], number=1))
    worse = paired_ratios(before, a_round([*after[:2], request(2, ttft_ms=600)], number=1))

    assert paired is not None
    assert worse is not None
    assert (paired.prompts, paired.p50, paired.worst_ratio) == (3, 0.5, 0.5)
    assert (worse.worst_index, worse.worst_ratio) == (2, 2.0)
    assert paired_ratios(before, a_round([request(9)])) is None


def test_remarks_end_with_the_confidence_that_is_left() -> None:
    made = remarks(SPEC, noisy(4, 0.3))
    ids = [one.id for one in made]

    assert ids[0] == "control"
    assert ids[-3:] == ["tail", "prompts", "confidence"]
    assert "16 warm requests without a stall" in made[-3].text
    assert "worst ×0.3" in made[-2].text
    assert all(one.text and one.text_zh for one in made)


def test_constant_rounds_and_no_rounds_are_remarked_without_error() -> None:
    assert [one.id for one in remarks(SPEC, ())] == ["control", "confidence"]
    constant = chain([(1200, 15)] * 3, [(300, 15)] * 2)
    assert [one.id for one in remarks(SPEC, constant)] == ["control", "tail", "prompts", "confidence"]
    lone = replace(constant[1], position=9)
    assert [one.id for one in remarks(SPEC, (constant[0], lone))] == ["control", "tail", "confidence"]
