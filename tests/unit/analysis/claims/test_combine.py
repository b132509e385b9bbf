"""The order of the four words, and the claims that need no test."""

from __future__ import annotations

from itertools import permutations

import pytest

from pytest_mooncake.analysis.claims.combine import combine, failures_claim, hit_share_claim
from pytest_mooncake.records import Claim, Verdict


def claim(verdict: Verdict, *, gating: bool = True, of: str = "ttft_mean") -> Claim:
    return Claim(id=of, title=of, gating=gating, verdict=verdict, reason=f"{of} is {verdict}")


def test_precedence_is_product_fault_then_invalid_then_missed_then_undecided_then_pass() -> None:
    passed, undecided, missed, invalid = (
        claim(v) for v in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.INVALID)
    )
    fault = failures_claim(1, 30)
    for order in permutations([passed, undecided, missed, invalid, fault]):
        assert combine(order)[0] is Verdict.FAIL
        assert combine(order)[1] == (fault.reason,)
    assert combine([passed, undecided, missed, invalid])[0] is Verdict.INVALID
    assert combine([passed, undecided, missed])[0] is Verdict.FAIL
    assert combine([passed, undecided])[0] is Verdict.INCONCLUSIVE
    assert combine([passed])[0] is Verdict.PASS


def test_a_product_fault_outranks_a_broken_instrument() -> None:
    verdict, reasons = combine([claim(Verdict.PASS)], product_faults=["round 3 evicted"], invalid=["client saturated"])
    assert (verdict, reasons) == (Verdict.FAIL, ("round 3 evicted",))


def test_claims_without_data_are_told_only_where_nothing_says_why_they_have_none() -> None:
    bare = claim(Verdict.INVALID)
    assert combine([bare], invalid=["client saturated"]) == (Verdict.INVALID, ("client saturated",))
    assert combine([bare]) == (Verdict.INVALID, (bare.reason,))


def test_a_broken_instrument_outranks_a_missed_claim() -> None:
    assert combine([claim(Verdict.FAIL)], invalid=["client saturated"])[0] is Verdict.INVALID


def test_a_claim_that_does_not_gate_decides_nothing() -> None:
    assert combine([claim(Verdict.PASS), claim(Verdict.FAIL, gating=False)])[0] is Verdict.PASS
    assert combine([claim(Verdict.FAIL, gating=False)])[0] is Verdict.INCONCLUSIVE


def test_acceptance_needs_every_gating_claim_and_names_each() -> None:
    verdict, reasons = combine([claim(Verdict.PASS), claim(Verdict.PASS, of="tpot_mean")])
    assert verdict is Verdict.PASS
    assert len(reasons) == 2


@pytest.mark.parametrize(
    ("failed", "requests", "verdict"), [(0, 30, Verdict.PASS), (1, 30, Verdict.FAIL), (0, 0, Verdict.INVALID)]
)
def test_one_failed_request_is_a_fault(failed: int, requests: int, verdict: Verdict) -> None:
    made = failures_claim(failed, requests)
    assert made.verdict is verdict
    assert made.target_ratio is None
    assert f"{failed} of {requests}" in made.reason


def test_every_warm_round_must_have_been_served() -> None:
    assert hit_share_claim([1.0, 0.995], 0.99).verdict is Verdict.PASS
    short = hit_share_claim([1.0, 0.5, None], 0.99)
    assert short.verdict is Verdict.FAIL
    assert "50.00 %" in short.reason
    assert "2 of 3" in short.reason


def test_a_share_nobody_can_tell_is_skipped_not_passed() -> None:
    made = hit_share_claim([None, None], 0.99)
    assert (made.verdict, made.gating) == (Verdict.INCONCLUSIVE, False)
    assert made.reason.startswith("skipped")


def test_a_share_that_just_reaches_what_is_asked_is_enough() -> None:
    assert hit_share_claim([0.99, 1.0], 0.99).verdict is Verdict.PASS
    assert hit_share_claim([0.9899, 1.0], 0.99).verdict is Verdict.FAIL


def test_figures_of_both_claims_are_told_in_both_languages() -> None:
    share, failed = hit_share_claim([0.98765], 0.99, trials=4), failures_claim(1, 30)
    assert share.reason == (
        "worst warm round served 98.77 % of the expected tokens; at least 99 % asked (1 of 1 warm rounds told)"
    )
    assert share.details["reason_zh"] == "最差的有缓存轮次命中 98.77 %；要求每轮不低于 99 %"
    assert failed.details["reason_zh"] == "30 个请求中失败 1 个；要求为 0"
    assert (share.trials, failed.trials, hit_share_claim([1.0], 0.99).trials) == (4, 0, 0)


@pytest.mark.parametrize(
    ("verdict", "product", "expected"),
    [
        (Verdict.PASS, (), Verdict.INVALID),
        (Verdict.FAIL, (), Verdict.INVALID),
        (Verdict.INCONCLUSIVE, (), Verdict.INCONCLUSIVE),
        (Verdict.PASS, ("warm miss",), Verdict.FAIL),
    ],
)
def test_what_is_missing_takes_away_a_decision_but_never_a_product_fault(
    verdict: Verdict, product: tuple[str, ...], expected: Verdict
) -> None:
    one = Claim(id="ttft_mean", title="t", gating=True, verdict=verdict, reason="what the claim says")
    found, reasons = combine((one,), product_faults=product, missing=("the gate was not made",))
    assert found is expected
    assert (reasons[0] == "the gate was not made") is (expected is Verdict.INVALID)
