"""How many requests and rounds a claim on a share of requests takes: percentiles and rates of stalls.

"P90 TTFT <= 450 ms" says that at most 10 % of all requests take longer than 450 ms, so a percentile is tested as a
share of requests (`analysis.statistics.percentiles.order_statistics`). A sample in which not even the best outcome
could show that is known before the run, and the claim is refused then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.targets.metrics import quantile_of

if TYPE_CHECKING:
    from pytest_mooncake.plan.targets.models import Target, TargetsPlan

__all__ = ["percentile_level", "refuse_hopeless_claims", "requests_needed", "rounds_spread", "stall_level"]

LEAST_PARTS = 6
"""Parts of the error that a percentile's look gets one of, however few the looks are.

Rounds' shares of slow requests are skewed where rounds differ much, so that Student's t errs too often: at a single
look after ten rounds P99 passes falsely in 9 % at 5 %, in 2 % at 5 %/6 (`benchmarks/verdicts/results/percentiles.md`).
"""
MOST_TRIALS = 100
"""The largest look that can be asked for."""


def percentile_level(looks: Sequence[int], alpha: float) -> float:
    """One-sided level of a percentile at each look: the looks share the error evenly (Bonferroni).

    >>> round(percentile_level((3, 4, 5, 6, 8, 10), 0.05), 5)
    0.00833
    """
    return alpha / max(LEAST_PARTS, len(looks))


def stall_level(looks: Sequence[int], alpha: float) -> float:
    """One-sided level of a rate of stalls at each look; its limit is free of any distribution."""
    return alpha / max(1, len(looks))


def requests_needed(quantile: float, error: float) -> int:
    """Independent requests below which no order statistic exceeds a percentile with this error.

    >>> requests_needed(0.9, 0.05), requests_needed(0.99, 0.05)
    (29, 299)
    """
    return math.ceil(math.log(error) / math.log(quantile))


def rounds_spread(rounds: int, level: float) -> float:
    """How many times as many requests it takes because their design effect is known from so many rounds only.

    The square of Student's over the normal quantile. Source: Korn and Graubard, Survey Methodology 24 (1998) 193.
    """
    from scipy.special import ndtri, stdtrit

    return float((stdtrit(rounds - 1, 1 - level) / ndtri(1 - level)) ** 2)


def refuse_hopeless_claims(targets: TargetsPlan, requests: int, looks: Sequence[int]) -> None:
    """Refuse gating claims on percentiles and stalls that no outcome of the run could show.

    Args:
        targets: of the run.
        requests: of a round.
        looks: trials after which a verdict may fall.

    Raises:
        PlanError: one line a claim: what it would take.
    """
    testable = [look for look in looks if look > 1]
    if not testable:
        return
    lines = [
        f"targets {targets.name}: {line}"
        for target in targets.claims
        if target.gating and target.is_asked
        for line in _hopeless(target, requests, testable, round(1 - targets.confidence_of(target), 9))
    ]
    if lines:
        raise PlanError("\n".join(lines))


def _hopeless(target: Target, requests: int, looks: Sequence[int], alpha: float) -> Iterator[str]:
    quantile = quantile_of(target.metric)
    if quantile is not None:
        yield from _percentile(target, quantile, requests, looks, alpha)
    elif target.metric == "stall_share" and target.direction == "lower":
        yield from _stalls(target, looks, alpha)


def _percentile(target: Target, quantile: float, requests: int, looks: Sequence[int], alpha: float) -> Iterator[str]:
    error = alpha if target.ratio is None else alpha / 2
    first, last = looks[0], looks[-1]
    least = requests_needed(quantile, error)
    level = percentile_level(looks, error)
    by_last = requests_needed(quantile, level) * rounds_spread(last, level)
    enough = max(math.ceil(least / first), math.ceil(by_last / last))
    if requests >= enough:
        return
    name = target.metric.rpartition("_")[2].upper()
    held = f"{requests * first} in the {first} {target.rounds} rounds of the first look"
    takes = f"{name} takes at least {least} independent ones there"
    if requests * first >= least:
        held = f"{requests * last} in the {last} {target.rounds} rounds of the last look"
        takes = f"{name} takes at least {math.ceil(by_last)} there, as rounds may differ"
    yield (
        f"{target.claim_id}: {requests} requests a round are {held}, and {takes}; "
        f"give --mooncake-requests {enough} or more, a lower percentile, or gating: false"
    )


def _stalls(target: Target, looks: Sequence[int], alpha: float) -> Iterator[str]:
    bound, last = target.bound or 0.0, looks[-1]
    level = stall_level(looks, alpha)
    if bound >= 1 or last * -math.log1p(-bound) >= -math.log(level) * (1 - 1e-12):
        return
    rounds = math.ceil(math.log(alpha) / math.log1p(-bound))
    least = 100 * (1 - level ** (1 / last))
    way = f"give --mooncake-trials {rounds} (one look)" if rounds <= MOST_TRIALS else "no run is long enough"
    yield (
        f"{target.claim_id}: {last} {target.rounds} rounds without a stall bound its rate only at {least:.1f} %, as "
        f"stalls may come together in a round; {bound * 100:g} % takes {rounds} rounds: {way}, a bound above that, "
        "or gating: false"
    )
