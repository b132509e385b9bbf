"""Claims in a metric's own unit: "P90 TTFT <= 450 ms", "cached share >= 99 %", "stalled requests <= 5 %".

Levels (latencies, throughputs) are tested by the t statistic of the rounds' logs, one number a round, at the level of
`levels.one_sample_level`. There is no other kind of round to hold against, so neither drift nor a slow spell of the
machine cancels, as it does in a ratio: autocorrelated rounds raise the rate of false PASS (`docs/explanation`).
Shares of tokens or requests are compared in every round, without a test. The rate of stalls is bounded by its exact
interval over all requests (Clopper and Pearson 1934), the looks sharing the error evenly (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.contrast import CONSTANT, t_quantile
from pytest_mooncake.analysis.looks import LEAST_TESTABLE, Look, settling_trials, verdict_of
from pytest_mooncake.analysis.metrics import Metric, metric_named
from pytest_mooncake.analysis.percent import percent
from pytest_mooncake.analysis.tail import least_rate, rate_bound
from pytest_mooncake.analysis.wording import trials_words, what_settles, what_settles_zh
from pytest_mooncake.records import Claim, Kind, Verdict

if TYPE_CHECKING:
    from pytest_mooncake.analysis.observed import Observed
    from pytest_mooncake.plan.targets import Target

__all__ = ["Reading", "judge_bound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the rounds say about a bound, in the metric's own unit; words start after "… asked: "."""

    verdict: Verdict
    estimate: float | None
    interval: tuple[float, float] | None
    words: str
    words_zh: str
    level: float | None = None
    settling_trials: int | None = None


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
    if not known or len(known) < len(values):
        reading = _no_data(len(values) - len(known), target.rounds)
    elif target.metric == "stall_share":
        reading = _rate(target, rounds, look)
    elif metric.unit == "":
        reading = _every_round(target, known, look)
    else:
        reading = _level(target, known, look)
    return _claim(target, metric, bound, chain, values, reading, look)


def _no_data(missing: int, rounds: str) -> Reading:
    seen = f"{missing} {rounds} rounds have no figure" if missing else f"there is no {rounds} round"
    return Reading(
        verdict=Verdict.INVALID,
        estimate=None,
        interval=None,
        words=f"not tested: {seen} for this metric",
        words_zh="未检验：有轮次没有该指标的数据",
    )


def _level(target: Target, values: Sequence[float], look: Look) -> Reading:
    if min(values) <= 0:
        return _undecided(None, f"not tested: a round reads {min(values):g}", "未检验：有轮次该指标为 0")
    logs = [math.log(value) for value in values]
    n, mean = len(logs), math.fsum(logs) / len(logs)
    if look.at is None or n < LEAST_TESTABLE:
        return _waiting(math.exp(mean), look)
    se = math.sqrt(math.fsum((one - mean) ** 2 for one in logs) / (n - 1) / n)
    if se < CONSTANT:
        words = "not tested: the rounds do not differ at all, without noise there is nothing to test against"
        return _undecided(math.exp(mean), words, "未检验：各轮完全相同，没有波动可供检验")
    level = look.level_of_bound or look.alpha
    half = t_quantile(1 - level, n - 1) * se
    interval, log_bound = (mean - half, mean + half), math.log(target.bound or math.nan)
    verdict = verdict_of(interval, target.direction, log_bound)
    settling = settling_trials(n, interval, target.direction, log_bound)
    words, words_zh = _outcome(verdict, look, settling)
    return Reading(
        verdict=verdict,
        estimate=math.exp(mean),
        interval=(math.exp(interval[0]), math.exp(min(interval[1], 700.0))),
        words=words,
        words_zh=words_zh,
        level=level,
        settling_trials=settling,
    )


def _every_round(target: Target, shares: Sequence[float], look: Look) -> Reading:
    """No test: every round has to keep the bound, as the cache has to serve in every warm round."""
    lower = target.direction == "lower"
    worst, bound = max(shares) if lower else min(shares), target.bound or math.nan
    if look.at is None:
        return _waiting(worst, look)
    met = worst <= bound if lower else worst >= bound
    seen, seen_zh = f"the worst round has {percent(worst, 2)}", f"最差的一轮为 {percent(worst, 2)}"
    return Reading(
        verdict=Verdict.PASS if met else Verdict.FAIL,
        estimate=worst,
        interval=None,
        words=f"{'met in every round' if met else 'missed'}, {seen}",
        words_zh=f"{'每轮均达到' if met else '未达到'}，{seen_zh}",
    )


def _rate(target: Target, rounds: Sequence[Observed], look: Look) -> Reading:
    events = sum(one.summary.stalled or 0 for one in rounds)
    requests = sum(one.summary.requests - one.summary.failed for one in rounds)
    if look.at is None:
        return _waiting(events / requests, look)
    error, bound = look.alpha / len(look.looks), target.bound or math.nan
    low, high = least_rate(events, requests, 1 - error), rate_bound(events, requests, 1 - error)
    verdict = Verdict.PASS if high <= bound else Verdict.FAIL if low > bound else Verdict.INCONCLUSIVE
    needed = math.ceil(math.log(error) / math.log1p(-bound)) if bound < 1 else 0
    seen, seen_zh = f"{events} of {requests} requests stalled", f"{requests} 个请求中 {events} 个停顿"
    needs = f"{needed} requests without a stall would settle it"
    tail = {Verdict.PASS: "met", Verdict.FAIL: "missed"}.get(verdict, f"undecided, {needs}")
    tail_zh = {Verdict.PASS: "达到", Verdict.FAIL: "未达到"}.get(verdict, f"未决，需要 {needed} 个无停顿的请求")
    return Reading(
        verdict=verdict,
        estimate=events / requests,
        interval=(low, high),
        words=f"{tail}; {seen}",
        words_zh=f"{tail_zh}；{seen_zh}",
        level=error,
    )


def _waiting(estimate: float, look: Look) -> Reading:
    if look.next is None:
        return _undecided(estimate, "not tested: no look was reached", "未检验：未到判定点")
    words = f"not tested yet: the first look comes after {trials_words(look.next)}"
    return _undecided(estimate, words, f"尚未检验：第一次判定在 {look.next} 次试验之后")


def _undecided(estimate: float | None, words: str, words_zh: str) -> Reading:
    return Reading(verdict=Verdict.INCONCLUSIVE, estimate=estimate, interval=None, words=words, words_zh=words_zh)


def _outcome(verdict: Verdict, look: Look, settling: int | None) -> tuple[str, str]:
    if verdict is Verdict.PASS:
        return "met, the whole interval lies on the good side", "达到，整个区间都在好的一侧"
    if verdict is Verdict.FAIL:
        return "missed, the whole interval lies on the bad side", "未达到，整个区间都在坏的一侧"
    return (
        f"undecided, the interval holds the bound; {what_settles(look.next, settling)}",
        f"未决，区间包含目标；{what_settles_zh(look.next, settling)}",
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
