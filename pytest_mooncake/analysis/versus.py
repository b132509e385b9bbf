"""New against old, measured in turns: the second step of a regression, which confirms an alarm or does not.

Visits alternate, old new old new … old; each is a cold and a warm round of its own with fresh nonces. One number a
visit and metric, and the contrast that judges warm against cold rounds (`analysis.contrast`) judges new against old:
linear drift cancels, each endpoint has noise of its own, and the looks share the error. Each metric by itself is
wrongly confirmed as slower in 5 % of cases at most; below 5 % slower nothing is confirmed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pytest_mooncake.analysis.contrast import Contrast, Point, Untestable, contrast, repeated_interval
from pytest_mooncake.analysis.levels import nominal_level
from pytest_mooncake.analysis.metrics import METRICS, Metric
from pytest_mooncake.analysis.observed import observe
from pytest_mooncake.analysis.regression import LEAST_EFFECT, change
from pytest_mooncake.analysis.summary import Summary
from pytest_mooncake.records import Kind, Round

OLD, NEW = 0, 1
"""The segments under which the visits of the two endpoints are kept."""
MOST_COLD_HITS = 0.01
"""Share of cached prompt tokens above which a cold round was none."""
Standing = Literal["slower", "not slower", "undecided"]
_COMPARED = (
    (Kind.WARM, "ttft_mean", "warm.ttft_mean_ms"),
    (Kind.WARM, "tpot_mean", "warm.tpot_mean_ms"),
    (Kind.WARM, "request_throughput", "warm.request_throughput"),
    (Kind.COLD, "ttft_mean", "cold.ttft_mean_ms"),
    (Kind.WARM, "cached_share", "warm.hit_share"),
)
"""Kind of round, metric, and what the history calls it."""
_ZH: dict[Standing, str] = {"slower": "确认变慢", "not slower": "未变慢", "undecided": "未决"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VersusMetric:
    """One metric of new over old. `ci_ratio` is the repeated interval; `None` where there was nothing to test."""

    metric: str
    title: str
    ratio: float | None
    ci_ratio: tuple[float, float] | None
    standing: Standing
    reason: str = ""

    @property
    def words(self) -> str:
        """What was found, as a sentence."""
        return f"{self.title} {self._figure()}: {self.standing}{f' ({self.reason})' if self.reason else ''}"

    @property
    def words_zh(self) -> str:
        """The same in Chinese."""
        return f"{self.metric} {self._figure()}：{_ZH[self.standing]}"

    def _figure(self) -> str:
        if self.ratio is None:
            return "-"
        held = f" [{change(self.ci_ratio[0])}, {change(self.ci_ratio[1])}]" if self.ci_ratio else ""
        return f"{change(self.ratio)}{held}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """All metrics after so many visits; the old endpoint was visited once more than the new one."""

    visits: int
    confidence: float
    metrics: tuple[VersusMetric, ...]

    @property
    def is_decided(self) -> bool:
        """Whether more visits would change nothing."""
        return all(one.standing != "undecided" for one in self.metrics)

    @property
    def slower(self) -> tuple[str, ...]:
        """Metrics that are confirmed as slower, by the names of the history."""
        return tuple(one.metric for one in self.metrics if one.standing == "slower")

    @property
    def text(self) -> str:
        """What was found, in one sentence."""
        return f"new against old, {self.visits} visits in turns: {'; '.join(one.words for one in self.metrics)}"

    @property
    def text_zh(self) -> str:
        """The same in Chinese."""
        return f"新旧版本交替测量 {self.visits} 次：{'；'.join(one.words_zh for one in self.metrics)}"

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`."""
        return {**asdict(self), "slower": list(self.slower)}


