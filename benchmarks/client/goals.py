"""What the client promises, held against one session's tables: each goal with its figure and whether it is met.

Ratios are taken between rows of one table. A goal whose other side did not take part is left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.client.in_process import FASTEST_ITL_P99_MS
from benchmarks.client.side_by_side import Figures
from pytest_mooncake.load.calibration.calibrate import Calibration

__all__ = ["PROMISES", "Goal", "Promise", "alone_goals", "goals", "table_of_goals"]

OURS = "pytest-mooncake"
FLOOR = "C epoll floor"
_FIELDS = {
    "CPU of a chunk": "cpu_us_per_chunk",
    "TTFT bias": "ttft_bias_ms",
    "TTFT P99 error": "ttft_error_p99_ms",
    "ITL P99 error": "itl_error_p99_ms",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """At most `most`, of `what` at `streams`: as it is, or as a ratio to `times` or a difference to `over` (a row)."""

    what: str
    streams: int
    most: float
    times: str | None = None
    over: str | None = None

    @property
    def title(self) -> str:
        """The promise in words."""
        other = f", × {self.times}" if self.times else f", ms above {self.over}" if self.over else ", ms"
        return f"{self.what} at {self.streams} streams{other}"

    def measured(self, rows: Mapping[str, Figures | str]) -> float | None:
        """The figure; `None` where a side of it is missing."""
        ours, other = (_value(rows, name, self.what) for name in (OURS, self.times or self.over or OURS))
        if ours is None or not other:
            return None
        return ours / other if self.times else ours - other if self.over else ours


PROMISES = (
    Promise(what="CPU of a chunk", streams=64, most=3.0, times=FLOOR),
    Promise(what="CPU of a chunk", streams=256, most=2.5, times=FLOOR),
    Promise(what="CPU of a chunk", streams=256, most=0.6, times="vllm bench serve"),
    Promise(what="CPU of a chunk", streams=256, most=0.22, times="AIPerf"),
    Promise(what="CPU of a chunk", streams=256, most=0.15, times="GuideLLM"),
    Promise(what="TTFT bias", streams=256, most=1.0),
    Promise(what="TTFT P99 error", streams=256, most=1.0, over=FLOOR),
    Promise(what="ITL P99 error", streams=256, most=0.7),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A promise and what came of it; `measured` is `None` where nothing could."""

    title: str
    most: float
    measured: float | None

    @property
    def outcome(self) -> str:
        """Met, missed, or not measured."""
        if self.measured is None:
            return "not measured"
        return "met" if self.measured <= self.most else "missed"


def goals(tables: Mapping[int, Mapping[str, Figures | str]], promises: Sequence[Promise] = PROMISES) -> Iterator[Goal]:
    """What the tables, by number of streams, say of each promise."""
    for promise in promises:
        rows = tables.get(promise.streams, {})
        yield Goal(title=promise.title, most=promise.most, measured=promise.measured(rows))


def alone_goals(fast: Sequence[Calibration], prompt: float, start: float) -> Iterator[Goal]:
    """What needs no other row: the runs at the highest rate, µs of a long prompt, seconds of a start."""
    p99_ms = min((one.itl_error_p99_ms for one in fast), default=None)
    yield Goal(title="ITL P99 error at the highest rate, best run, ms", most=FASTEST_ITL_P99_MS, measured=p99_ms)
    yield Goal(title="CPU of a long prompt, µs", most=300.0, measured=prompt)
    yield Goal(title="start-up with imports, s", most=0.3, measured=start)


def table_of_goals(found: Sequence[Goal]) -> str:
    """A Markdown table of all goals."""
    rows = [
        (goal.title, f"{goal.most:g}", "-" if goal.measured is None else f"{goal.measured:.3g}", goal.outcome)
        for goal in found
    ]
    headers, align = ("goal", "at most", "measured", ""), ("left", "right", "right", "left")
    body = tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=align)
    return f"**Goals**\n\n{body}\n"


def _value(rows: Mapping[str, Figures | str], name: str, what: str) -> float | None:
    row = next((figures for title, figures in rows.items() if _is(title, name)), None)
    return getattr(row, _FIELDS[what]) if isinstance(row, Figures) else None


def _is(title: str, name: str) -> bool:
    """Whether a row is that of `name`, whatever the version that peers have behind theirs."""
    return title == name or title.rpartition(" ")[0] == name
