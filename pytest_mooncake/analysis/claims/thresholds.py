"""Thresholds held against the figures of the valid rounds, all requests of one kind together. Nothing is tested.

They are held at every look, and the first that is crossed ends the run: a figure on its threshold is kept at all of
six looks in 25 to 40 % of runs (`benchmarks/verdicts/results/shares.md`), so each says how often it is looked at.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.columns import Columns, columns_of
from pytest_mooncake.analysis.figures.metrics import cached_share
from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.figures.summary import rank_of, summarise_columns
from pytest_mooncake.records import Claim, Kind, Round, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_mooncake.plan.targets.thresholds import Asked, Threshold

_HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}


def judge_thresholds(
    thresholds: Sequence[Threshold], rounds: Sequence[Round], *, looks: Sequence[int], trials: int, quick: bool
) -> tuple[Claim, ...]:
    """One claim a threshold.

    Args:
        thresholds: of the targets file.
        rounds: valid chain rounds.
        looks: trials after which a verdict may fall.
        trials: valid trials so far.
        quick: described, never judged.

    Returns:
        PASS where the figure keeps the threshold, FAIL where it crosses it, INVALID where nothing was measured: an
        upper limit is not kept by having no samples. Before the first look, and in a quick run, INCONCLUSIVE; only a
        threshold that ends the run may be crossed earlier.
    """
    if not thresholds:
        return ()
    columns = {kind: columns_of(r for one in rounds if one.kind is kind for r in one.requests) for kind in Kind}
    early = quick or trials < min(looks)
    return tuple(_judge(one, columns, early=early, quick=quick, trials=trials, looks=len(looks)) for one in thresholds)


def _judge(
    threshold: Threshold, columns: Mapping[Kind, Columns], *, early: bool, quick: bool, trials: int, looks: int
) -> Claim:
    asked = threshold.asked
    figure = figure_of(columns[Kind(threshold.rounds)], threshold.name, asked)
    bound: float | None = asked.value
    if asked.of is not None:
        other = figure_of(columns[Kind(asked.of)], threshold.name, asked)
        bound = None if other is None else asked.value * other
    verdict = _verdict(asked, figure, bound)
    if early and not (verdict is Verdict.FAIL and threshold.abort_on_fail and not quick):
        verdict = Verdict.INCONCLUSIVE
    reason, reason_zh = _words(threshold, asked, figure, bound, verdict)
    if looks > 1 and verdict in (Verdict.PASS, Verdict.FAIL):
        reason += f"; looked at up to {looks} times, nothing is tested"
        reason_zh += f"；最多查看 {looks} 次，未作检验"
    finite = None if figure is None or math.isinf(figure) else figure
    return Claim(
        id=threshold.claim_id,
        title=threshold.claim_id,
        gating=not threshold.optional,
        verdict=verdict,
        reason=reason,
        trials=trials,
        details={
            threshold.rounds: finite,
            "unit": "" if asked.aggregate == "count" else threshold.unit,
            "stated": threshold.threshold,
            "looks": looks,
            "abort_on_fail": threshold.abort_on_fail and not threshold.optional,
            "title_zh": threshold.claim_id,
            "reason_zh": reason_zh,
        },
    )


def figure_of(columns: Columns, name: str, asked: Asked) -> float | None:
    """The figure a threshold speaks of, in the unit its metric is kept in.

    Returns:
        `None` without a sample; infinite where a percentile falls on a failed request, which ranks behind all others.
    """
    if not len(columns):
        return None
    if name == "failed":
        failed = int(columns.failed.sum())
        return float(failed) if asked.aggregate == "count" else failed / len(columns)
    if asked.aggregate in ("value", "rate"):
        return _whole_figure(columns, name)
    values = _samples(columns, name)
    if not len(values):
        return None
    return _aggregated(values, int(columns.failed.sum()), asked)


def _whole_figure(columns: Columns, name: str) -> float | None:
    summary = summarise_columns(columns)
    if name == "cached_share":
        return cached_share(summary)
    figure: float | None = getattr(summary, "makespan_s" if name == "makespan" else name)
    return figure


def _samples(columns: Columns, name: str) -> NDArray[Any]:
    """Figures of successful requests in ms; of ITL each gap as often as it brought tokens, none where nobody tells."""
    import numpy as np

    if name == "itl":
        if columns.unsplit_answers:
            return np.zeros(0)
        gaps: NDArray[Any] = np.repeat(columns.gap_ms / columns.gap_tokens, columns.gap_tokens)
        return gaps
    values: NDArray[Any] = getattr(columns, f"{name}_ms")[~columns.failed]
    known: NDArray[Any] = values[~np.isnan(values)]
    return known


def _aggregated(values: NDArray[Any], failed: int, asked: Asked) -> float:
    import numpy as np

    if asked.aggregate == "avg":
        return float(values.mean())
    if asked.aggregate == "min":
        return float(values.min())
    quantile = {"med": 50.0, "max": 100.0}.get(asked.aggregate, asked.quantile or 0.0)
    rank = rank_of(quantile / 100, len(values) + failed)
    return float(np.partition(values, rank)[rank]) if rank < len(values) else math.inf


def _verdict(asked: Asked, figure: float | None, bound: float | None) -> Verdict:
    if figure is None or bound is None:
        return Verdict.INVALID
    return Verdict.PASS if _HOLDS[asked.sign](figure, bound) else Verdict.FAIL


def _words(
    threshold: Threshold, asked: Asked, figure: float | None, bound: float | None, verdict: Verdict
) -> tuple[str, str]:
    if figure is None or bound is None:
        missing = threshold.rounds if figure is None else asked.of
        missing_zh = "冷" if missing == "cold" else "热"
        return (
            f"{threshold.claim_id}: no {missing} round has a sample of it",
            f"{threshold.claim_id}：{missing_zh}轮没有样本",
        )
    shown = _shown(figure, threshold, asked)
    against = f" ({_shown(bound, threshold, asked)})" if asked.of else ""
    word, word_zh = {
        Verdict.PASS: ("kept", "满足"),
        Verdict.FAIL: ("crossed", "未满足"),
    }.get(verdict, ("described, not judged", "仅描述，不作判定"))
    asks = f"{threshold.threshold}{against}"
    return (
        f"{threshold.metric} is {shown}, {asks} asked: {word}",
        f"{threshold.metric} 为 {shown}，要求 {asks}：{word_zh}",
    )


def _shown(value: float, threshold: Threshold, asked: Asked) -> str:
    if math.isinf(value):
        return "a failed request"
    if asked.aggregate == "rate":
        return percent(value, 2)
    if asked.aggregate == "count":
        return f"{value:g}"
    return f"{value:.4g} {threshold.unit}"