def compare_visits(rounds: Sequence[Round], looks: Sequence[int]) -> Versus | None:
    """New over old from the rounds of their visits.

    Args:
        rounds: cold and warm rounds; `segment` says whose, `position` is the visit's place, `OLD` and `NEW` in turns.
        looks: visits of the new endpoint after which a verdict may fall; between two of them the visits up to the
            last look are judged, before the first one nothing is decided.

    Returns:
        `None` where the new endpoint has not been visited once and whole.
    """
    whole = _whole_visits(rounds)
    visits = sum(segment == NEW for _, segment in whole)
    if not visits:
        return None
    look = max((one for one in looks if one <= visits), default=None)
    used = [one for one in rounds if (one.position, one.segment) in whole]
    if look is not None:
        used = [one for one in used if one.position <= _last_position(whole, look)]
    level = nominal_level(tuple(looks)) if look is not None and min(looks) > 1 else None
    return Versus(
        visits=look or visits,
        confidence=0.90,
        metrics=tuple(_compared(used, *one, level=level) for one in _COMPARED),
    )


def _whole_visits(rounds: Sequence[Round]) -> set[tuple[int, int]]:
    kinds: dict[tuple[int, int], set[Kind]] = {}
    for one in rounds:
        kinds.setdefault((one.position, one.segment), set()).add(one.kind)
    return {visit for visit, seen in kinds.items() if len(seen) == len(Kind)}


def _last_position(visits: set[tuple[int, int]], look: int) -> int:
    """Place of the last visit that counts: the one of the old endpoint after the look's last one of the new."""
    return sorted(position for position, segment in visits if segment == NEW)[look - 1] + 1


def _compared(rounds: Sequence[Round], kind: Kind, metric_name: str, name: str, *, level: float | None) -> VersusMetric:
    metric = METRICS[metric_name]
    title = "warm hit share" if metric_name == "cached_share" else f"{kind} {metric.title}"
    seen = [(one, observe(one).summary) for one in rounds]
    points = [
        Point(kind=Kind.WARM if one.segment == NEW else Kind.COLD, position=one.position, value=metric.of(summary))
        for one, summary in seen
        if one.kind is kind
    ]
    found = contrast(points)
    hit = next((one.position for one, summary in seen if one.kind is Kind.COLD and _was_hit(summary)), None)
    if hit is not None:
        reason = f"the cold round of visit {hit} hit a cache"
        return VersusMetric(
            metric=name, title=title, ratio=found.ratio, ci_ratio=None, standing="undecided", reason=reason
        )
    if isinstance(found, Untestable):
        return _untested(name, title, metric, points, found, judged=level is not None)
    interval = repeated_interval(found, level) if level is not None else None
    return VersusMetric(
        metric=name,
        title=title,
        ratio=found.ratio,
        ci_ratio=None if interval is None else (math.exp(interval[0]), math.exp(interval[1])),
        standing=_standing(found, interval, metric),
    )


def _was_hit(summary: Summary) -> bool:
    share = METRICS["cached_share"].of(summary)
    return share is not None and share > MOST_COLD_HITS


def _standing(found: Contrast, interval: tuple[float, float] | None, metric: Metric) -> Standing:
    if interval is None:
        return "undecided"
    sign = 1 if metric.better == "lower" else -1
    least = math.log1p(LEAST_EFFECT)
    low, high = sorted(sign * bound for bound in interval)
    if low > 0 and sign * found.effect >= least:
        return "slower"
    return "not slower" if high < least else "undecided"


def _untested(
    name: str, title: str, metric: Metric, points: Sequence[Point], found: Untestable, *, judged: bool
) -> VersusMetric:
    """Visits of one endpoint that do not differ at all need no test: the figures themselves say it."""
    old = {one.value for one in points if one.kind is Kind.COLD}
    new = {one.value for one in points if one.kind is Kind.WARM}
    standing: Standing = "undecided"
    ratio = found.ratio
    if judged and len(old) == len(new) == 1 and None not in old | new:
        before, after = old.pop() or 0.0, new.pop() or 0.0
        worse = after > before * (1 + LEAST_EFFECT) if metric.better == "lower" else after * (1 + LEAST_EFFECT) < before
        standing = "slower" if worse else "not slower"
        ratio = after / before if before else ratio
    reason = "" if standing != "undecided" else found.reason
    return VersusMetric(metric=name, title=title, ratio=ratio, ci_ratio=None, standing=standing, reason=reason)
