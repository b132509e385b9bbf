"""Claims and verdicts: what a chain says about each target, and what all of it comes to.

A claim is judged at a look only, by its repeated confidence interval: PASS when it lies wholly on the good side of
the target, FAIL when wholly on the bad side, else INCONCLUSIVE. All gating claims are judged at the same look, so
accepting on all of them is an intersection-union test and needs no correction for their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.contrast import Contrast, Untestable, contrast, repeated_interval
from pytest_mooncake.analysis.interference import pooled_calm
from pytest_mooncake.analysis.levels import nominal_level
from pytest_mooncake.analysis.metrics import Metric, metric_named
from pytest_mooncake.analysis.observed import Observed, observe, points_of, trial_ratios, up_to_trial
from pytest_mooncake.analysis.verdicts import combine, failures_claim, hit_share_claim
from pytest_mooncake.analysis.wording import Direction, Finding, calm_words, improved_not_stable, sentence, sentence_zh
from pytest_mooncake.records import Claim, Kind, Verdict

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Target, TargetsPlan
    from pytest_mooncake.records import Round

__all__ = [
    "LEAST_TESTABLE",
    "Look",
    "combine",
    "failures_claim",
    "geometric_mean",
    "hit_share_claim",
    "judge_claims",
    "judge_observed",
    "settling_trials",
    "verdict_of",
]

LEAST_TESTABLE = 2
"""Trials below which the spread between rounds cannot be estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Where a run stands in its design: `at` is the last look reached (None before the first)."""

    at: int | None
    next: int | None
    level: float | None

    @classmethod
    def after(cls, trials: int, looks: tuple[int, ...], alpha: float) -> Look:
        """The look that `trials` valid trials have reached; looks at fewer than two trials test nothing."""
        testable = tuple(sorted({look for look in looks if look >= LEAST_TESTABLE}))
        reached = [look for look in testable if look <= trials]
        ahead = [look for look in testable if look > trials]
        level = nominal_level(testable, alpha) if testable else None
        return cls(at=reached[-1] if reached else None, next=ahead[0] if ahead else None, level=level)


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
        One claim a target, in the targets' order. A claim without data is INVALID.

    Raises:
        PlanError: a target names an unknown metric.
    """
    return judge_observed(targets, tuple(observe(one) for one in rounds), looks=looks, trials=trials, quick=quick)


def judge_observed(
    targets: TargetsPlan, chain: Sequence[Observed], *, looks: tuple[int, ...], trials: int, quick: bool
) -> tuple[Claim, ...]:
    """`judge_claims` on rounds whose figures are known already."""
    look = Look.after(trials, () if quick else looks, 1 - targets.confidence)
    used = up_to_trial(chain, look.at if look.at else trials)
    return tuple(_judge(target, used, look, targets.confidence, quick) for target in targets.claims)


def _judge(target: Target, chain: Sequence[Observed], look: Look, confidence: float, quick: bool) -> Claim:
    metric = metric_named(target.metric)
    found = _quick(contrast(points_of(chain, metric)), quick)
    log_interval = None
    if isinstance(found, Contrast) and look.at and look.level:
        log_interval = repeated_interval(found, look.level)
    verdict = _verdict(found, log_interval, target.direction, math.log(target.ratio))
    finding = Finding(
        metric=metric,
        direction=target.direction,
        target_ratio=target.ratio,
        stated=target.stated,
        found=found,
        interval=_ratios(log_interval),
        confidence=2 * confidence - 1,
        verdict=verdict,
        trials=found.n_warm,
        next_look=look.next,
        settling_trials=settling_trials(found, log_interval, math.log(target.ratio)),
        waiting=look.at is None,
    )
    return _claim(target, chain, finding, look)


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
    found: Contrast | Untestable, log_interval: tuple[float, float] | None, direction: Direction, log_target: float
) -> Verdict:
    if isinstance(found, Untestable) and found.effect is None:
        return Verdict.INVALID
    if log_interval is None:
        return Verdict.INCONCLUSIVE
    return verdict_of(log_interval, direction, log_target)


