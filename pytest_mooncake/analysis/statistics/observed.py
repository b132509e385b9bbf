"""Rounds as the statistics see them: place in the chain and figures, without the requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.figures.columns import Columns, columns_of
from pytest_mooncake.analysis.figures.goodput import goodput
from pytest_mooncake.analysis.figures.interference import CalmDecode, calm_decode
from pytest_mooncake.analysis.figures.summary import Summary, summarise_columns
from pytest_mooncake.analysis.statistics.contrast import Point
from pytest_mooncake.analysis.statistics.percentiles.order_statistics import Sample, sample_of
from pytest_mooncake.analysis.statistics.tail import count_stalls
from pytest_mooncake.records import Kind

if TYPE_CHECKING:
    from pytest_mooncake.analysis.figures.metrics import Metric
    from pytest_mooncake.plan.targets.slo import Limit
    from pytest_mooncake.records import Round

SAMPLED = ("ttft", "tpot", "e2e")
"""Latencies whose requests are held for percentiles unless others are asked for: gaps between tokens are many more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One round of the chain: its place and what its requests come to."""

    round: int
    kind: Kind
    segment: int
    position: int
    summary: Summary
    calm: CalmDecode
    samples: Mapping[str, Sample] = field(default_factory=dict, compare=False, repr=False)
    """What percentiles are judged by: the requests' latencies, by their names (`ttft`, …)."""


def observe(one: Round, limits: Sequence[Limit] = (), sampled: Collection[str] = SAMPLED) -> Observed:
    """Figures of a round; `limits` are the service level of goodput, `sampled` the latencies to hold."""
    return observe_columns(
        columns_of(one.requests),
        number=one.round,
        kind=one.kind,
        segment=one.segment,
        position=one.position,
        limits=limits,
        sampled=sampled,
    )


def observe_columns(
    columns: Columns,
    *,
    number: int,
    kind: Kind,
    segment: int,
    position: int,
    limits: Sequence[Limit] = (),
    sampled: Collection[str] = SAMPLED,
) -> Observed:
    """Figures of a round whose requests are held as columns."""
    summary = summarise_columns(columns)
    return Observed(
        round=number,
        kind=kind,
        segment=segment,
        position=position,
        summary=replace(
            summary, goodput=goodput(columns, limits, summary.makespan_s), stalled=count_stalls(columns.ttft_ms)
        ),
        calm=calm_decode(columns),
        samples={name: sample_of(columns, name) for name in sampled},
    )


def up_to_trial(chain: Sequence[Observed], trials: int) -> tuple[Observed, ...]:
    """The rounds of the first `trials` trials: up to the cold round that follows the last of their warm rounds."""
    kept: list[Observed] = []
    warm = 0
    for one in sorted(chain, key=lambda held: held.round):
        if one.kind is Kind.WARM:
            warm += 1
        if warm > trials:
            break
        kept.append(one)
        if warm == trials and one.kind is Kind.COLD and trials:
            break
    return tuple(kept)


def points_of(chain: Sequence[Observed], metric: Metric) -> tuple[Point, ...]:
    """One metric of every round, placed in its chain."""
    return tuple(
        Point(kind=one.kind, position=one.position, segment=one.segment, value=metric.of(one.summary)) for one in chain
    )


def trial_ratios(chain: Sequence[Observed], metric: Metric) -> tuple[float | None, ...]:
    """Per trial: the warm round's metric over the geometric mean of its cold neighbours. For people, never tested.

    Neighbouring trials share a cold round, so these values are correlated and a t-test on them errs.
    """
    place = {(one.segment, one.position): one for one in chain}
    ratios = []
    for one in sorted(chain, key=lambda held: held.round):
        if one.kind is Kind.WARM:
            beside = [place.get((one.segment, one.position + step)) for step in (-1, 1)]
            cold = [metric.of(held.summary) for held in beside if held is not None]
            ratios.append(_over(metric.of(one.summary), cold))
    return tuple(ratios)


def _over(warm: float | None, cold: Sequence[float | None]) -> float | None:
    known = [value for value in cold if value]
    if warm is None or not known or len(known) < len(cold):
        return None
    product = 1.0
    for value in known:
        product *= value
    return float(warm / product ** (1 / len(known)))
