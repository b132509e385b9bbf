"""The metrics a target may name, with their units and which side is better; `analysis.figures.metrics` reads them.

They stand here because a targets file is refused before anything is started, not after the first trial.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

__all__ = ["LATENCIES", "NAMED", "PARTS", "Better", "NamedMetric", "nearest_names", "quantile_of"]

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMetric:
    """One number of a round: what it is called and in which unit it is kept; a share (0-1) has no unit."""

    name: str
    unit: str
    better: Better
    title: str
    title_zh: str

    @property
    def is_share(self) -> bool:
        """Whether the number is a share of requests or tokens, judged round by round or by a bound of its rate."""
        return self.unit == ""


LATENCIES = (
    ("ttft", "TTFT", "首 Token 延迟"),
    ("tpot", "TPOT", "每 Token 延迟"),
    ("itl", "ITL", "Token 间隔"),
    ("e2e", "end-to-end latency", "端到端延迟"),
)
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
PARTS = (("mean", "mean", "平均"), ("p50", "P50", "P50"), ("p90", "P90", "P90"), ("p99", "P99", "P99"))

_OTHERS: tuple[tuple[str, str, Better, str, str], ...] = (
    ("request_throughput", "req/s", "higher", "request throughput", "吞吐量"),
    ("output_token_throughput", "tokens/s", "higher", "token throughput", "Token 吞吐量"),
    ("goodput", "req/s", "higher", "goodput", "有效吞吐量"),
    ("makespan", "s", "lower", "makespan", "总耗时"),
    ("cached_share", "", "higher", "cached share", "缓存占比"),
    ("success_share", "", "higher", "success share", "成功占比"),
    ("stall_share", "", "lower", "share of stalled requests", "停顿请求占比"),
)


def _named() -> tuple[NamedMetric, ...]:
    latencies = [
        NamedMetric(
            name=f"{name}_{part}", unit="ms", better="lower", title=f"{word} {en}", title_zh=f"{zh} ({word_zh})"
        )
        for name, en, zh in LATENCIES
        for part, word, word_zh in PARTS
    ]
    others = [
        NamedMetric(name=name, unit=unit, better=better, title=en, title_zh=zh)
        for name, unit, better, en, zh in _OTHERS
    ]
    return (*latencies, *others)


NAMED: dict[str, NamedMetric] = {one.name: one for one in _named()}


def nearest_names(name: str) -> str:
    """The metrics that `name` may stand for, as the end of a sentence: "did you mean …" or all of them."""
    near = difflib.get_close_matches(name, NAMED, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"known metrics: {', '.join(sorted(NAMED))}"


def quantile_of(metric: str) -> float | None:
    """The share of requests that a percentile speaks of; `None` for any other metric.

    >>> quantile_of("ttft_p90"), quantile_of("ttft_mean")
    (0.9, None)
    """
    return QUANTILES.get(metric.rpartition("_")[2]) if metric in NAMED else None