def verdict_of(log_interval: tuple[float, float], direction: Direction, log_target: float) -> Verdict:
    """Where an interval lies.

    Args:
        log_interval: bounds of the log ratio warm/cold.
        direction: which side of the target is good; `equivalent`: between 1/target and target (two one-sided tests).
        log_target: log of the target ratio.

    Returns:
        PASS, FAIL or INCONCLUSIVE.
    """
    low, high = log_interval
    least, most = _good_side(direction, log_target)
    if least < low and high < most:
        return Verdict.PASS
    return Verdict.FAIL if high < least or low > most else Verdict.INCONCLUSIVE


def _good_side(direction: Direction, log_target: float) -> tuple[float, float]:
    if direction == "lower":
        return -math.inf, log_target
    if direction == "higher":
        return log_target, math.inf
    return -abs(log_target), abs(log_target)


def settling_trials(
    found: Contrast | Untestable, log_interval: tuple[float, float] | None, log_target: float
) -> int | None:
    """About how many trials would bring the interval to one side of the target, its width falling as 1/√n.

    `None` where there is no interval or the answer exceeds 1000 trials: the estimate then lies on the target.
    """
    if log_interval is None:
        return None
    half, distance = (log_interval[1] - log_interval[0]) / 2, abs((found.effect or 0.0) - log_target)
    if distance * math.sqrt(1000 / found.n_warm) < half:
        return None
    return max(found.n_warm + 1, math.ceil(found.n_warm * (half / distance) ** 2))


def _claim(target: Target, chain: Sequence[Observed], finding: Finding, look: Look) -> Claim:
    ratio = finding.found.ratio
    extra, extra_zh = _remarks(target, chain, finding)
    return Claim(
        id=target.metric,
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
        details=_details(chain, finding, look) | {"reason_zh": sentence_zh(finding, extra_zh)},
    )


def _remarks(target: Target, chain: Sequence[Observed], finding: Finding) -> tuple[str, str]:
    """What "stable" needs beside its verdict: an improvement is named one, and calm decode stands beside TPOT."""
    if finding.metric.name != "tpot_mean":
        return "", ""
    cold, warm = (pooled_calm(one.calm for one in chain if one.kind is kind) for kind in (Kind.COLD, Kind.WARM))
    asks_stable = target.direction == "equivalent" or (target.direction == "lower" and target.ratio >= 1)
    beyond = finding.interval is not None and finding.interval[1] < 1 / max(target.ratio, 1 / target.ratio)
    if asks_stable and beyond and finding.found.ratio is not None:
        return improved_not_stable(finding.found.ratio, cold, warm)
    return calm_words(cold, warm)


def _details(chain: Sequence[Observed], finding: Finding, look: Look) -> dict[str, Any]:
    found = finding.found
    details: dict[str, Any] = {
        "direction": finding.direction,
        "unit": finding.metric.unit,
        "title_zh": finding.metric.title_zh,
        "stated": finding.stated,
        "look": look.at,
        "next_look": look.next,
        "level": look.level,
        "trial_ratios": trial_ratios(chain, finding.metric),
        "cold": geometric_mean(chain, finding.metric, Kind.COLD),
        "warm": geometric_mean(chain, finding.metric, Kind.WARM),
        "settling_trials": finding.settling_trials,
    }
    if isinstance(found, Contrast):
        names = ("se", "df", "s_w", "s_c", "n_warm", "n_cold", "drift")
        details |= {name: getattr(found, name) for name in names}
    return details


def geometric_mean(chain: Sequence[Observed], metric: Metric, kind: Kind) -> float | None:
    """Geometric mean of a metric over the rounds of one kind; their quotient is the estimate but for drift."""
    values = [metric.of(one.summary) for one in chain if one.kind is kind]
    known = [value for value in values if value is not None and value > 0]
    if not known or len(known) < len(values):
        return None
    return math.exp(sum(map(math.log, known)) / len(known))
