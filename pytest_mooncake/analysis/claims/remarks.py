"""What belongs beside the verdict in words: A/A control, drift, skew, tail, prompts, and the confidence left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.figures.columns import columns_of
from pytest_mooncake.analysis.figures.metrics import metric_named
from pytest_mooncake.analysis.statistics.contrast import Contrast, contrast
from pytest_mooncake.analysis.statistics.drift import Remark, control, drift_remark, skew_remark, stated_confidence
from pytest_mooncake.analysis.statistics.observed import observe, points_of
from pytest_mooncake.analysis.statistics.tail import Tail, paired_ratios, warm_tail
from pytest_mooncake.records import Kind

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import TargetsPlan
    from pytest_mooncake.records import Round


def remarks(targets: TargetsPlan, rounds: Sequence[Round], *, sessions: int = 1) -> tuple[Remark, ...]:
    """Say what the valid rounds of a chain tell beside their verdict.

    Args:
        targets: drift and skew are looked for in their gating claims; the A/A control takes the first of them.
        rounds: valid chain rounds.
        sessions: engine starts over which the trials were spread.

    Returns:
        Remarks in the order in which they read best; the last one states the confidence that is left.
    """
    chain = tuple(observe(one) for one in rounds)
    metrics = [metric_named(target.metric) for target in targets.claims if target.gating]
    tail = warm_tail(columns_of(r for one in rounds if one.kind is Kind.WARM for r in one.requests).ttft_ms)
    made: list[Remark] = []
    for number, metric in enumerate(metrics):
        points = points_of(chain, metric)
        found = contrast(points)
        if number == 0:
            aa = control(points)
            made.append(Remark(id="control", text=aa.text, text_zh=aa.text_zh))
        if isinstance(found, Contrast):
            seen = (
                drift_remark(found, metric.title, metric.title_zh),
                skew_remark(found, points, metric.title, metric.title_zh),
            )
            made += [one for one in seen if one is not None]
    return (*made, *_tail(tail), *_prompts(rounds), stated_confidence(made, tail, sessions=sessions))


def _tail(tail: Tail | None) -> tuple[Remark, ...]:
    return () if tail is None else (Remark(id="tail", text=tail.text, text_zh=tail.text_zh),)


def _prompts(rounds: Sequence[Round]) -> tuple[Remark, ...]:
    """The worst prompt of all trials, each warm round against the cold round before it."""
    place = {(one.segment, one.position): one for one in rounds}
    worst = None
    for one in rounds:
        before = place.get((one.segment, one.position - 1))
        paired = paired_ratios(before, one) if one.kind is Kind.WARM and before is not None else None
        if paired is not None and (worst is None or paired.worst_ratio > worst[1].worst_ratio):
            worst = (one.round, paired)
    if worst is None:
        return ()
    number, paired = worst
    middle = f"×{paired.p10:.2f} / ×{paired.p50:.2f} / ×{paired.p90:.2f}"
    place_en, place_zh = f"prompt {paired.worst_index}, round {number}", f"第 {number} 轮第 {paired.worst_index} 个"
    ratio = f"×{paired.worst_ratio:.2f}"
    return (
        Remark(
            id="prompts",
            text=f"warm over cold TTFT of single prompts: worst {ratio} ({place_en}), P10/P50/P90 there {middle}",
            text_zh=f"逐 prompt 的 TTFT 有/无缓存：最差 {ratio}（{place_zh}），该轮 P10/P50/P90 {middle}",
        ),
    )
