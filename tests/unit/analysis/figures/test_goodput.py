"""Goodput counts the requests that kept the service level, in rounds that kept theirs."""

from __future__ import annotations

import pytest

from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.figures.columns import columns_of
from pytest_mooncake.analysis.figures.goodput import goodput, kept_requests
from pytest_mooncake.analysis.statistics.observed import observe
from pytest_mooncake.plan.targets.models import Target, TargetsPlan
from pytest_mooncake.plan.targets.slo import parse_goodput
from pytest_mooncake.records import RequestRecord, Round, Verdict
from tests.support.made_rounds import a_round, chain, request, serial

MIXED = [request(i, sent_ms=i, ttft_ms=ttft, tpot_ms=10) for i, ttft in enumerate((100, 200, 300, 400))]
LOOKS = (3,)


def kept(level: str, requests: list[RequestRecord], *more: Round) -> int:
    rounds = (a_round(requests), *more)
    return kept_requests(columns_of(r for one in rounds for r in one.requests), parse_goodput(level))


@pytest.mark.parametrize(
    ("level", "count"),
    [
        ("ttft_ms<=300", 3), ("ttft_ms<=299", 2), ("ttft_ms<=50", 0), ("tpot_ms<=10", 4), ("tpot_ms<=9", 0),
        ("ttft_ms<=300,tpot_ms<=9", 0), ("e2e_ms<=240", 2), ("ttft_mean_ms<=250", 4), ("ttft_mean_ms<=249", 0),
        ("ttft_p50_ms<=200", 4), ("ttft_p50_ms<=199", 0), ("ttft_p90_ms<=400,ttft_ms<=100", 1),
        ("ttft_p90_ms<=399,ttft_ms<=100", 0),
    ],
)  # fmt: skip
def test_a_request_counts_when_it_keeps_every_limit(level: str, count: int) -> None:
    assert kept(level, MIXED) == count


def test_a_failed_request_keeps_nothing_and_fails_the_percentile_it_lands_on() -> None:
    failed = [*MIXED[:3], request(3, error="refused")]
    assert kept("ttft_ms<=1000", failed) == 3
    assert kept("ttft_p50_ms<=1000", failed) == 3
    assert kept("ttft_p90_ms<=1000", failed) == 0


def test_a_round_that_misses_its_limit_takes_only_its_own_requests_out() -> None:
    slow = a_round([request(0, ttft_ms=900)], number=1)
    assert kept("ttft_mean_ms<=300", MIXED, slow) == 4
    assert kept("ttft_mean_ms<=1000", MIXED, slow) == 5


def test_a_request_without_tpot_keeps_no_limit_on_it() -> None:
    assert kept("tpot_ms<=100", [request(0, tokens=1)]) == 0


def test_goodput_is_a_rate_and_none_without_a_service_level_or_a_makespan() -> None:
    columns = columns_of(a_round(MIXED).requests)
    assert goodput(columns, parse_goodput("ttft_ms<=300"), 2.0) == 1.5
    assert goodput(columns, parse_goodput("ttft_ms<=5"), 2.0) == 0
    assert goodput(columns, (), 2.0) is None
    assert goodput(columns, parse_goodput("ttft_ms<=300"), None) is None


def test_a_round_is_observed_with_its_goodput_and_its_stalls() -> None:
    one = a_round([*serial(100, 10, 6), request(6, ttft_ms=301)])
    seen = observe(one, parse_goodput("ttft_ms<=300")).summary
    assert seen.goodput == pytest.approx(6 / (seen.makespan_s or 0))
    assert seen.stalled == 1
    assert observe(one).summary.goodput is None
    assert observe(a_round([request(0, error="x")])).summary.stalled is None


def test_a_claim_on_goodput_compares_warm_with_cold() -> None:
    plan = TargetsPlan(
        name="t", goodput=parse_goodput("ttft_ms<=5000"), claims=(Target(metric="goodput", target="up 20 %"),)
    )
    rounds = chain([(1200, 15), (1210, 15), (1190, 15), (1205, 15)], [(300, 15), (305, 15), (302, 15)])
    claim = judge_claims(plan, rounds, looks=LOOKS, trials=3, quick=False)[0]
    assert claim.verdict is Verdict.PASS
    assert claim.estimate_ratio == pytest.approx(1260 / 362, rel=0.02)


def test_cold_rounds_without_any_good_request_leave_the_ratio_open_not_invalid() -> None:
    plan = TargetsPlan(
        name="t", goodput=parse_goodput("ttft_ms<=400"), claims=(Target(metric="goodput", target="up 20 %"),)
    )
    rounds = chain([(1200, 15), (1210, 15), (1190, 15), (1205, 15)], [(300, 15), (305, 15), (302, 15)])
    claim = judge_claims(plan, rounds, looks=LOOKS, trials=3, quick=False)[0]
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "reads 0; a ratio needs more than 0, a bound in the metric's own unit does not" in claim.reason
    assert "绝对目标" in claim.details["reason_zh"]
