"""The trend page: each metric from run to run, with intervals, verdicts, shifts and gaps. Values in, HTML out.

A description and no verdict. INVALID runs are shown and take no part in dating a shift: their instrument failed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.regression.ruptures_points import Method, points_by
from pytest_mooncake.records import Verdict
from pytest_mooncake.report.content.document import TrendRun
from pytest_mooncake.report.text.numbers import quantity

if TYPE_CHECKING:
    from pytest_mooncake.analysis.regression.change_points import ChangePoint

CONFIDENCE = 0.95
GAP_FACTOR = 3.0
"""Runs are missing where the pause is so many times the usual one."""
GAP_LEAST = timedelta(days=2)
"""Shorter pauses are a night or a weekend's eve, not a gap."""
LEAST_RUNS_FOR_GAPS = 4
MOST_RUNS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A pause in which runs are missing; without an end it lasts until now."""

    start: datetime
    end: datetime
    open: bool
    usual: timedelta

    @property
    def words(self) -> str:
        """The gap as a sentence."""
        days, usual = (span / timedelta(days=1) for span in (self.end - self.start, self.usual))
        until = "now" if self.open else f"{self.end:%Y-%m-%d}"
        return f"no run from {self.start:%Y-%m-%d} until {until}: {days:.1f} days where {usual:.1f} are usual"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTrend:
    """One metric: the runs that measured it, those that did not, and its shifts."""

    name: str
    title: str
    runs: tuple[TrendRun, ...]
    missing: tuple[TrendRun, ...]
    shifts: tuple[tuple[datetime, ChangePoint], ...]

    @property
    def words(self) -> str:
        """What the chart shows, for readers who do not see it."""
        if not self.runs:
            return f"{self.title}: no run measured it"
        values = [run.metrics[self.name] for run in self.runs]
        span = f"{quantity(min(values))} to {quantity(max(values))}, last {quantity(values[-1])}"
        shifts = "; ".join(f"shift: {point.words}" for _, point in self.shifts) or "no shift found"
        return f"{self.title}: {len(values)} runs, {span}; {shifts}"


def interval(run: TrendRun, metric: str) -> tuple[float, float] | None:
    """The run's figure with the 95 % t interval of its rounds' mean (None: fewer than two rounds measured it)."""
    values = run.rounds.get(metric, ())
    if len(values) < 2 or metric not in run.metrics:
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    return run.metrics[metric] - half, run.metrics[metric] + half


def gaps(runs: Sequence[TrendRun], now: datetime) -> tuple[Gap, ...]:
    """Where runs are missing: pauses far beyond the usual one, the last of them until now."""
    times = [run.started_at for run in runs]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    if len(times) < LEAST_RUNS_FOR_GAPS:
        return ()
    usual = statistics.median_low(pauses)
    least = max(GAP_LEAST, usual * GAP_FACTOR)
    ends = [(later, False) for later in times[1:]] + [(now, True)]
    return tuple(
        Gap(start=start, end=end, open=still, usual=usual)
        for start, (end, still) in zip(times, ends, strict=True)
        if end - start > least
    )


def metric_trend(runs: Sequence[TrendRun], name: str, title: str, *, method: Method = Method.TESTED) -> MetricTrend:
    """One metric of all runs, oldest first; `method` dates its shifts.

    Raises:
        MissingPartError: ruptures was asked for and is not installed.
    """
    measured = tuple(run for run in runs if name in run.metrics)
    dated = [run for run in measured if run.verdict != Verdict.INVALID and 0 < run.metrics[name] < math.inf]
    points = points_by(method, [run.metrics[name] for run in dated], [run.release for run in dated])
    return MetricTrend(
        name=name,
        title=title,
        runs=measured,
        missing=tuple(run for run in runs if name not in run.metrics),
        shifts=tuple((dated[point.index].started_at, point) for point in points),
    )
