"""The gain against an engine without a connector, and what storing costs a cold round."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from pytest_mooncake.analysis.cold_tax import cold_tax
from pytest_mooncake.records import Kind, Round
from tests.support import runs


def rounds(*ttft_ms: float, kind: Kind = Kind.COLD) -> tuple[Round, ...]:
    """One round of four requests for each mean TTFT; they are sent one after the other."""
    made = []
    for number, mean_ms in enumerate(ttft_ms):
        requests = tuple(runs.request(number, kind, index, ttft_ms=mean_ms) for index in range(4))
        made.append(replace(runs.chain_round(number), kind=kind, requests=requests))
    return tuple(made)


WITHOUT, COLD, WARM = rounds(1000, 1020, 990), rounds(1200, 1210, 1190, 1205), rounds(400, 410, 395, kind=Kind.WARM)


def test_the_gain_is_the_ratio_of_geometric_means_with_welchs_interval() -> None:
    tax = cold_tax(WITHOUT, COLD, WARM, confidence=0.90)

    assert tax is not None
    assert tax.ttft_gain is not None
    assert tax.ttft_gain.interval is not None
    logs = [[math.log(v) for v in side] for side in ((400, 410, 395), (1000, 1020, 990))]
    welch = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.90)
    assert tax.ttft_gain.ratio == pytest.approx(math.exp(sum(logs[0]) / 3 - sum(logs[1]) / 3))
    assert tax.ttft_gain.interval == pytest.approx((math.exp(welch.low), math.exp(welch.high)))


def test_cold_rounds_pay_for_storing_and_so_flatter_the_gain() -> None:
    tax = cold_tax(WITHOUT, COLD, WARM, confidence=0.90)

    assert tax is not None
    assert tax.ttft_tax is not None
    assert tax.ttft_tax.ratio == pytest.approx(1.2, rel=0.01)
    assert tax.throughput_gain is not None
    assert tax.throughput_gain.ratio > 0
    assert tax.to_json()["without"]["ttft_ms"]["mean"] == pytest.approx(1003.3, abs=0.1)


def test_a_single_round_has_no_interval_and_equal_rounds_a_point() -> None:
    single = cold_tax(WITHOUT[:1], COLD, WARM, confidence=0.90)
    equal = cold_tax(rounds(1000, 1000), rounds(1000, 1000), rounds(500, 500, kind=Kind.WARM), confidence=0.90)

    assert single is not None
    assert single.ttft_gain is not None
    assert single.ttft_gain.interval is None
    assert equal is not None
    assert equal.ttft_gain is not None
    assert equal.ttft_gain.interval == pytest.approx((0.5, 0.5))


def test_what_was_not_measured_is_no_tax() -> None:
    failed = replace(WITHOUT[0], requests=(replace(WITHOUT[0].requests[0], error="refused"),))

    assert cold_tax((), COLD, WARM, confidence=0.90) is None
    assert cold_tax((failed, *WITHOUT), COLD, WARM, confidence=0.90) is None
    tax = cold_tax(WITHOUT, COLD, (), confidence=0.90)
    assert tax is not None
    assert tax.ttft_gain is None
