"""Judging figures that somebody gives us: point estimates, the audit, and no more confidence than they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mooncake.analysis.audit.external_figures import Figures, RoundFigures
from pytest_mooncake.analysis.audit.laws.side import COLD, WARM, Side
from pytest_mooncake.analysis.audit.limits import Limits, Reached, limits_reached
from pytest_mooncake.analysis.audit.run_audit import audit
from pytest_mooncake.analysis.claims.combine import combine, failures_claim
from pytest_mooncake.analysis.claims.thresholds import judge_thresholds
from pytest_mooncake.analysis.claims.wording import change, times
from pytest_mooncake.analysis.figures.metrics import metric_named
from pytest_mooncake.plan.targets.grammar import Direction
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
    limits = judge_thresholds(targets.thresholds, (), looks=(1,), trials=0, quick=True)
    claims = (*(_claim(target, figures) for target in targets.claims), *limits, *_failures(figures))
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


def limits_of_figures(figures: Figures) -> Limits | None:
    """Physical limits of handed-in figures and the share of them reached; `None` without a prompt length."""
    if not figures.prompt_tokens:
        return None
    cold, warm = (_reached(Side(figures, name)) for name in (COLD, WARM))
    return limits_reached(figures.model, figures.hardware, figures.prompt_tokens, cold, warm)


def _reached(side: Side) -> Reached:
    latency, ttft_ms = side.latency_ms, side.one.ttft_ms.mean
    decode = None if latency is None or ttft_ms is None else latency.value - ttft_ms
    return Reached(ttft_ms=ttft_ms, decode_ms=decode, request_throughput=side.one.request_throughput)


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
    derived = {"makespan": one.makespan_s, "cached_share": _share(one.cached_tokens, one.prompt_tokens)}
    if metric in derived:
        return derived[metric]
    name, _, part = metric.partition("_")
    latency = getattr(one, f"{name}_ms", None)
    value: float | None = getattr(latency, part, None) if latency is not None else getattr(one, metric, None)
    return value


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None


def _claim(target: Target, figures: Figures) -> Claim:
    if target.bound is not None:
        return _bound_claim(target, target.bound, figures)
    metric = metric_named(target.metric)
    cold, warm = figure_of(figures.cold, target.metric), figure_of(figures.warm, target.metric)
    if not cold or not warm:
        return _absent(target, figures)
    ratio = warm / cold
    words = f"{metric.title} {cold:g} → {warm:g} {metric.unit}, {change(ratio)} ({times(ratio)})"
    words_zh = f"{metric.title_zh} {cold:g} → {warm:g} {metric.unit}，{change(ratio)}（{times(ratio)}）"
    if target.ratio is None:
        reason, reason_zh = f"{words}; reported, nothing is asked of it", f"{words_zh}；仅报告，未设目标"
        return _made(target, Verdict.INCONCLUSIVE, reason, reason_zh, ratio)
    met = _is_met(target.direction, ratio, target.ratio)
    reason = f"{words}; the point estimate {'meets' if met else 'misses'} {times(target.ratio)}, but {NO_SPREAD}"
    reason_zh = f"{words_zh}；点估计{'达到' if met else '未达到'} {times(target.ratio)}，但{NO_SPREAD_ZH}"
    return _made(target, Verdict.INCONCLUSIVE, reason, reason_zh, ratio, met=met)


def _bound_claim(target: Target, bound: float, figures: Figures) -> Claim:
    metric = metric_named(target.metric)
    found = figure_of(figures.cold if target.rounds == "cold" else figures.warm, target.metric)
    if found is None:
        return _absent(target, figures)
    met = _is_met(target.direction, found, bound)
    words, words_zh = f"{metric.title} {found:g} {metric.unit}", f"{metric.title_zh} {found:g} {metric.unit}"
    asked = f"{'at least' if target.direction == 'higher' else 'at most'} {bound:g}"
    reason = f"{words}; the point estimate {'meets' if met else 'misses'} {asked}, but {NO_SPREAD}"
    reason_zh = f"{words_zh}；点估计{'达到' if met else '未达到'} {bound:g}，但{NO_SPREAD_ZH}"
    return _made(target, Verdict.INCONCLUSIVE, reason, reason_zh, None, met=met)


def _absent(target: Target, figures: Figures) -> Claim:
    metric = metric_named(target.metric)
    if target.metric.startswith(("tpot_", "itl_")) and all(_is_one_token(figures, name) for name in (COLD, WARM)):
        reason, reason_zh = (
            f"{metric.title}: a reply of one token has none",
            f"{metric.title_zh}：单 Token 回复没有该指标",
        )
        return _made(target, Verdict.INCONCLUSIVE, reason, reason_zh, None)
    reason, reason_zh = f"{metric.title}: not among the figures", f"{metric.title_zh}：未提供数据"
    return _made(target, Verdict.INVALID, reason, reason_zh, None)


def _is_one_token(figures: Figures, name: str) -> bool:
    each = Side(figures, name).tokens_each
    return each is not None and each.value == 1


def _is_met(direction: Direction, value: float, asked: float) -> bool:
    if direction == "higher":
        return value >= asked
    if direction == "lower":
        return value <= asked
    margin = max(asked, 1 / asked)
    return 1 / margin <= value <= margin


def _made(
    target: Target, verdict: Verdict, reason: str, reason_zh: str, ratio: float | None, *, met: bool | None = None
) -> Claim:
    return Claim(
        id=target.claim_id,
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
            "met_by_estimate": met,
        },
    )
