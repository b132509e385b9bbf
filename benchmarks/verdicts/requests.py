"""Simulated requests: how often claims on percentiles, stalls and thresholds pass falsely, before and after.

Before: the t test of the rounds' own percentiles, the exact interval of pooled stalls. After:
`analysis.statistics.percentiles.order_statistics` and `analysis.claims.shares`, written out for many
runs at once (`tests/unit/analysis/statistics/percentiles/test_order_statistics.py` holds them together).
A request's log latency is s·(sqrt(ρ)·round + sqrt(1 - ρ)·own): ρ of its variance belongs to the round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from pytest_mooncake.analysis.figures.summary import rank_of
from pytest_mooncake.analysis.statistics.chain_simulation import batches
from pytest_mooncake.analysis.statistics.levels import ALPHA, one_sample_level
from pytest_mooncake.analysis.statistics.percentiles.clustered import (
    design_effect,
    effective_requests,
    highest_rate_of_rounds,
    rate_limits,
)
from pytest_mooncake.plan.targets.sample_sizes import percentile_level, stall_level

LOOKS = (3, 4, 5, 6, 8, 10)
SCATTER = 0.3
"""Standard deviation of the log latency of all requests."""
_VALUES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What is simulated: a percentile, requests a round, share of the variance between rounds."""

    quantile: float
    requests: int
    rho: float
    below: float = 1.0
    """True percentile over its bound: 1 is the edge."""
    looks: tuple[int, ...] = LOOKS


