"""The metrics a target may name: one number of a round each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_mooncake.analysis.figures.summary import Summary
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.targets.metrics import LATENCIES, NAMED, PARTS, Better, nearest_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of a round. `of` gives it from the round's summary, `None` where it was not measured."""

    name: str
    unit: str
    better: Better
    title: str
    title_zh: str
    of: Callable[[Summary], float | None]


def metric_named(name: str) -> Metric:
    """Look a metric up.

    Raises:
        PlanError: no metric has this name; the message lists the nearest ones.
    """
    if name in METRICS:
        return METRICS[name]
    raise PlanError(f"no metric is called {name!r}; {nearest_names(name)}")


def _statistic(field: str, part: str) -> Callable[[Summary], float | None]:
    def read(summary: Summary) -> float | None:
        value: float | None = getattr(getattr(summary, field), part)
        return value

    return read


def _field(field: str) -> Callable[[Summary], float | None]:
    def read(summary: Summary) -> float | None:
        value: float | None = getattr(summary, field)
        return value

    return read


def cached_share(summary: Summary) -> float | None:
    """Share of prompt tokens that the server says it took from a cache (0-1)."""
    if summary.cached_tokens is None or not summary.prompt_tokens:
        return None
    return summary.cached_tokens / summary.prompt_tokens


def success_share(summary: Summary) -> float | None:
    """Share of requests that succeeded (0-1)."""
    return 1 - summary.failed / summary.requests if summary.requests else None


def stall_share(summary: Summary) -> float | None:
    """Share of successful requests whose TTFT exceeds three medians of their round (0-1)."""
    successes = summary.requests - summary.failed
    return summary.stalled / successes if summary.stalled is not None and successes else None


_READERS: dict[str, Callable[[Summary], float | None]] = {
    **{f"{name}_{part}": _statistic(f"{name}_ms", part) for name, *_ in LATENCIES for part, *_ in PARTS},
    "request_throughput": _field("request_throughput"),
    "output_token_throughput": _field("output_token_throughput"),
    "goodput": _field("goodput"),
    "makespan": _field("makespan_s"),
    "cached_share": cached_share,
    "success_share": success_share,
    "stall_share": stall_share,
}

METRICS: dict[str, Metric] = {
    name: Metric(name=name, unit=one.unit, better=one.better, title=one.title, title_zh=one.title_zh, of=_READERS[name])
    for name, one in NAMED.items()
}
