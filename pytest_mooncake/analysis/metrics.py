"""The metrics a target may name: one number of a round each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_mooncake.analysis.summary import Summary
from pytest_mooncake.errors import PlanError

Better = Literal["lower", "higher"]


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
    from difflib import get_close_matches

    near = get_close_matches(name, METRICS, n=3, cutoff=0.4) or sorted(METRICS)
    raise PlanError(f"no metric is called {name!r}; did you mean {' or '.join(near)}?")


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


_LATENCIES = (("ttft", "TTFT", "首 Token 延迟"), ("tpot", "TPOT", "每 Token 延迟"), ("itl", "ITL", "Token 间隔"),
              ("e2e", "end-to-end latency", "端到端延迟"))  # fmt: skip
_PARTS = (("mean", "mean", "平均"), ("p50", "P50", "P50"), ("p90", "P90", "P90"), ("p99", "P99", "P99"))


def _latencies() -> list[Metric]:
    return [
        Metric(
            name=f"{name}_{part}",
            unit="ms",
            better="lower",
            title=f"{part_en} {en}",
            title_zh=f"{zh} ({part_zh})",
            of=_statistic(f"{name}_ms", part),
        )
        for name, en, zh in _LATENCIES
        for part, part_en, part_zh in _PARTS
    ]


_RATES = (
    Metric(
        name="request_throughput",
        unit="req/s",
        better="higher",
        title="request throughput",
        title_zh="吞吐量",
        of=_field("request_throughput"),
    ),
    Metric(
        name="output_token_throughput",
        unit="tokens/s",
        better="higher",
        title="token throughput",
        title_zh="Token 吞吐量",
        of=_field("output_token_throughput"),
    ),
    Metric(
        name="makespan", unit="s", better="lower", title="makespan", title_zh="总耗时", of=_field("makespan_s")
    ),
    Metric(
        name="cached_share", unit="", better="higher", title="cached share", title_zh="缓存占比", of=cached_share
    ),
    Metric(
        name="success_share", unit="", better="higher", title="success share", title_zh="成功占比", of=success_share
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {one.name: one for one in (*_latencies(), *_RATES)}
