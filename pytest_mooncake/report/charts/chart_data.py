"""The points of the page's charts, aggregated so that a run of any size fits: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pytest_mooncake.analysis.figures.summary import request_metrics
from pytest_mooncake.records import Claim, Kind, Phase, RequestRecord, Round
from pytest_mooncake.report.content.document import Report

MOST_POINTS = 400
"""Steps of a distribution that are drawn at most, for each side."""
MOST_REQUESTS = 2000
"""Requests that are drawn one by one; more are drawn as bins."""
BINS = 240
MOST_DENSE_DECADES = 4
"""Decades of ratios above which an axis names the powers of ten only."""
COMPUTED = "computed"
CACHED = "cached"
TIERS = ("gpu_prefix", "lmcache_cpu", "mooncake", COMPUTED)
"""Where an engine looks for a prompt's tokens, nearest first; `cached` where nothing tells the tiers apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A point of a distribution: `share` (0-1) of the requests had their first token within `ttft_ms`."""

    ttft_ms: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPoint:
    """One request: seconds since the run's first send, its TTFT (`None` if it failed before a token)."""

    at_s: float
    ttft_ms: float | None
    kind: Kind
    round: int
    index: int
    cached_tokens: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Requests of one kind that were sent close together."""

    from_s: float
    to_s: float
    kind: Kind
    requests: int
    failed: int
    least_ms: float | None
    mean_ms: float | None
    most_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRow:
    """A claim's ratio: its trials, estimate, interval and target, all warm/cold."""

    id: str
    trials: tuple[float, ...]
    estimate: float
    interval: tuple[float, float] | None
    target: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Prompt tokens of one side by where they came from: pairs of a tier's name and tokens, in the order of search."""

    kind: Kind
    tiers: tuple[tuple[str, int], ...]

    @property
    def cached(self) -> int:
        """Tokens that were not computed."""
        return sum(tokens for name, tokens in self.tiers if name != COMPUTED)

    @property
    def computed(self) -> int:
        """Tokens that were computed."""
        return dict(self.tiers)[COMPUTED]


def chain_rounds(report: Report) -> tuple[Round, ...]:
    """The rounds whose figures the report prints."""
    return tuple(r for r in report.rounds if r.phase is Phase.CHAIN)


def distribution(rounds: Sequence[Round], kind: Kind) -> tuple[Step, ...]:
    """The empirical distribution of TTFT of one kind; failures rank last, so it may end below 1.

    Returns:
        At most `MOST_POINTS` steps, the first and the last always among them.
    """
    records = [record for one in rounds if one.kind is kind for record in one.requests]
    known = sorted(t for r in records if r.error is None and (t := request_metrics(r).ttft_ms) is not None)
    steps = [Step(ttft_ms=ttft_ms, share=(n + 1) / len(records)) for n, ttft_ms in enumerate(known)]
    return tuple(_thinned(steps))


def _thinned(steps: Sequence[Step]) -> Sequence[Step]:
    if len(steps) <= MOST_POINTS:
        return steps
    last = len(steps) - 1
    return [steps[round(n * last / (MOST_POINTS - 1))] for n in range(MOST_POINTS)]


def request_points(rounds: Sequence[Round]) -> tuple[RequestPoint, ...]:
    """Every request that was sent, in order of time."""
    origin_ns = min((r.sent_ns for one in rounds for r in one.requests if r.sent_ns is not None), default=0)
    points = [_point(record, record.sent_ns - origin_ns) for one in rounds for record in one.requests if record.sent_ns]
    return tuple(sorted(points, key=lambda point: (point.at_s, point.round, point.index)))


def _point(record: RequestRecord, since_ns: int) -> RequestPoint:
    return RequestPoint(
        at_s=since_ns / 1e9,
        ttft_ms=request_metrics(record).ttft_ms if record.error is None else None,
        kind=record.kind,
        round=record.round,
        index=record.index,
        cached_tokens=record.cached_tokens,
        error=record.error,
    )


def bins(points: Sequence[RequestPoint], count: int = BINS) -> tuple[Bin, ...]:
    """Points of each kind in `count` spans of equal time; empty spans are left out."""
    if not points:
        return ()
    start, end = points[0].at_s, points[-1].at_s
    width = (end - start) / count or 1.0
    edges = [start + n * width for n in range(count + 1)]
    held: dict[tuple[int, Kind], list[RequestPoint]] = {}
    for point in points:
        place = min(count - 1, math.floor((point.at_s - start) / width))
        held.setdefault((place, point.kind), []).append(point)
    spans = tuple(pairwise(edges))
    return tuple(_bin(spans[place], kind, inside) for (place, kind), inside in sorted(held.items()))


def _bin(span: tuple[float, float], kind: Kind, points: Sequence[RequestPoint]) -> Bin:
    known = [point.ttft_ms for point in points if point.ttft_ms is not None]
    return Bin(
        from_s=span[0],
        to_s=span[1],
        kind=kind,
        requests=len(points),
        failed=sum(point.error is not None for point in points),
        least_ms=min(known, default=None),
        mean_ms=sum(known) / len(known) if known else None,
        most_ms=max(known, default=None),
    )


def ratio_rows(claims: Iterable[Claim]) -> tuple[RatioRow, ...]:
    """Claims that are ratios, with the ratio of each trial where it is known."""
    return tuple(
        RatioRow(
            id=claim.id,
            trials=tuple(r for r in claim.details.get("trial_ratios", ()) if r is not None and r > 0),
            estimate=claim.estimate_ratio,
            interval=claim.ci_ratio,
            target=claim.target_ratio,
        )
        for claim in claims
        if claim.estimate_ratio is not None and claim.estimate_ratio > 0
    )


def ratio_ticks(rows: Sequence[RatioRow]) -> tuple[float, ...]:
    """Round ratios for a logarithmic axis over everything that the rows show: 1, 2, 5 of each decade while few.

    >>> ratio_ticks([RatioRow(id="", trials=(), estimate=0.3, interval=(0.2, 0.4), target=2.5)])
    (0.2, 0.5, 1.0, 2.0, 5.0)
    """
    values = [v for row in rows for v in (*row.trials, row.estimate, *(row.interval or ()), row.target) if v]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= MOST_DENSE_DECADES else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return tuple(round(t, 12) for t in ticks if min(values) / 2 < t <= max(values) * 2)


def attribution(report: Report) -> tuple[Attribution, ...]:
    """Prompt tokens of both sides by tier where counters tell of both, else cached and computed as the replies tell."""
    by_tier = [_by_tier(report, kind) for kind in Kind]
    sides = by_tier if all(by_tier) else [_by_usage(report, kind) for kind in Kind]
    return tuple(side for side in sides if side is not None)


def _by_tier(report: Report, kind: Kind) -> Attribution | None:
    counted = {r.round for r in chain_rounds(report) if r.kind is kind}
    rows: list[Mapping[str, Any]] = [
        row for row in report.judgement.details.get("attribution", ()) if row["round"] in counted
    ]
    if not rows or any(row.get(f"{name}_tokens") is None for row in rows for name in TIERS):
        return None
    sums = ((name, sum(row[f"{name}_tokens"] for row in rows)) for name in TIERS)
    return Attribution(kind=kind, tiers=tuple(sums))


def _by_usage(report: Report, kind: Kind) -> Attribution | None:
    side = report.cold if kind is Kind.COLD else report.warm
    if side.cached_tokens is None or not side.prompt_tokens:
        return None
    computed = max(0, side.prompt_tokens - side.cached_tokens)
    return Attribution(kind=kind, tiers=((CACHED, side.cached_tokens), (COMPUTED, computed)))
