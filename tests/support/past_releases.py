"""Releases of the past with the noise of a quiet machine, and the one that is held against them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pytest_mooncake.analysis.regression.alarm import PastRun

TYPICAL = {
    "warm.ttft_mean_ms": 400.0,
    "warm.tpot_mean_ms": 15.0,
    "warm.request_throughput": 7.4,
    "cold.ttft_mean_ms": 1200.0,
    "warm.hit_share": 1.0,
}
TTFT, THROUGHPUT, HITS = "warm.ttft_mean_ms", "warm.request_throughput", "warm.hit_share"


def run(name: str, factors: Mapping[str, float] | None = None, fingerprint: str = "same") -> PastRun:
    metrics = {key: value * (factors or {}).get(key, 1.0) for key, value in TYPICAL.items()}
    return PastRun(run_id=name, release=f"v{name}", fingerprint=fingerprint, metrics=metrics)


def history(count: int, sigma: float = 0.02, seed: int = 0) -> list[PastRun]:
    generator = np.random.default_rng(seed)
    names = [name for name in TYPICAL if name != HITS]
    return [run(str(i), {name: math.exp(generator.normal(0, sigma)) for name in names}) for i in range(count)]
