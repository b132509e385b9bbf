"""Is this release slower than the ones before? The alarm, the first of two steps; interleaved rounds confirm it.

Two baselines: *rolling*, the last runs since the last accepted change point, and *anchored*, the runs of the release
that a person accepted, which also sees what grew by a little in every release. Both take their noise from the rolling
runs. One release errs in 5 % at most over all metrics and both baselines together: rolling takes 4 %, anchored 1 %, and
each shares its part over its metrics by Holm's step. Below 5 % a worsening is no alarm however sure it is.

Only runs of one fingerprint are compared; too few, none, or runs of another fingerprint are said in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from pytest_mooncake.analysis.statistics.prediction import (
    Noise,
    holm,
    mean_and_noise,
    p_worse,
    smallest_caught,
    upper_bound,
)
from pytest_mooncake.plan.targets.metrics import Better

ALPHA = 0.05
"""Largest rate of false alarms a release, over all metrics and baselines together."""
ANCHORED_PART = 0.01
"""What of it the anchored baseline takes where there is one."""
LEAST_EFFECT = 0.05
"""Worsening, as a share, below which nothing is an alarm."""
LEAST_RUNS = 10
MOST_RUNS = 30
"""Rolling runs beyond which more of them would hardly catch less and reach back into other times."""
RELEASES_PER_YEAR = 52.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A metric that gates releases."""

    name: str
    title: str
    better: Better


