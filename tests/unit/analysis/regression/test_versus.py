"""New against old in turns: what is confirmed, what is not, what stays open."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from pytest_mooncake.analysis.regression.versus import NEW, OLD, Versus, compare_visits
from pytest_mooncake.records import Kind, Phase, Round, Verdict
from tests.support.made_rounds import a_round, request

LOOKS = (3, 5, 10)


def visits(
    count: int, *, slower: float = 1.0, sigma: float = 0.01, hits: float = 1.0, drift: float = 0.0, cold_hit: int = 0
) -> tuple[Round, ...]:
    """So many visits of the new endpoint and one more of the old one."""
    generator = np.random.default_rng(7)

    def made() -> Iterator[Round]:
        for position in range(1, 2 * count + 2):
            segment = NEW if position % 2 == 0 else OLD
            factor = (slower if segment == NEW else 1.0) * math.exp(drift * position)
            for kind, ttft_ms in ((Kind.COLD, 1000.0), (Kind.WARM, 300.0)):
                ttft_ms *= factor * math.exp(generator.normal(0, sigma))
                cached = 1000 if kind is Kind.WARM else cold_hit
                if segment == NEW and kind is Kind.WARM:
                    cached = round(1000 * hits)
                sent = [replace(request(i, ttft_ms=ttft_ms), cached_tokens=cached) for i in range(2)]
                number = 2 * position + (kind is Kind.WARM)
                one = a_round(sent, number=number, kind=kind, segment=segment)
                yield replace(one, position=position, phase=Phase.VERSUS)

    return tuple(made())


def found(*rounds: Round, looks: tuple[int, ...] = LOOKS) -> Versus:
    made = compare_visits(rounds, looks)
    assert made is not None
    return made


def standing(of: Versus, metric: str) -> str:
    return next(one.standing for one in of.metrics if one.metric == metric)


def test_an_endpoint_that_is_slower_is_confirmed_with_ratio_and_interval() -> None:
    told = found(*visits(3, slower=1.3))
    ttft = next(one for one in told.metrics if one.metric == "cold.ttft_mean_ms")
    assert ttft.standing == "slower"
    assert ttft.ratio == pytest.approx(1.3, rel=0.03)
    assert ttft.ci_ratio is not None
    assert ttft.ratio is not None
    assert 1 < ttft.ci_ratio[0] < ttft.ratio < ttft.ci_ratio[1]
    assert standing(told, "warm.request_throughput") == "slower"
    assert standing(told, "warm.tpot_mean_ms") == "not slower"
    assert told.slower == ("warm.ttft_mean_ms", "warm.request_throughput", "cold.ttft_mean_ms")
    assert told.is_decided


def test_equal_endpoints_are_not_slower() -> None:
    told = found(*visits(3))
    assert (told.slower, told.is_decided, told.visits) == ((), True, 3)


def test_a_faster_endpoint_is_not_slower() -> None:
    assert found(*visits(3, slower=0.7)).slower == ()


def test_less_than_five_percent_is_never_confirmed() -> None:
    assert found(*visits(10, slower=1.04, sigma=0.001)).slower == ()


def test_noise_leaves_it_open() -> None:
    told = found(*visits(3, slower=1.05, sigma=0.3))
    assert standing(told, "cold.ttft_mean_ms") == "undecided"
    assert not told.is_decided


def test_linear_drift_of_the_machine_cancels() -> None:
    assert found(*visits(5, drift=0.05)).slower == ()


def test_a_hit_share_that_never_moves_needs_no_test() -> None:
    assert standing(found(*visits(3)), "warm.hit_share") == "not slower"
    assert standing(found(*visits(3, hits=0.5)), "warm.hit_share") == "slower"
    assert standing(found(*visits(3, hits=0.0)), "warm.hit_share") == "slower"


def test_a_cold_round_that_hit_decides_nothing() -> None:
    told = found(*visits(3, slower=2.0, cold_hit=500))
    assert told.slower == ()
    assert "the cold round of visit 1 hit a cache" in told.text


def test_before_the_first_look_nothing_is_decided() -> None:
    told = found(*visits(2, slower=2.0))
    assert {one.standing for one in told.metrics} == {"undecided"}
    assert {one.standing for one in found(*visits(1, slower=2.0), looks=(1,)).metrics} == {"undecided"}


def test_between_looks_the_last_look_is_judged() -> None:
    more = found(*visits(4, slower=1.3))
    assert more.visits == 3
    assert more == found(*visits(4, slower=1.3)[:14])


def test_a_visit_that_was_cut_short_does_not_count() -> None:
    assert found(*visits(3)[:-1]).visits == 3
    assert compare_visits(visits(1)[:3], LOOKS) is None
    assert compare_visits((), LOOKS) is None


def failing(rounds: tuple[Round, ...], position: int, requests: int = 1) -> tuple[Round, ...]:
    """The same visits, with failed requests in both rounds of one of them, after which nothing was sent."""
    return tuple(
        replace(
            one,
            requests=tuple(
                replace(r, error="HTTP 500: boom") if one.position == position and r.index < requests else r
                for r in one.requests
            ),
        )
        for one in rounds
        if one.position <= position
    )


@pytest.mark.parametrize("position", [2, 4, 6])
def test_a_failed_request_of_the_new_endpoint_is_a_fail_and_said(position: int) -> None:
    told = found(*failing(visits(3), position))
    assert (told.failed_new, told.failed_old, told.verdict) == (2, 0, Verdict.FAIL)
    assert not told.is_decided, "the visit with the failure enters no metric"
    assert "2 requests of the new endpoint failed: FAIL (HTTP 500: boom)" in told.text
    assert "新端点有 2 个请求失败：未通过（HTTP 500: boom）" in told.text_zh


def test_it_is_a_fail_even_where_every_metric_had_been_decided() -> None:
    told = found(*failing(visits(4), 8))
    assert (told.visits, {one.standing for one in told.metrics}) == (3, {"not slower"})
    assert told.verdict is Verdict.FAIL


@pytest.mark.parametrize("position", [1, 3, 7])
def test_a_failed_request_of_the_old_endpoint_leaves_all_undecided(position: int) -> None:
    told = found(*failing(visits(3, slower=1.3), position))
    assert (told.failed_new, told.failed_old) == (0, 2)
    assert (told.slower, told.is_decided, told.verdict) == ((), False, Verdict.INCONCLUSIVE)
    assert "2 requests of the old endpoint failed: undecided (HTTP 500: boom)" in told.text
    assert "旧端点有 2 个请求失败：未决" in told.text_zh


def test_both_are_said_and_the_new_ones_count() -> None:
    rounds = failing(visits(3), 6)
    told = found(*failing(rounds, 5), *(one for one in rounds if one.position == 6))
    assert told.verdict is Verdict.FAIL
    assert "of the new endpoint failed: FAIL" in told.text
    assert "of the old endpoint failed: undecided" in told.text


def test_what_was_not_measured_to_the_end_is_undecided_and_said() -> None:
    told = compare_visits(visits(2), LOOKS, "run time limit reached")
    assert told is not None
    assert (told.is_decided, told.verdict) == (False, Verdict.INCONCLUSIVE)
    assert "not measured to the end: run time limit reached: undecided" in told.text
    assert "未测量到最后" in told.text_zh
    nothing = compare_visits((), LOOKS, "the run was ended before them")
    assert nothing is not None
    assert (nothing.metrics, nothing.is_decided, nothing.verdict) == ((), False, Verdict.INCONCLUSIVE)
    assert "not measured to the end" in nothing.text


def test_what_had_decided_or_reached_the_last_look_was_measured_to_the_end() -> None:
    decided = compare_visits(visits(3), LOOKS, "killed")
    assert decided is not None
    assert (decided.ended, decided.verdict) == (None, Verdict.PASS)
    last = compare_visits(visits(3, slower=1.05, sigma=0.3), (2, 3), "killed")
    assert last is not None
    assert (last.ended, last.verdict) == (None, Verdict.INCONCLUSIVE)


def test_it_goes_into_json_and_both_languages() -> None:
    told = found(*visits(3, slower=1.3))
    as_json = json.loads(json.dumps(told.to_json()))
    assert as_json["slower"][0] == "warm.ttft_mean_ms"
    assert (as_json["failed_new"], as_json["decided"], as_json["verdict"]) == (0, True, "INCONCLUSIVE")
    assert told.text.startswith("new against old, 3 visits in turns: warm mean TTFT +")
    assert "确认变慢" in told.text_zh
