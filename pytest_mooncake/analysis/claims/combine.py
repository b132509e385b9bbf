"""Claims that need no test, and how all claims combine into the run's verdict."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mooncake.analysis.evidence.faults import Blame, blame_of
from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.records import Claim, Verdict

FAILURES = "failures"
WARM_HIT_SHARE = "warm_hit_share"
UNTESTED = ((FAILURES, "failed"), (WARM_HIT_SHARE, "claim"))
PRODUCT = tuple(claim for claim, what in UNTESTED if blame_of(claim, what) is Blame.PRODUCT)
"""Claims whose FAIL is a product fault, by the catalogue of faults: it outranks INVALID and is never rerun."""


def failures_claim(failed: int, requests: int, *, trials: int = 0) -> Claim:
    """Nothing failed: failed, short or rejected requests of all valid rounds, none allowed."""
    verdict = Verdict.FAIL if failed else Verdict.PASS
    if not requests:
        verdict = Verdict.INVALID
    return Claim(
        id=FAILURES,
        title="failed requests",
        gating=True,
        verdict=verdict,
        reason=f"{failed} of {requests} requests failed; none may",
        trials=trials,
        details={"failed": failed, "requests": requests, "reason_zh": f"{requests} 个请求中失败 {failed} 个；要求为 0"},
    )


def hit_share_claim(shares: Sequence[float | None], least: float, *, trials: int = 0) -> Claim:
    """The cache served: warm tokens served from the store / tokens expected, in every warm round.

    Args:
        shares: one a warm round, 0-1, `None` where no rung could tell.
        least: the share every round must reach, e.g. 0.99.
        trials: valid trials.

    Returns:
        FAIL when a known share falls short; INCONCLUSIVE and not gating when no round could tell.
    """
    known = [share for share in shares if share is not None]
    if not known:
        reason, reason_zh = (
            "skipped: nothing tells how many warm tokens the store served",
            "跳过：无法得知有缓存轮次的命中量",
        )
        verdict = Verdict.INCONCLUSIVE
    else:
        worst = min(known)
        verdict = Verdict.PASS if worst >= least else Verdict.FAIL
        told = f"{len(known)} of {len(shares)} warm rounds told"
        served = f"worst warm round served {percent(worst, 2)} of the expected tokens"
        reason = f"{served}; at least {percent(least)} asked ({told})"
        reason_zh = f"最差的有缓存轮次命中 {percent(worst, 2)}；要求每轮不低于 {percent(least)}"
    return Claim(
        id=WARM_HIT_SHARE,
        title="warm tokens served from the store",
        gating=bool(known),
        verdict=verdict,
        reason=reason,
        trials=trials,
        details={"shares": tuple(shares), "least": least, "reason_zh": reason_zh},
    )


def combine(
    claims: Sequence[Claim],
    *,
    product_faults: Sequence[str] = (),
    invalid: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> tuple[Verdict, tuple[str, ...]]:
    """The run's verdict: product fault (FAIL) > INVALID > missed claim (FAIL) > INCONCLUSIVE > PASS.

    What is missing takes away a decision of the claims, never one of a product fault; a run that was undecided anyway
    stays so.

    Args:
        claims: all claims, judged at the same look.
        product_faults: sentences, each a fault of the product seen elsewhere (eviction, wrong bytes, …).
        invalid: sentences, each a reason why the instrument does not hold (reruns used up, broken law, …).
        missing: sentences, each something that a decided run has on record and this one has not (a gate, its end).

    Returns:
        The verdict and the reasons that led to it, worst first; no claim that does not gate is among them.
    """
    gating = [claim for claim in claims if claim.gating]
    faults = (*product_faults, *_reasons(gating, Verdict.FAIL, product=True))
    if faults:
        return Verdict.FAIL, faults
    unusable = tuple(invalid) or _reasons(gating, Verdict.INVALID)  # that a claim has no data follows from the former
    if unusable:
        return Verdict.INVALID, unusable
    verdict, reasons = _of_claims(gating)
    if verdict is Verdict.INCONCLUSIVE:
        return verdict, (*reasons, *missing)
    return (Verdict.INVALID, (*missing, *reasons)) if missing else (verdict, reasons)


def _of_claims(gating: Sequence[Claim]) -> tuple[Verdict, tuple[str, ...]]:
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        reasons = _reasons(gating, verdict)
        if reasons:
            return verdict, reasons
    if all(claim.id in PRODUCT for claim in gating):
        return Verdict.INCONCLUSIVE, ("no claim of the targets gates, so nothing was decided",)
    return Verdict.PASS, _reasons(gating, Verdict.PASS)


def _reasons(claims: Sequence[Claim], verdict: Verdict, *, product: bool = False) -> tuple[str, ...]:
    return tuple(claim.reason for claim in claims if claim.verdict is verdict and (not product or claim.id in PRODUCT))
