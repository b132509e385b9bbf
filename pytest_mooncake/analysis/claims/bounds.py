"""Claims in a metric's own unit: "P90 TTFT <= 450 ms", "cached share >= 99 %", "stalled requests <= 5 %".

Means and rates are tested by the t statistic of the rounds' logs, one number a round, at the level of
`levels.one_sample_level`. There is no other kind of round to hold against, so neither drift nor a slow spell of the
machine cancels, as it does in a ratio: autocorrelated rounds raise the rate of false PASS (`docs/explanation`).
Shares of tokens or requests are compared in every round, without a test. Percentiles and the rate of stalls are
shares of all requests (`shares`), the looks sharing the error evenly (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.claims.readings import Reading, no_data, outcome, undecided, waiting
from pytest_mooncake.analysis.claims.shares import percentile_reading, stall_reading
from pytest_mooncake.analysis.figures.metrics import Metric, metric_named
from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.statistics.contrast import CONSTANT, t_quantile
from pytest_mooncake.analysis.statistics.looks import LEAST_TESTABLE, Look, settling_trials, verdict_of
from pytest_mooncake.plan.targets.metrics import quantile_of
from pytest_mooncake.records import Claim, Kind, Verdict

if TYPE_CHECKING:
    from pytest_mooncake.analysis.statistics.observed import Observed
    from pytest_mooncake.plan.targets.models import Target

__all__ = ["judge_bound"]


def judge_bound(target: Target, chain: Sequence[Observed], look: Look) -> Claim:
    """Judge a claim that names a bound.

    Args:
        target: its `bound` is in the metric's own unit (shares 0-1), `rounds` says of which rounds.
        chain: valid rounds up to the look.
        look: where the run stands.

    Returns:
        The claim; its ratios are `None`, its figures are in `details`. Without data it is INVALID.
    """
    metric, bound = metric_named(target.metric), target.bound or math.nan
    rounds = [one for one in chain if one.kind is Kind(target.rounds)]
    values = [metric.of(one.summary) for one in rounds]
    known = [value for value in values if value is not None]
    quantile = quantile_of(target.metric)
    if quantile is not None and rounds:
        reading = percentile_reading(target, quantile, rounds, look)
    elif not known or len(known) < len(values):
        reading = no_data(len(values) - len(known), target.rounds)
    elif target.metric == "stall_share":
        reading = stall_reading(target, rounds, look)
    elif metric.unit == "":
        reading = _every_round(target, known, look)
    else:
        reading = _level(target, known, look)
    return _claim(target, metric, bound, chain, values, reading, look)


def _level(target: Target, values: Sequence[float], look: Look) -> Reading:
    if min(values) <= 0:
        return _with_zeros(target, values, look)
    logs = [math.log(value) for value in values]
    n, mean = len(logs), math.fsum(logs) / len(logs)
    if look.at is None or n < LEAST_TESTABLE:
        return waiting(math.exp(mean), look)
    se = math.sqrt(math.fsum((one - mean) ** 2 for one in logs) / (n - 1) / n)
    if se < CONSTANT:
        words = "not tested: the rounds do not differ at all, without noise there is nothing to test against"
        return undecided(math.exp(mean), words, "未检验：各轮完全相同，没有波动可供检验")
    level = look.level_of_bound or look.alpha
    half = t_quantile(1 - level, n - 1) * se
    interval, log_bound = (mean - half, mean + half), math.log(target.bound or math.nan)
    verdict = verdict_of(interval, target.direction, log_bound)
    settling = settling_trials(n, interval, target.direction, log_bound)
    words, words_zh = outcome(verdict, look, settling)
    return Reading(
        verdict=verdict,
        estimate=math.exp(mean),
        interval=(math.exp(interval[0]), math.exp(min(interval[1], 700.0))),
        words=words,
        words_zh=words_zh,
        level=level,
        settling_trials=settling,
    )


def _with_zeros(target: Target, values: Sequence[float], look: Look) -> Reading:
    """Rounds of which some read 0 have no logs: they may miss a bound from below, and prove nothing else.

    Where all of them read 0 nothing is left to be estimated: that is not "at least" anything.
    """
    n, mean = len(values), math.fsum(values) / len(values)
    if look.at is None or n < LEAST_TESTABLE:
        return waiting(mean, look)
    zeros = sum(value <= 0 for value in values)
    level = look.level_of_bound or look.alpha
    se = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (n - 1) / n)
    if target.direction != "higher" or mean + t_quantile(1 - level, n - 1) * se >= (target.bound or math.nan):
        return undecided(mean, f"not tested: a round reads {min(values):g}", "未检验：有轮次该指标为 0")
    return Reading(
        verdict=Verdict.FAIL,
        estimate=mean,
        interval=None,
        words=f"missed, {zeros} of {n} rounds read 0",
        words_zh=f"未达到，{n} 轮中有 {zeros} 轮为 0",
        level=level,
    )


def _every_round(target: Target, shares: Sequence[float], look: Look) -> Reading:
    """No test: every round has to keep the bound, as the cache has to serve in every warm round."""
    lower = target.direction == "lower"
    worst, bound = max(shares) if lower else min(shares), target.bound or math.nan
    if look.at is None:
        return waiting(worst, look)
    met = worst <= bound if lower else worst >= bound
    seen, seen_zh = f"the worst round has {percent(worst, 2)}", f"最差的一轮为 {percent(worst, 2)}"
    return Reading(
        verdict=Verdict.PASS if met else Verdict.FAIL,
        estimate=worst,
        interval=None,
        words=f"{'met in every round' if met else 'missed'}, {seen}",
        words_zh=f"{'每轮均达到' if met else '未达到'}，{seen_zh}",
    )


def _claim(
    target: Target,
    metric: Metric,
    bound: float,
    chain: Sequence[Observed],
    values: Sequence[float | None],
    reading: Reading,
    look: Look,
) -> Claim:
    trials = sum(one.kind is Kind.WARM for one in chain)
    confidence = 1 - 2 * look.alpha
    least = target.direction == "higher"
    figures, figures_zh = _figures(metric, reading, confidence, len(values), target.rounds)
    asked = f"{'at least' if least else 'at most'} {_quantity(bound, metric)} asked"
    asked_zh = f"目标{'不低于' if least else '不高于'} {_quantity(bound, metric)}"
    return Claim(
        id=target.claim_id,
        title=target.title,
        gating=target.gating,
        verdict=reading.verdict,
        reason=f"{figures}; {asked}: {reading.words}",
        confidence=confidence if reading.interval else None,
        trials=trials,
        details={
            "direction": target.direction,
            "unit": metric.unit,
            "title_zh": metric.title_zh,
            "stated": target.stated,
            "rounds": target.rounds,
            "bound": bound,
            "estimate": reading.estimate,
            "interval": reading.interval,
            "values": tuple(values),
            "look": look.at,
            "next_look": look.next,
            "level": reading.level,
            "settling_trials": reading.settling_trials,
            "reason_zh": f"{figures_zh}；{asked_zh}：{reading.words_zh}",
        },
    )


def _figures(metric: Metric, reading: Reading, confidence: float, rounds: int, kind: str) -> tuple[str, str]:
    kind_zh = "无缓存轮次" if kind == "cold" else "有缓存轮次"
    if reading.estimate is None:
        return f"{metric.title} ({kind}): no estimate", f"{metric.title_zh}（{kind_zh}）：无法估计"
    spread, spread_zh = "", ""
    if reading.interval:
        low, high = (_quantity(end, metric) for end in reading.interval)
        spread = f"{percent(confidence)} interval {low} to {high}, "
        spread_zh = f"{percent(confidence)} 区间 {low} 至 {high}，"
    figure = _quantity(reading.estimate, metric)
    return (
        f"{metric.title} {figure} ({spread}{rounds} {kind} round{'' if rounds == 1 else 's'})",
        f"{metric.title_zh} {figure}（{spread_zh}{rounds} 个{kind_zh}）",
    )


def _quantity(value: float, metric: Metric) -> str:
    return percent(value, 2) if metric.unit == "" else f"{value:.4g} {metric.unit}"
