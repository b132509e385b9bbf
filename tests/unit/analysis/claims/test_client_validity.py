"""The client's own bias, held against what a claim can bear."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.claims.client_validity import (
    BiasedRound,
    allowance,
    bias_shift,
    coarseness,
    idle_share,
    saturation,
)
from pytest_mooncake.analysis.figures.summary import Summary, summarise
from pytest_mooncake.plan.targets.models import Target
from pytest_mooncake.records import Claim, ClientHealth, RequestRecord, Round, Verdict
from tests.support.made_rounds import MS, a_round, request, serial

TTFT = Target(metric="ttft_mean", target="down 60 %")
TPOT = Target(metric="tpot_mean", target="stable")
COLD, WARM = (summarise([a_round(serial(ttft, 10, 4))]) for ttft in (100, 30))


def claim(target: Target, ratio: float, low: float, high: float, *, gating: bool = True) -> Claim:
    return Claim(
        id=target.claim_id, title=target.title, gating=gating, verdict=Verdict.PASS, reason="",
        estimate_ratio=ratio, ci_ratio=(low, high),
    )  # fmt: skip


def shift(metric: str, summary: Summary, bias_ms: float) -> float | None:
    return bias_shift(metric, BiasedRound(summary=summary, bias_ms=bias_ms))


def test_ttft_and_e2e_hold_the_bias_whole() -> None:
    assert shift("ttft_mean", WARM, 3) == pytest.approx(math.log(30 / 27))
    assert shift("ttft_p90", WARM, -3) == pytest.approx(math.log(30 / 33))
    assert shift("e2e_mean", WARM, 7) == pytest.approx(math.log(70 / 63))
    assert shift("ttft_mean", WARM, 0) == 0


def test_a_decode_holds_at_most_one_bias_over_all_its_tokens() -> None:
    assert shift("tpot_mean", WARM, 4) == pytest.approx(math.log(10 / 9)), "five tokens, four of them decoded"
    assert shift("itl_p50", WARM, 4) == pytest.approx(math.log(10 / 9))


def test_a_makespan_holds_one_and_throughput_moves_against_it() -> None:
    span_ms = (WARM.makespan_s or 0) * 1e3
    assert shift("makespan", WARM, 5) == pytest.approx(math.log(span_ms / (span_ms - 5)))
    assert shift("request_throughput", WARM, 5) == pytest.approx(-math.log(span_ms / (span_ms - 5)))


def test_shares_hold_none_and_what_was_not_measured_tells_none() -> None:
    assert shift("success_share", WARM, 5) == 0
    assert shift("ttft_mean", summarise([]), 5) is None
    assert shift("tpot_mean", replace(WARM, output_tokens=None), 5) is None


def test_a_bias_as_large_as_the_figure_is_beyond_all_bounds() -> None:
    assert shift("ttft_mean", WARM, 30) == math.inf


@pytest.mark.parametrize(
    ("target", "claimed", "expected"),
    [
        (TTFT, claim(TTFT, 0.2, 0.19, 0.21), math.log(2) / 4),
        (TTFT, claim(TTFT, 0.4, 0.2, 0.8), math.log(2) / 4),
        (TTFT, claim(TTFT, 0.4, 0.39, 0.41), math.log(0.41 / 0.39) / 8),
        (TPOT, claim(TPOT, 1.09, 1.08, 1.099), math.log(1.1) / 4),
        (Target(metric="tpot_mean", target="within 10 %"), claim(TPOT, 1.05, 1.04, 1.06), math.log(1.1) / 4),
        (Target(metric="request_throughput", target="stable"), claim(TPOT, 0.91, 0.905, 0.92), -math.log(0.9) / 4),
    ],
)
def test_a_quarter_of_distance_half_width_or_margin_may_be_overlooked(
    target: Target, claimed: Claim, expected: float
) -> None:
    assert allowance(target, claimed) == pytest.approx(expected)


def test_a_gain_that_is_asked_for_has_no_margin() -> None:
    rate = Target(metric="request_throughput", target="up 150 %")
    assert allowance(rate, claim(rate, 2.5, 2.45, 2.55)) == pytest.approx(math.log(2.55 / 2.45) / 8)


def test_without_an_interval_or_a_target_nothing_is_held_against_the_bias() -> None:
    assert allowance(TTFT, replace(claim(TTFT, 0.3, 0.2, 0.4), ci_ratio=None)) is None
    assert allowance(Target(metric="ttft_p90", gating=False), claim(TTFT, 0.3, 0.2, 0.4)) is None


def test_a_bound_is_held_against_the_rounds_it_speaks_of() -> None:
    warm, cold = Target(metric="ttft_mean", target="<= 40 ms"), Target(metric="ttft_mean", target="<= 200 ms cold")
    for target, estimate, bias, coarse in (
        (warm, 30.0, 2.5, True),
        (warm, 30.0, 1.5, False),
        (cold, 100.0, 2.5, False),
    ):
        said = replace(claim(target, 1, 1, 1), estimate_ratio=None, ci_ratio=None)
        details = {"estimate": estimate, "interval": (estimate * 0.99, estimate * 1.01)}
        judged = coarseness(
            (target,), (replace(said, details=details),), BiasedRound(summary=COLD, bias_ms=bias),
            BiasedRound(summary=WARM, bias_ms=bias),
        )  # fmt: skip
        assert (judged is not None) is coarse


def test_the_shift_of_a_ratio_is_the_difference_of_both_sides() -> None:
    """0.3 against 0.4: a quarter of log(4/3) is 0.0719; a bias b shifts by log(30/(30-b)) - log(100/(100-b))."""
    said = claim(TTFT, 0.3, 0.299, 0.301)

    def judged(bias_ms: float) -> str | None:
        return coarseness(
            (TTFT,), (said,), BiasedRound(summary=COLD, bias_ms=bias_ms), BiasedRound(summary=WARM, bias_ms=bias_ms)
        )

    assert judged(2.8) is None
    assert judged(3.0) is not None
    assert judged(-3.0) is None
    assert judged(-3.6) is not None
    assert "mean TTFT: its bias of +3.00 ms shifts the claim by 7.8%, at most 7.5% may be overlooked" in (
        judged(3.0) or ""
    )


def test_claims_that_gate_nothing_or_come_from_nowhere_are_left_alone() -> None:
    cold, warm = BiasedRound(summary=COLD, bias_ms=20), BiasedRound(summary=WARM, bias_ms=20)
    assert coarseness((TTFT,), (claim(TTFT, 0.3, 0.2, 0.35, gating=False),), cold, warm) is None
    assert coarseness((), (claim(TTFT, 0.3, 0.2, 0.35),), cold, warm) is None
    assert coarseness((TTFT,), (claim(TTFT, 0.3, 0.2, 0.35),), cold, warm) is not None


@given(st.floats(-20, 20))
def test_a_bias_that_is_the_same_share_of_both_sides_shifts_no_ratio(bias_ms: float) -> None:
    cold = BiasedRound(summary=COLD, bias_ms=bias_ms)
    warm = BiasedRound(summary=WARM, bias_ms=bias_ms * 30 / 100)
    assert coarseness((TTFT,), (claim(TTFT, 0.3, 0.2999, 0.3001),), cold, warm) is None


def test_tpot_is_shifted_by_the_bias_of_a_gap_where_that_is_known() -> None:
    known = BiasedRound(summary=WARM, bias_ms=4, itl_bias_ms=0.1)
    assert bias_shift("tpot_mean", known) == pytest.approx(math.log(10 / 9.9))


def test_percentiles_are_shifted_by_the_p99_error() -> None:
    known = BiasedRound(summary=WARM, bias_ms=1, error_p99_ms=3)
    assert bias_shift("ttft_p90", known) == pytest.approx(math.log(30 / 27))
    assert bias_shift("ttft_mean", known) == pytest.approx(math.log(30 / 29))


def test_a_decode_of_one_token_holds_the_bias_whole_and_one_of_none_no_less() -> None:
    two, one = (summarise([a_round([request(tokens=n, ttft_ms=30)])]) for n in (2, 1))
    assert shift("tpot_mean", two, 4) == pytest.approx(math.log(10 / 6))
    assert shift("tpot_mean", replace(two, output_tokens=one.output_tokens), 4) == pytest.approx(math.log(10 / 6))


def test_an_interval_that_reaches_zero_is_not_held_against_the_bias() -> None:
    stalls = Target(metric="stall_share", target="<= 5 %")
    said = replace(claim(stalls, 1, 1, 1), estimate_ratio=None, ci_ratio=None)
    assert allowance(stalls, replace(said, details={"estimate": 0.01, "interval": (0.0, 0.06)})) is None


def late(delay_ms: float, *, each_ms: float = 300, requests: int = 8, slots: int = 2) -> Round:
    """A closed loop whose client needs `delay_ms` from a free slot to the send; requests of one length each."""
    sent: list[RequestRecord] = []
    for index in range(requests):
        ready_ms = (index // slots) * (each_ms + delay_ms)
        one = request(index, sent_ms=ready_ms + delay_ms, ttft_ms=each_ms - 40)
        sent.append(replace(one, ready_ns=round(ready_ms * MS), intended_ns=0))
    health = ClientHealth(send_delay_mean_ms=delay_ms)
    return replace(a_round(sent), client=health)


@pytest.mark.parametrize(("delay_ms", "share"), [(0, 0.0), (100, 0.25), (300, 0.5)])
def test_slots_stand_idle_for_as_long_as_the_client_is_late(delay_ms: float, share: float) -> None:
    assert idle_share(late(delay_ms).requests, 2) == pytest.approx(share)


def test_more_slots_than_requests_count_as_many_as_there_are_requests() -> None:
    assert idle_share(late(100, requests=2).requests, 50) == pytest.approx(0.25)


def test_nothing_sent_leaves_nothing_idle() -> None:
    assert idle_share((), 4) == 0
    assert idle_share((replace(request(), sent_ns=None),), 4) == 0


def test_a_client_that_was_late_by_a_busy_machine_is_no_reason_in_a_closed_loop() -> None:
    """Its TTFT counts from the send; 18 to 250 ms at a TTFT of 300 made healthy trials invalid."""
    assert saturation(late(18), slots=2, ttft_mean_ms=260) is None
    assert saturation(late(60), slots=2, ttft_mean_ms=260) is None
    said = saturation(late(100), slots=2, ttft_mean_ms=260)
    assert said is not None
    assert "left 25.0% of the slots' time idle (at most 20%)" in said
    assert "--mooncake-workers" in said


@pytest.mark.parametrize(
    ("health", "ttft_mean_ms", "reason"),
    [
        (ClientHealth(), 100.0, None),
        (ClientHealth(cpu_peak_share=0.85), 100.0, None),
        (ClientHealth(cpu_peak_share=0.86), 100.0, "86% of a core in one second (at most 85%)"),
        (ClientHealth(send_delay_mean_ms=5.0), 100.0, None),
        (ClientHealth(send_delay_mean_ms=5.1), 100.0, "5.10 ms late on average, 5.1% of mean TTFT (at most 5%)"),
        (ClientHealth(send_delay_mean_ms=5.1), None, None),
        (ClientHealth(loop_lag_max_ms=5000.0), 100.0, None),
    ],
)
def test_in_an_open_loop_the_client_is_saturated_by_cpu_or_lateness_never_by_lag(
    health: ClientHealth, ttft_mean_ms: float | None, reason: str | None
) -> None:
    said = saturation(replace(a_round([request()]), client=health), slots=None, ttft_mean_ms=ttft_mean_ms)
    assert (said is None) is (reason is None)
    assert (reason or "") in (said or "")
    assert said is None or "--mooncake-workers" in said


def test_idle_slots_shift_throughput_and_no_time_of_a_request() -> None:
    idle = BiasedRound(summary=WARM, bias_ms=0, idle_share=0.1)
    assert bias_shift("request_throughput", idle) == pytest.approx(math.log(0.9))
    assert bias_shift("makespan", idle) == pytest.approx(-math.log(0.9))
    assert bias_shift("ttft_mean", idle) == bias_shift("tpot_mean", idle) == 0


def test_slots_as_idle_cold_as_warm_shift_no_claim_and_otherwise_the_client_is_too_coarse() -> None:
    target = Target(metric="request_throughput", target="up 150 %")
    judged = claim(target, 2.6, 2.5, 2.7)
    alike = BiasedRound(summary=COLD, bias_ms=0, idle_share=0.1)
    assert coarseness([target], [judged], alike, replace(alike, summary=WARM)) is None
    said = coarseness([target], [judged], replace(alike, idle_share=0.0), replace(alike, summary=WARM))
    assert said is not None
    assert "slots idle for it (0.0% of the cold round, 10.0% of the warm)" in said