HIT_SHARE = Watched(name="warm.hit_share", title="warm hit share", better="higher")
WATCHED = (
    Watched(name="warm.ttft_mean_ms", title="warm mean TTFT", better="lower"),
    Watched(name="warm.tpot_mean_ms", title="warm mean TPOT", better="lower"),
    Watched(name="warm.request_throughput", title="warm request throughput", better="higher"),
    Watched(name="cold.ttft_mean_ms", title="cold mean TTFT", better="lower"),
    HIT_SHARE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """One run of the history: what it ran on, which release it was, one number a metric (absent: not measured)."""

    run_id: str
    release: str
    fingerprint: str
    metrics: Mapping[str, float]


class Standing(StrEnum):
    """Whether a release could be compared at all."""

    COMPARED = "compared"
    NO_BASELINE = "no baseline"
    TOO_FEW_RUNS = "too few runs"
    OTHER_FINGERPRINT = "other fingerprint"
    NO_FIGURES = "no figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One metric of this release against one baseline. Ratios are this run over the past ones' geometric mean."""

    metric: str
    title: str
    baseline: Literal["rolling", "anchored"]
    runs: int
    """Past runs that the level rests on."""
    ratio: float
    bound_ratio: float
    """The worst ratio that passes for a run like the past ones, were this the only metric that is worse."""
    sigma: float
    """Spread of the log from run to run."""
    p: float
    p_adjusted: float
    alarm: bool
    smallest_caught_ratio: float | None
    """The smallest true worsening that is an alarm in 95 of 100 releases."""
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """This release against the history."""

    standing: Standing
    words: str
    runs: int
    asked: int
    metrics: tuple[MetricComparison, ...] = ()
    not_compared: tuple[str, ...] = ()
    """Metrics left out, each with its reason."""
    false_alarms_a_year: float = 0.0
    """At most so many are to be expected when nothing ever changes."""

    @property
    def alarms(self) -> tuple[MetricComparison, ...]:
        """What is worse than its past, beyond chance and beyond the least effect."""
        return tuple(one for one in self.metrics if one.alarm)

    @property
    def compared(self) -> int:
        """Metrics that could be compared with at least one baseline."""
        return len({one.metric for one in self.metrics})

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`."""
        return {**asdict(self), "compared": self.compared}


def rolling_runs(current: PastRun, past: Sequence[PastRun], since: str | None = None) -> tuple[PastRun, ...]:
    """The runs that the rolling baseline rests on: same fingerprint, from run `since` on, the last 30 at most.

    Args:
        current: the run to be compared; it is never its own past.
        past: oldest first.
        since: the first run after the last accepted change point; `None` or unknown: all.
    """
    ids = [one.run_id for one in past]
    level = past[ids.index(since) :] if since in ids else past
    alike = [one for one in level if one.fingerprint == current.fingerprint and one.run_id != current.run_id]
    return tuple(alike[-MOST_RUNS:])


def compare_release(
    current: PastRun,
    past: Sequence[PastRun],
    *,
    watched: Sequence[Watched] = WATCHED,
    since: str | None = None,
    anchor: Sequence[PastRun] = (),
    releases_per_year: float = RELEASES_PER_YEAR,
) -> Comparison:
    """The alarm.

    Args:
        current: this release's run.
        past: earlier runs, oldest first.
        watched: metrics that gate; the hit share is added where it is missing.
        since: the first run after the last accepted change point.
        anchor: runs of the accepted release; empty where nobody accepted one.
        releases_per_year: for the expected number of false alarms.

    Returns:
        The comparison; where there is nothing to compare with, its standing and why, in words, and no metric.
    """
    watched = tuple(watched) if HIT_SHARE in watched else (*watched, HIT_SHARE)
    rolling = rolling_runs(current, past, since)
    standing = _standing(current, past, rolling)
    if standing is not Standing.COMPARED:
        words = _why_not(standing, len(rolling), len(past))
        return Comparison(standing=standing, words=words, runs=len(rolling), asked=len(watched))
    same = tuple(one for one in anchor if one.fingerprint == current.fingerprint and one.run_id != current.run_id)
    found, missing = _all_metrics(current, rolling, same, watched)
    return _comparison(found, missing, len(rolling), len(watched), releases_per_year)


def _standing(current: PastRun, past: Sequence[PastRun], rolling: Sequence[PastRun]) -> Standing:
    earlier = [one for one in past if one.run_id != current.run_id]
    if not earlier:
        return Standing.NO_BASELINE
    if all(one.fingerprint != current.fingerprint for one in earlier):
        return Standing.OTHER_FINGERPRINT
    return Standing.COMPARED if len(rolling) >= LEAST_RUNS else Standing.TOO_FEW_RUNS


def _why_not(standing: Standing, runs: int, past: int) -> str:
    if standing is Standing.NO_BASELINE:
        return f"nothing to compare with: the history holds no earlier run; {LEAST_RUNS} are needed"
    if standing is Standing.OTHER_FINGERPRINT:
        return f"not comparable: all {past} earlier runs have another fingerprint (model, hardware or workload)"
    return f"not compared: {runs} comparable runs since the last accepted change, {LEAST_RUNS} are needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """What one metric is compared with."""

    watched: Watched
    baseline: Literal["rolling", "anchored"]
    worse: float
    noise: Noise
    runs: int
    p: float


def _all_metrics(
    current: PastRun, rolling: Sequence[PastRun], anchor: Sequence[PastRun], watched: Sequence[Watched]
) -> tuple[tuple[MetricComparison, ...], tuple[str, ...]]:
    series: list[_Series] = []
    missing: list[str] = []
    for one in watched:
        found = _series_of(one, current, rolling, anchor)
        if isinstance(found, str):
            missing.append(f"{one.title}: {found}")
        else:
            series.extend(found)
    anchored = [one for one in series if one.baseline == "anchored"]
    rest = [one for one in series if one.baseline == "rolling"]
    part = ANCHORED_PART if anchored else 0.0
    return (*_judged(rest, ALPHA - part), *_judged(anchored, part)), tuple(missing)


def _series_of(
    watched: Watched, current: PastRun, rolling: Sequence[PastRun], anchor: Sequence[PastRun]
) -> list[_Series] | str:
    """The metric against each baseline, or why it cannot be compared."""
    value = current.metrics.get(watched.name)
    logs = _logs(watched, rolling)
    if value is None or math.isnan(value) or value < 0:
        return "not measured in this run"
    if len(logs) < LEAST_RUNS:
        return f"measured in {len(logs)} of the past runs, {LEAST_RUNS} are needed"
    here = _worse_log(watched, value)
    mean, noise = mean_and_noise(logs)
    found = [_series(watched, "rolling", here - mean, noise, len(logs))]
    held = _logs(watched, anchor)
    if held:
        level = math.fsum(held) / len(held)
        found.append(_series(watched, "anchored", here - level, noise, len(held)))
    return found


def _series(
    watched: Watched, baseline: Literal["rolling", "anchored"], worse: float, noise: Noise, runs: int
) -> _Series:
    p = p_worse(worse, noise, runs)
    return _Series(watched=watched, baseline=baseline, worse=worse, noise=noise, runs=runs, p=p)


def _logs(watched: Watched, runs: Sequence[PastRun]) -> list[float]:
    values = (one.metrics.get(watched.name) for one in runs)
    return [_worse_log(watched, value) for value in values if value is not None and 0 < value < math.inf]


def _worse_log(watched: Watched, value: float) -> float:
    log = math.log(value) if value > 0 else -math.inf
    return log if watched.better == "lower" else -log


def _judged(series: Sequence[_Series], alpha: float) -> tuple[MetricComparison, ...]:
    adjusted = holm([one.p for one in series])
    return tuple(_metric(one, p, alpha, len(series)) for one, p in zip(series, adjusted, strict=True))


def _metric(one: _Series, p_adjusted: float, alpha: float, count: int) -> MetricComparison:
    least, level = math.log1p(LEAST_EFFECT), alpha / count
    alarm = p_adjusted <= alpha and one.worse >= least
    caught = smallest_caught(one.noise, one.runs, level=level, least=least)
    bound = max(least, upper_bound(one.noise, one.runs, level))
    sign = 1 if one.watched.better == "lower" else -1
    ratio = math.exp(sign * one.worse)
    return MetricComparison(
        metric=one.watched.name,
        title=one.watched.title,
        baseline=one.baseline,
        runs=one.runs,
        ratio=ratio,
        bound_ratio=math.exp(sign * bound),
        sigma=one.noise.deviation,
        p=one.p,
        p_adjusted=p_adjusted,
        alarm=alarm,
        smallest_caught_ratio=None if caught is None else math.exp(sign * caught),
        words=_words(one, ratio, math.exp(sign * bound), alarm=alarm, p_adjusted=p_adjusted),
    )


def change(ratio: float) -> str:
    """A ratio as a change.

    >>> change(1.1), change(0.905)
    ('+10.0 %', '-9.5 %')
    """
    return f"{(ratio - 1) * 100:+.1f} %"


def _words(one: _Series, ratio: float, bound: float, *, alarm: bool, p_adjusted: float) -> str:
    runs = f"{one.runs} {one.baseline} {'run' if one.runs == 1 else 'runs'}"
    said = f"{one.watched.title} {change(ratio)} against {runs}"
    if alarm:
        return f"{said}: alarm (unremarkable up to {change(bound)}; p {p_adjusted:.2g} over all metrics)"
    return f"{said}: no alarm (one would begin at {change(bound)})"


def _comparison(
    metrics: tuple[MetricComparison, ...], missing: tuple[str, ...], runs: int, asked: int, rate: float
) -> Comparison:
    if not metrics:
        words = f"compared 0 of {asked} metrics: {missing[0]}"
        return Comparison(standing=Standing.NO_FIGURES, words=words, runs=runs, asked=asked, not_compared=missing)
    compared = len({one.metric for one in metrics})
    expected = ALPHA * rate
    said = f"compared {compared} of {asked} metrics with {runs} runs; {_alarms(metrics)}"
    return Comparison(
        standing=Standing.COMPARED,
        words=f"{said}; {_caught(metrics)}; at most {expected:.1f} false alarms a year at {rate:g} releases",
        runs=runs,
        asked=asked,
        metrics=metrics,
        not_compared=missing,
        false_alarms_a_year=expected,
    )


def _alarms(metrics: Sequence[MetricComparison]) -> str:
    names = dict.fromkeys(one.title for one in metrics if one.alarm)
    return f"alarm: {', '.join(names)}" if names else "no alarm"


def _caught(metrics: Sequence[MetricComparison]) -> str:
    """What this comparison could have seen of the metric that it sees least of."""
    rolling = [one for one in metrics if one.baseline == "rolling"]
    blind = next((one for one in rolling if one.smallest_caught_ratio is None), None)
    if blind:
        return f"{blind.title} is so noisy that no slowdown is caught in 95 %"
    worst = max(rolling, key=lambda one: abs(math.log(one.smallest_caught_ratio or 1.0)))
    return f"smallest change caught in 95 %: {change(worst.smallest_caught_ratio or 1.0)} ({worst.title})"
