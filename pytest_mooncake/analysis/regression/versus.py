"""New against old, measured in turns: the second step of a regression, which confirms an alarm or does not.

Visits alternate, old new old new … old; each is a cold and a warm round of its own with fresh nonces. One number a
visit and metric, and the contrast that judges warm against cold rounds (`analysis.statistics.contrast`) judges new
against old: linear drift cancels, each endpoint has noise of its own, and the looks share the error. Each metric by
itself is wrongly confirmed as slower in 5 % of cases at most; below 5 % slower nothing is confirmed.

A failed request of the new endpoint is a FAIL, whatever the metrics say; one of the old endpoint leaves nothing to
compare with. A comparison that was not measured to its end is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pytest_mooncake.analysis.figures.metrics import METRICS, Metric
from pytest_mooncake.analysis.figures.summary import Summary
from pytest_mooncake.analysis.regression.alarm import LEAST_EFFECT, change
from pytest_mooncake.analysis.statistics.contrast import Contrast, Point, Untestable, contrast, repeated_interval
from pytest_mooncake.analysis.statistics.levels import nominal_level
from pytest_mooncake.analysis.statistics.observed import observe
from pytest_mooncake.records import Kind, Round, Verdict

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
    failed_new: int = 0
    """Failed requests of the new endpoint: its fault."""
    failed_old: int = 0
    """Failed requests of the old endpoint: nothing is compared with it then."""
    failure: str | None = None
    """What the first of them says, in one line."""
    ended: str | None = None
    """Why the visits ended before they had decided or the last look was reached; `None` where they did not."""

    @property
    def is_decided(self) -> bool:
        """Whether more visits would change nothing."""
        if self.failed_old or self.ended is not None or not self.metrics:
            return False
        return all(one.standing != "undecided" for one in self.metrics)

    @property
    def verdict(self) -> Verdict:
        """What the turns alone come to: slower is INCONCLUSIVE, since it takes an alarm of the history to fail."""
        if self.failed_new:
            return Verdict.FAIL
        return Verdict.PASS if self.is_decided and not self.slower else Verdict.INCONCLUSIVE

    @property
    def slower(self) -> tuple[str, ...]:
        """Metrics that are confirmed as slower, by the names of the history."""
        return tuple(one.metric for one in self.metrics if one.standing == "slower")

    @property
    def text(self) -> str:
        """What was found, in one sentence."""
        told = [*self._failures(), *(one.words for one in self.metrics)]
        return f"new against old, {self.visits} visits in turns: {'; '.join(told)}"

    def _failures(self) -> Iterator[str]:
        """What comes before the metrics: failed requests, and an end that came early."""
        why = f" ({self.failure})" if self.failure else ""
        if self.failed_new:
            yield f"{_requests(self.failed_new)} of the new endpoint failed: FAIL{why}"
        if self.failed_old:
            yield f"{_requests(self.failed_old)} of the old endpoint failed: undecided{'' if self.failed_new else why}"
        if self.ended is not None:
            yield f"not measured to the end: {self.ended}: undecided"

    @property
    def text_zh(self) -> str:
        """The same in Chinese."""
        told = [*self._failures_zh(), *(one.words_zh for one in self.metrics)]
        return f"新旧版本交替测量 {self.visits} 次：{'；'.join(told)}"

    def _failures_zh(self) -> Iterator[str]:
        why = f"（{self.failure}）" if self.failure else ""
        if self.failed_new:
            yield f"新端点有 {self.failed_new} 个请求失败：未通过{why}"
        if self.failed_old:
            yield f"旧端点有 {self.failed_old} 个请求失败：未决{'' if self.failed_new else why}"
        if self.ended is not None:
            yield f"未测量到最后（{self.ended}）：未决"

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`."""
        told = {"slower": list(self.slower), "decided": self.is_decided, "verdict": self.verdict.value}
        return {**asdict(self), **told}


def _requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def compare_visits(rounds: Sequence[Round], looks: Sequence[int], ended: str | None = None) -> Versus | None:
    """New over old from the rounds of their visits.

    A visit with a failed request counts as a failure and enters no metric.

    Args:
        rounds: cold and warm rounds; `segment` says whose, `position` is the visit's place, `OLD` and `NEW` in turns.
        looks: visits of the new endpoint after which a verdict may fall; between two of them the visits up to the
            last look are judged, before the first one nothing is decided.
        ended: why the visits ended, where that was neither a decision nor the last look.

    Returns:
        `None` where the new endpoint has not been visited once and whole, nothing failed and nobody says why.
    """
    whole, failed = _whole_visits(rounds), {one: _errors(rounds, one) for one in (OLD, NEW)}
    visits = sum(segment == NEW for _, segment in whole)
    if not visits and ended is None and not any(failed.values()):
        return None
    look = max((one for one in looks if one <= visits), default=None)
    used = [one for one in rounds if (one.position, one.segment) in whole]
    if look is not None:
        used = [one for one in used if one.position <= _last_position(whole, look)]
    level = nominal_level(tuple(looks)) if look is not None and min(looks) > 1 else None
    found = Versus(
        visits=look or visits,
        confidence=0.90,
        metrics=tuple(_compared(used, *one, level=level) for one in _COMPARED) if visits else (),
        failed_new=len(failed[NEW]),
        failed_old=len(failed[OLD]),
        failure=next((error for one in (NEW, OLD) for error in failed[one]), None),
    )
    if found.failed_old:
        return replace(found, metrics=tuple(replace(one, standing="undecided") for one in found.metrics))
    is_over = found.failed_new or found.is_decided or visits >= max(looks)
    return found if is_over else replace(found, ended=ended)


def _errors(rounds: Sequence[Round], segment: int) -> list[str]:
    records = (record for one in rounds if one.segment == segment for record in one.requests)
    return [record.error for record in records if record.error is not None]


def _whole_visits(rounds: Sequence[Round]) -> set[tuple[int, int]]:
    """Visits of a cold and a warm round in which nothing failed."""
    kinds: dict[tuple[int, int], set[Kind]] = {}
    for one in rounds:
        if all(record.error is None for record in one.requests):
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
