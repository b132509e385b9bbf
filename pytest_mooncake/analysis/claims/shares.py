"""Bounds on shares of requests: percentiles ("P90 <= 450 ms") and the rate of stalls, with rounds as clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.claims.readings import Reading, no_data, outcome, waiting
from pytest_mooncake.analysis.statistics.looks import Look, settling_trials
from pytest_mooncake.analysis.statistics.percentiles.clustered import (
    design_effect,
    effective_requests,
    highest_rate_of_rounds,
    rate_limits,
)
from pytest_mooncake.analysis.statistics.percentiles.order_statistics import PercentileLimits, Sample, percentile_limits
from pytest_mooncake.plan.targets.sample_sizes import percentile_level, requests_needed, stall_level
from pytest_mooncake.records import Verdict

if TYPE_CHECKING:
    from pytest_mooncake.analysis.statistics.observed import Observed
    from pytest_mooncake.plan.targets.models import Target

__all__ = ["more_requests", "percentile_reading", "samples_of", "stall_reading", "too_few"]


def samples_of(rounds: Sequence[Observed], metric: str) -> list[Sample]:
    """What the requests of each round say about a latency; rounds without a single value are left out."""
    name = metric.partition("_")[0]
    held = (one.samples.get(name) for one in rounds)
    return [one for one in held if one is not None and len(one.values)]


def percentile_reading(target: Target, quantile: float, rounds: Sequence[Observed], look: Look) -> Reading:
    """A percentile against its bound.

    Args:
        target: its `bound` and which side of it is good.
        quantile: e.g. 0.9.
        rounds: of the kind that the target speaks of, up to the look.
        look: where the run stands.

    Returns:
        PASS and FAIL where the order-statistic limit says so; the interval where both its ends are known.
    """
    samples = samples_of(rounds, target.metric)
    if len(samples) < len(rounds):
        return no_data(len(rounds) - len(samples), target.rounds)
    level = percentile_level(look.looks, look.alpha)
    found = percentile_limits(samples, quantile, level)
    if look.at is None:
        return waiting(found.estimate, look)
    bound = target.bound or math.nan
    verdict = _side(target.direction, found.low, found.high, bound)
    interval, settling = None, None
    if found.low is not None and found.high is not None:
        interval = (found.low, found.high)
        logs = (math.log(found.low), math.log(found.high)) if found.low > 0 else None
        settling = settling_trials(found.rounds, logs, target.direction, math.log(bound))
    words, words_zh = outcome(verdict, look, settling)
    if interval is None and verdict is Verdict.INCONCLUSIVE:
        (few, few_zh), (more, more_zh) = too_few(found, quantile, level), more_requests(look)
        words, words_zh = f"undecided, {few}; {more}", f"未决，{few_zh}；{more_zh}"
    return Reading(
        verdict=verdict,
        estimate=found.estimate,
        interval=interval,
        words=words,
        words_zh=words_zh,
        level=level,
        settling_trials=settling,
    )


def _side(direction: str, low: float | None, high: float | None, bound: float) -> Verdict:
    """On which side of the bound the limits lie; a limit that is unknown proves nothing."""
    below, above = high is not None and high <= bound, low is not None and low > bound
    if direction == "higher":
        below, above = high is not None and high < bound, low is not None and low >= bound
        below, above = above, below
    return Verdict.PASS if below else Verdict.FAIL if above else Verdict.INCONCLUSIVE


def too_few(found: PercentileLimits, quantile: float, level: float) -> tuple[str, str]:
    """How many requests the sample is worth and how many a limit takes, in English and Chinese."""
    needed, worth = requests_needed(quantile, level), max(1, math.floor(found.effective))
    name = f"P{quantile * 100:g}"
    return (
        f"{found.requests} requests in {found.rounds} rounds count as about {worth} independent ones, "
        f"a limit on {name} takes {needed}",
        f"{found.rounds} 轮共 {found.requests} 个请求，约相当于 {worth} 个独立请求，{name} 的界限需要 {needed} 个",
    )


def more_requests(look: Look) -> tuple[str, str]:
    """What helps a sample that is too small, in English and Chinese."""
    if look.next:
        return f"the next look comes after {look.next} trials", f"下一次判定在 {look.next} 次试验之后"
    return "send more requests a round (--mooncake-requests)", "请增加每轮请求数（--mooncake-requests）"


def stall_reading(target: Target, rounds: Sequence[Observed], look: Look) -> Reading:
    """The rate of stalls against its bound.

    The upper limit holds whatever the rounds are like: they count as one each, as a stall may strike a whole round
    and rounds without one say nothing about the others' size. What was seen often is told from the bound with fewer
    rounds: the lower limit counts requests, with their design effect.
    """
    import numpy as np

    stalls = np.array([one.summary.stalled or 0 for one in rounds], dtype=float)
    sizes = np.array([one.summary.requests - one.summary.failed for one in rounds], dtype=float)
    estimate = float(stalls.sum() / sizes.sum())
    if look.at is None:
        return waiting(estimate, look)
    level, count, bound = stall_level(look.looks, look.alpha), len(rounds), target.bound or math.nan
    shares = stalls / sizes
    high = highest_rate_of_rounds(float(shares.mean()), count, level)
    if target.direction == "higher":
        low = 1 - highest_rate_of_rounds(float(1 - shares.mean()), count, level)
    else:
        effect = design_effect(stalls[:, None], sizes)
        worth = effective_requests(float(sizes.sum()), effect, count, level)
        low = float(rate_limits(np.array([estimate]), worth, level).low[0])
    verdict = _side(target.direction, low, high, bound)
    words, words_zh = _stall_words(verdict, bound, level, look, (int(stalls.sum()), int(sizes.sum())))
    return Reading(
        verdict=verdict, estimate=estimate, interval=(low, high), words=words, words_zh=words_zh, level=level
    )


def _stall_words(verdict: Verdict, bound: float, level: float, look: Look, seen: tuple[int, int]) -> tuple[str, str]:
    told = f"{seen[0]} of {seen[1]} requests stalled"
    told_zh = f"{seen[1]} 个请求中 {seen[0]} 个停顿"
    if verdict is not Verdict.INCONCLUSIVE:
        word, word_zh = ("met", "达到") if verdict is Verdict.PASS else ("missed", "未达到")
        return f"{word}; {told}", f"{word_zh}；{told_zh}"
    if look.next:
        advice, advice_zh = f"the next look comes after {look.next} trials", f"下一次判定在 {look.next} 次试验之后"
    else:
        rounds = math.ceil(math.log(level) / math.log1p(-bound)) if bound < 1 else 1
        advice = f"stalls may come together, so rounds count, not requests: {rounds} rounds without one would settle it"
        advice_zh = f"停顿可能成批出现，因此按轮次计数：需要 {rounds} 轮无停顿"
    return f"undecided, {advice}; {told}", f"未决，{advice_zh}；{told_zh}"
