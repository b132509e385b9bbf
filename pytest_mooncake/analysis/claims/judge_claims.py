"""Claims and verdicts: what a chain says about each target, and what all of it comes to.

A claim is judged at a look only, by its repeated confidence interval: PASS when it lies wholly on the good side of
the target, FAIL when wholly on the bad side, else INCONCLUSIVE. Ratios of percentiles have an interval of their own
(`percentile_ratio`). All gating claims are judged at the same look, so
accepting on all of them is an intersection-union test and needs no correction for their number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.claims.bounds import judge_bound
from pytest_mooncake.analysis.claims.thresholds import judge_thresholds
from pytest_mooncake.analysis.claims.wording import (
    ClaimFinding,
    OfPercentiles,
    calm_words,
    improved_not_stable,
    sentence,
    sentence_zh,
)
from pytest_mooncake.analysis.figures.interference import pooled_calm
from pytest_mooncake.analysis.figures.metrics import Metric, metric_named
from pytest_mooncake.analysis.statistics.contrast import Contrast, Untestable, contrast, repeated_interval
from pytest_mooncake.analysis.statistics.levels import segmented
from pytest_mooncake.analysis.statistics.looks import Look, settling_trials, verdict_of
from pytest_mooncake.analysis.statistics.observed import Observed, observe, points_of, trial_ratios, up_to_trial
from pytest_mooncake.analysis.statistics.percentiles.order_statistics import pooled_percentile
from pytest_mooncake.analysis.statistics.percentiles.ratio import ratio_of_percentiles
from pytest_mooncake.analysis.statistics.percentiles.shares import samples_of
from pytest_mooncake.plan.targets.grammar import Direction
from pytest_mooncake.plan.targets.metrics import quantile_of
from pytest_mooncake.plan.targets.sample_sizes import percentile_level
from pytest_mooncake.records import Claim, Kind, Verdict

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Target, TargetsPlan
    from pytest_mooncake.records import Round

__all__ = ["alpha_of", "geometric_mean", "judge_claims", "judge_observed"]


def judge_claims(
    targets: TargetsPlan, rounds: Sequence[Round], *, looks: tuple[int, ...], trials: int, quick: bool
) -> tuple[Claim, ...]:
    """Judge every target by the valid rounds of the chain.

    Args:
        targets: the claims and their confidence.
        rounds: valid chain rounds of all segments, the left-out ones not among them.
        looks: trials after which a verdict may fall, e.g. (3, 4, 5, 6, 8, 10).
        trials: valid trials so far. Between two looks the rounds up to the last look are judged.
        quick: one trial for trying things out: described, never judged.

    Returns:
        One claim a target, in the targets' order, then one a threshold. A claim without data is INVALID; one of
        which nothing is asked is never more than INCONCLUSIVE.

    Raises:
        PlanError: a target names an unknown metric.
    """
    sampled = {one.metric.partition("_")[0] for one in targets.claims if quantile_of(one.metric) is not None}
    chain = tuple(observe(one, targets.goodput, sampled) for one in rounds)
    limits = judge_thresholds(targets.thresholds, rounds, looks=looks, trials=trials, quick=quick)
    return (*judge_observed(targets, chain, looks=looks, trials=trials, quick=quick), *limits)


def judge_observed(
    targets: TargetsPlan, chain: Sequence[Observed], *, looks: tuple[int, ...], trials: int, quick: bool
) -> tuple[Claim, ...]:
    """`judge_claims` on rounds whose figures are known already."""
    return tuple(
        _judge(target, chain, Look.after(trials, () if quick else looks, alpha_of(targets, target)), trials, quick)
        for target in targets.claims
    )


def alpha_of(targets: TargetsPlan, target: Target) -> float:
    """Largest rate of false PASS of a claim, without the dust of 1 - 0.95 (levels are stored for 0.05)."""
    return round(1 - targets.confidence_of(target), 9)


def _judge(target: Target, chain: Sequence[Observed], look: Look, trials: int, quick: bool) -> Claim:
    used = up_to_trial(chain, look.at if look.at else trials)
    if target.bound is not None:
        return judge_bound(target, used, look)
    return _judge_ratio(target, used, look, quick)


def _judge_ratio(target: Target, chain: Sequence[Observed], look: Look, quick: bool) -> Claim:
    metric, level, log_interval = metric_named(target.metric), _level(chain, look), None
    quantile = quantile_of(target.metric)
    found: Contrast | Untestable | OfPercentiles
    if quantile is not None:
        found, log_interval = ratio_of_percentiles(target.metric, quantile, chain, look)
        level = percentile_level(look.looks, look.alpha / 2)
    else:
        found = _quick(contrast(points_of(chain, metric)), quick)
    if isinstance(found, Contrast) and look.at and level:
        log_interval = repeated_interval(found, level)
    log_target = None if target.ratio is None else math.log(target.ratio)
    finding = ClaimFinding(
        metric=metric,
        direction=target.direction,
        target_ratio=target.ratio,
        stated=target.stated,
        found=found,
        interval=_ratios(log_interval),
        confidence=1 - 2 * look.alpha,
        verdict=Verdict.FAIL
        if _nothing_left(target, chain, metric, look)
        else _verdict(found, log_interval, target.direction, log_target),
        trials=found.n_warm,
        next_look=look.next,
        settling_trials=None
        if log_target is None
        else settling_trials(found.n_warm, log_interval, target.direction, log_target),
        waiting=look.at is None,
    )
    return _claim(target, chain, finding, look, level)


def _nothing_left(target: Target, chain: Sequence[Observed], metric: Metric, look: Look) -> bool:
    """Whether the metric is 0 in every warm round and in no cold one, where it was to rise or to stay."""
    values = {kind: [metric.of(one.summary) for one in chain if one.kind is kind] for kind in Kind}
    gone = bool(values[Kind.WARM]) and all(value == 0 for value in values[Kind.WARM])
    was_there = bool(values[Kind.COLD]) and all(value is not None and value > 0 for value in values[Kind.COLD])
    return bool(look.at and target.ratio and target.direction != "lower" and gone and was_there)


def _level(chain: Sequence[Observed], look: Look) -> float | None:
    """The look's level, stricter where the chain was broken into segments."""
    warm = Counter(one.segment for one in chain if one.kind is Kind.WARM)
    return None if look.level is None else segmented(look.level, tuple(warm.values()))