def _latencies(of: Sampled, runs: int, seed: int) -> Iterator[NDArray[Any]]:
    """Logs, shape (runs, rounds, requests), whose bound is 0."""
    generator, rounds = np.random.default_rng(seed), max(of.looks)
    edge = SCATTER * ndtri(of.quantile) - math.log(of.below)
    for size in batches(runs, max(50, _VALUES // (rounds * of.requests))):
        between = math.sqrt(of.rho) * generator.standard_normal((size, rounds, 1))
        own = math.sqrt(1 - of.rho) * generator.standard_normal((size, rounds, of.requests))
        yield SCATTER * (between + own) - edge


def percentile_before(of: Sampled, runs: int, seed: int = 0) -> float:
    """Share of PASS of the t test of the rounds' percentiles."""
    level, passed = one_sample_level(of.looks), 0
    for logs in _latencies(of, runs, seed):
        rank = rank_of(of.quantile, of.requests)
        own = np.partition(logs, rank, axis=2)[:, :, rank]

        def verdicts(look: int, own: NDArray[Any] = own) -> tuple[NDArray[Any], NDArray[Any]]:
            mean, half = own[:, :look].mean(axis=1), own[:, :look].std(axis=1, ddof=1) / math.sqrt(look)
            half = half * stdtrit(look - 1, 1 - level)
            return mean + half < 0, mean - half > 0

        passed += _passes(of.looks, len(logs), verdicts)
    return passed / runs


def percentile_after(of: Sampled, runs: int, seed: int = 0) -> float:
    """Share of PASS of the order-statistic limit with rounds as clusters."""
    passed = 0
    for logs in _latencies(of, runs, seed):

        def verdicts(look: int, logs: NDArray[Any] = logs) -> tuple[NDArray[Any], NDArray[Any]]:
            return share_verdicts(logs[:, :look], of.quantile, percentile_level(of.looks, ALPHA))

        passed += _passes(of.looks, len(logs), verdicts)
    return passed / runs


def share_verdicts(logs: NDArray[Any], quantile: float, level: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Which of (runs, rounds, requests) logs meet and miss the bound 0."""
    runs, rounds, requests = logs.shape
    total, sizes = rounds * requests, np.full(rounds, requests, dtype=float)
    rank = rank_of(quantile, total)
    at = np.partition(logs.reshape(runs, total), rank, axis=1)[:, rank]
    over = (logs > 0).sum(axis=2).T
    effect = design_effect(over, sizes)
    for reached in (logs > at[:, None, None], logs >= at[:, None, None]):
        effect = np.maximum(effect, design_effect(reached.sum(axis=2).T, sizes))
    limits = rate_limits(over.sum(axis=0) / total, effective_requests(total, effect, rounds, level), level)
    return limits.high <= 1 - quantile, limits.low > 1 - quantile


def _passes(looks: tuple[int, ...], runs: int, verdicts: Callable[[int], Any]) -> int:
    """Runs that pass at the first look that decides."""
    open_runs, passed = np.ones(runs, dtype=bool), 0
    for look in looks:
        met, missed = verdicts(look)
        passed += int((open_runs & met).sum())
        open_runs &= ~(met | missed)
    return passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Stalls that come together: a round is struck with probability `rounds`, and then a share `within` of it."""

    name: str
    rounds: float
    within: float
    requests: int = 30

    @property
    def rate(self) -> float:
        """Of all requests; the bound that is asked."""
        return self.rounds * self.within


STALLS = (
    Stalls(name="each request by itself, 5 %", rounds=1.0, within=0.05),
    Stalls(name="a third of 15 % of the rounds", rounds=0.15, within=1 / 3),
    Stalls(name="a quarter of 20 % of the rounds, 40 requests", rounds=0.2, within=0.25, requests=40),
    Stalls(name="half of 10 % of the rounds", rounds=0.1, within=0.5),
    Stalls(name="5 % of the rounds as a whole", rounds=0.05, within=1.0),
)


def stalls_pass(of: Stalls, looks: tuple[int, ...], runs: int, *, after: bool, below: float = 1.0) -> float:
    """Share of PASS where the rate is `below` times its bound, before and after rounds were clusters."""
    generator = np.random.default_rng(0)
    struck = generator.random((runs, max(looks))) < of.rounds
    events = np.where(struck, generator.binomial(of.requests, of.within * below, struck.shape), 0)
    level = stall_level(looks, ALPHA)

    def verdicts(look: int) -> tuple[NDArray[Any], NDArray[Any]]:
        seen, total = events[:, :look], look * of.requests
        share = seen.sum(axis=1) / total
        if not after:
            low, high = _exact(seen.sum(axis=1), total, level)
            return high <= of.rate, low > of.rate
        known = {one: highest_rate_of_rounds(one, look, level) for one in np.unique(share).tolist()}
        effect = design_effect(seen.T, np.full(look, float(of.requests)))
        low = rate_limits(share, effective_requests(total, effect, look, level), level).low
        return np.array([known[one] for one in share.tolist()]) <= of.rate, low > of.rate

    return _passes(looks, runs, verdicts) / runs


def _exact(events: NDArray[Any], total: int, level: float) -> tuple[NDArray[Any], NDArray[Any]]:
    high = betaincinv(events + 1, np.maximum(total - events, 1e-12), 1 - level)
    low = np.where(events > 0, betaincinv(np.maximum(events, 1e-12), total - events + 1, level), 0.0)
    return low, high


def thresholds_kept(requests: int, looks: tuple[int, ...], runs: int, *, quantile: float | None = None) -> float:
    """Share of runs that keep a threshold on its edge at every look: mean, or a percentile, of all requests so far."""
    generator = np.random.default_rng(0)
    kept = 0
    edge = math.exp(SCATTER**2 / 2) if quantile is None else math.exp(SCATTER * ndtri(quantile))
    for size in batches(runs, max(50, _VALUES // (max(looks) * requests))):
        values = np.exp(SCATTER * generator.standard_normal((size, max(looks) * requests)))
        fine = np.ones(size, dtype=bool)
        for look in looks:
            so_far = values[:, : look * requests]
            if quantile is None:
                fine &= so_far.mean(axis=1) <= edge
            else:
                rank = rank_of(quantile, look * requests)
                fine &= np.partition(so_far, rank, axis=1)[:, rank] <= edge
        kept += int(fine.sum())
    return kept / runs
