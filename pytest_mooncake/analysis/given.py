"""Judging figures that somebody gives us: point estimates, the audit, and no more confidence than they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mooncake.analysis.audit import audit
from pytest_mooncake.analysis.figures import Figures, RoundFigures
from pytest_mooncake.analysis.metrics import metric_named
from pytest_mooncake.analysis.verdicts import combine, failures_claim
from pytest_mooncake.analysis.wording import change, times
from pytest_mooncake.records import AuditFinding, Claim, Judgement, Verdict

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Target, TargetsPlan

NO_SPREAD = "one pair of rounds carries no spread, so nothing can be said with confidence"
NO_SPREAD_ZH = "只有一对轮次，没有波动信息，无法给出置信结论"


def judge_figures(figures: Figures, targets: TargetsPlan) -> Judgement:
    """Judge figures from elsewhere.

    Args:
        figures: one cold and one warm set of figures.
        targets: the claims.

    Returns:
        At best INCONCLUSIVE, the point estimates beside their targets; INVALID when a law is broken or a gating
        claim has no figure; FAIL when requests failed.

    Raises:
        PlanError: a target names an unknown metric.
    """
    findings = audit(figures)
    claims = (*(_claim(target, figures) for target in targets.claims), *_failures(figures))
    broken = tuple(f"audit: {one.law}: {one.detail}" for one in findings if one.status == "broken")
    verdict, reasons = combine(claims, invalid=broken)
    return Judgement(
        verdict=verdict,
        reasons=(*reasons, *_warnings(findings)),
        claims=claims,
        evidence=(),
        trials=(),
        audit=findings,
    )


def _warnings(findings: tuple[AuditFinding, ...]) -> tuple[str, ...]:
    return tuple(f"audit: {one.law}: {one.detail}" for one in findings if one.status == "warning")


def _failures(figures: Figures) -> tuple[Claim, ...]:
    sides = (figures.cold, figures.warm)
    failed = [one.failed for one in sides if one.failed is not None]
    if not failed:
        return ()
    requests = sum(one.requests or figures.requests or 0 for one in sides)
    return (failures_claim(sum(failed), max(requests, sum(failed))),)


def figure_of(one: RoundFigures, metric: str) -> float | None:
    """The figure that a metric's name stands for, `None` where it was not given."""
    name, _, part = metric.partition("_")
    latency = getattr(one, f"{name}_ms", None)
    value: float | None = getattr(latency, part, None) if latency is not None else getattr(one, metric, None)
    return value


def _claim(target: Target, figures: Figures) -> Claim:
    metric = metric_named(target.metric)
    cold, warm = figure_of(figures.cold, target.metric), figure_of(figures.warm, target.metric)
    if not cold or not warm:
        reason, reason_zh = f"{metric.title}: not among the figures", f"{metric.title_zh}：未提供数据"
        return _made(target, Verdict.INVALID, reason, reason_zh, None)
    ratio = warm / cold
    met = _is_met(target, ratio)
    words = f"{metric.title} {cold:g} → {warm:g} {metric.unit}, {change(ratio)} ({times(ratio)})"
    words_zh = f"{metric.title_zh} {cold:g} → {warm:g} {metric.unit}，{change(ratio)}（{times(ratio)}）"
    reason = f"{words}; the point estimate {'meets' if met else 'misses'} {times(target.ratio)}, but {NO_SPREAD}"
    reason_zh = f"{words_zh}；点估计{'达到' if met else '未达到'} {times(target.ratio)}，但{NO_SPREAD_ZH}"
    return _made(target, Verdict.INCONCLUSIVE, reason, reason_zh, ratio)


def _is_met(target: Target, ratio: float) -> bool:
    if target.direction == "higher":
        return ratio >= target.ratio
    if target.direction == "lower":
        return ratio <= target.ratio
    bound = max(target.ratio, 1 / target.ratio)
    return 1 / bound <= ratio <= bound


def _made(target: Target, verdict: Verdict, reason: str, reason_zh: str, ratio: float | None) -> Claim:
    return Claim(
        id=target.metric,
        title=target.title,
        gating=target.gating,
        verdict=verdict,
        reason=reason,
        target_ratio=target.ratio,
        estimate_ratio=ratio,
        change_percent=None if ratio is None else (ratio - 1) * 100,
        trials=1,
        details={
            "direction": target.direction,
            "stated": target.stated,
            "reason_zh": reason_zh,
            "met_by_estimate": None if ratio is None else _is_met(target, ratio),
        },
    )