def _quick(found: Contrast | Untestable, quick: bool) -> Contrast | Untestable:
    if not quick or found.ratio is None:
        return found
    reason = "a quick run describes and judges nothing"
    return Untestable(reason=reason, effect=math.log(found.ratio), n_warm=found.n_warm, n_cold=found.n_cold)


def _ratios(log_interval: tuple[float, float] | None) -> tuple[float, float] | None:
    if log_interval is None:
        return None
    low, high = (math.exp(min(bound, 700.0)) for bound in log_interval)
    return low, high


def _verdict(
    found: Contrast | Untestable | OfPercentiles,
    log_interval: tuple[float, float] | None,
    direction: Direction,
    log_target: float | None,
) -> Verdict:
    """INVALID without data; INCONCLUSIVE where data allow no test or nothing is asked; else where the interval lies."""
    if not isinstance(found, Contrast) and found.ratio is None and not found.measured:
        return Verdict.INVALID
    if log_interval is None or log_target is None:
        return Verdict.INCONCLUSIVE
    return verdict_of(log_interval, direction, log_target)


def _claim(target: Target, chain: Sequence[Observed], finding: ClaimFinding, look: Look, level: float | None) -> Claim:
    ratio = finding.found.ratio
    extra, extra_zh = _remarks(target, chain, finding)
    return Claim(
        id=target.claim_id,
        title=target.title,
        gating=target.gating,
        verdict=finding.verdict,
        reason=sentence(finding, extra),
        target_ratio=target.ratio,
        estimate_ratio=ratio,
        ci_ratio=finding.interval,
        confidence=finding.confidence if finding.interval else None,
        change_percent=None if ratio is None else (ratio - 1) * 100,
        trials=finding.trials,
        details=_details(chain, finding, look, level) | {"reason_zh": sentence_zh(finding, extra_zh)},
    )


def _remarks(target: Target, chain: Sequence[Observed], finding: ClaimFinding) -> tuple[str, str]:
    """What "stable" needs beside its verdict: an improvement is named one, and calm decode stands beside TPOT."""
    if finding.metric.name != "tpot_mean":
        return "", ""
    cold, warm = (pooled_calm(one.calm for one in chain if one.kind is kind) for kind in (Kind.COLD, Kind.WARM))
    if target.ratio is None:
        return calm_words(cold, warm)
    asks_stable = target.direction == "equivalent" or (target.direction == "lower" and target.ratio >= 1)
    beyond = finding.interval is not None and finding.interval[1] < min(target.ratio, 1 / target.ratio)
    if asks_stable and beyond and finding.found.ratio is not None:
        return improved_not_stable(finding.found.ratio, cold, warm)
    return calm_words(cold, warm)


def _details(chain: Sequence[Observed], finding: ClaimFinding, look: Look, level: float | None) -> dict[str, Any]:
    found = finding.found
    details: dict[str, Any] = {
        "direction": finding.direction,
        "unit": finding.metric.unit,
        "title_zh": finding.metric.title_zh,
        "stated": finding.stated,
        "look": look.at,
        "next_look": look.next,
        "level": level if look.looks else None,
        "trial_ratios": trial_ratios(chain, finding.metric),
        "cold": _side(chain, finding.metric, Kind.COLD),
        "warm": _side(chain, finding.metric, Kind.WARM),
        "settling_trials": finding.settling_trials,
    }
    if finding.metric.name.startswith("tpot"):
        details["estimated"] = any(one.summary.unsplit for one in chain)
    if isinstance(found, Contrast):
        names = ("se", "df", "s_w", "s_c", "n_warm", "n_cold", "drift")
        details |= {name: getattr(found, name) for name in names}
    return details


def _side(chain: Sequence[Observed], metric: Metric, kind: Kind) -> float | None:
    """The figure of one kind of rounds; the quotient of both is the estimate (but for drift)."""
    quantile = quantile_of(metric.name)
    if quantile is None:
        return geometric_mean(chain, metric, kind)
    return pooled_percentile(samples_of([one for one in chain if one.kind is kind], metric.name), quantile)


def geometric_mean(chain: Sequence[Observed], metric: Metric, kind: Kind) -> float | None:
    """Geometric mean of a metric over the rounds of one kind; their quotient is the estimate but for drift."""
    values = [metric.of(one.summary) for one in chain if one.kind is kind]
    known = [value for value in values if value is not None and value > 0]
    if not known or len(known) < len(values):
        return None
    return math.exp(sum(map(math.log, known)) / len(known))
