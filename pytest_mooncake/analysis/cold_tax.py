"""The cold tax: what cold rounds pay for storing their KV, and the gain against an engine that does not store.

A cold round computes its prompts *and* stores them; measured against it, the cache looks better than against an engine
that has none. Rounds without a connector run after the chain, so the two kinds are independent samples: the ratio is
that of geometric means, its interval Welch's on the logs (Welch 1947).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_mooncake.analysis.figures.summary import Summary, summarise
from pytest_mooncake.analysis.statistics.contrast import t_quantile
from pytest_mooncake.records import Round

LEAST_ROUNDS = 2
"""Rounds of a kind below which there is no spread, hence no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A ratio and its interval; `None` where one side has a single round."""

    ratio: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdTax:
    """Rounds without a connector beside the run's own. Gains are warm over without; taxes cold over without."""

    rounds: int
    confidence: float
    without: Summary
    ttft_gain: Gain | None
    throughput_gain: Gain | None
    ttft_tax: Gain | None
    throughput_tax: Gain | None

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`."""
        return {**asdict(self), "without": self.without.to_json()}


def cold_tax(
    without: Sequence[Round], cold: Sequence[Round], warm: Sequence[Round], *, confidence: float
) -> ColdTax | None:
    """Hold the rounds of a run against rounds on an engine without a connector.

    Args:
        without: cold rounds without a connector, the first one after its start left out.
        cold: valid cold rounds of the run.
        warm: valid warm rounds of the run.
        confidence: of the two-sided intervals, e.g. 0.90.

    Returns:
        `None` where nothing was measured without a connector, or a request of it failed.
    """
    if not without or any(record.error is not None for one in without for record in one.requests):
        return None
    bare = [summarise((one,)) for one in without]

    def against(rounds: Sequence[Round], of: Callable[[Summary], float | None]) -> Gain | None:
        return _gain([of(summarise((one,))) for one in rounds], [of(one) for one in bare], confidence)

    return ColdTax(
        rounds=len(without),
        confidence=confidence,
        without=summarise(without),
        ttft_gain=against(warm, _ttft_ms),
        throughput_gain=against(warm, _throughput),
        ttft_tax=against(cold, _ttft_ms),
        throughput_tax=against(cold, _throughput),
    )


def _ttft_ms(summary: Summary) -> float | None:
    return summary.ttft_ms.mean


def _throughput(summary: Summary) -> float | None:
    return summary.request_throughput


def _gain(values: Sequence[float | None], base: Sequence[float | None], confidence: float) -> Gain | None:
    """Ratio of geometric means with Welch's interval; `None` where a round has no figure above 0."""
    if not values or not base or not all(v is not None and v > 0 for v in (*values, *base)):
        return None
    top, bottom = ([math.log(v) for v in side if v] for side in (values, base))
    effect = math.fsum(top) / len(top) - math.fsum(bottom) / len(bottom)
    return Gain(ratio=math.exp(effect), interval=_welch(top, bottom, effect, confidence))


def _welch(
    top: Sequence[float], bottom: Sequence[float], effect: float, confidence: float
) -> tuple[float, float] | None:
    if min(len(top), len(bottom)) < LEAST_ROUNDS:
        return None
    from statistics import variance

    parts = [(variance(side) / len(side), len(side) - 1) for side in (top, bottom)]
    squared = math.fsum(part for part, _ in parts)
    if squared == 0:
        return math.exp(effect), math.exp(effect)
    df = squared**2 / math.fsum(part**2 / own for part, own in parts)
    half = t_quantile((1 + confidence) / 2, df) * math.sqrt(squared)
    return math.exp(effect - half), math.exp(effect + half)
