"""Many simulated histories at once: `analysis.regression.alarm`, vectorised, and its confirmation by a chain.

Arrays of noise are (histories, runs, metrics) in units of σ. The same rule, run by run, is `compare_release`;
`tests/unit/analysis/regression/test_alarm_benchmark.py` holds one against the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.verdicts.noises import normal as normal_rounds
from benchmarks.verdicts.operate import operate
from pytest_mooncake.analysis.regression.alarm import ALPHA, LEAST_EFFECT, MOST_RUNS
from pytest_mooncake.analysis.statistics.contrast import t_quantile
from pytest_mooncake.analysis.statistics.levels import nominal_level
from pytest_mooncake.analysis.statistics.power import Design

Noise = Callable[[np.random.Generator, tuple[int, int, int]], NDArray[Any]]
LOOKS = (3, 4, 5, 6, 8, 10)


def normal(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Independent normal noise."""
    return generator.standard_normal(shape)


def correlated(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Metrics of one run share four fifths of their variance."""
    common = generator.standard_normal((*shape[:2], 1))
    return math.sqrt(0.8) * common + math.sqrt(0.2) * generator.standard_normal(shape)


def heavy(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Student's t with 3 degrees of freedom, scaled to variance 1."""
    return generator.standard_t(3, shape) / math.sqrt(3)


def skewed(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Centred exponential noise: slow runs lie farther out than fast ones."""
    return generator.standard_exponential(shape) - 1


def lasting(rho: float) -> Noise:
    """AR(1): a slow spell of the machine lasts over releases."""

    def noise(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[Any]:
        made = generator.standard_normal(shape)
        for k in range(1, shape[1]):
            made[:, k] = rho * made[:, k - 1] + math.sqrt(1 - rho**2) * made[:, k]
        return made

    return noise


def spiked(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[Any]:
    """One run in twenty is slower by 5 σ in every metric."""
    struck = generator.random((*shape[:2], 1)) < 0.05
    return generator.standard_normal(shape) + 5 * struck


NOISES: dict[str, Noise] = {
    "normal": normal,
    "correlated metrics (0.8)": correlated,
    "t with 3 df": heavy,
    "exponential": skewed,
    "AR(1) 0.3 between releases": lasting(0.3),
    "AR(1) 0.8 between releases": lasting(0.8),
    "5 % of runs slower by 5 σ": spiked,
}


def alarmed(past: NDArray[Any], new: NDArray[Any], alpha: float = ALPHA) -> NDArray[Any]:
    """Which metrics of each release alarm: (histories, metrics).

    Args:
        past: (histories, n, metrics) logs, worse is higher.
        new: (histories, metrics) logs of the release.
        alpha: over all metrics together.
    """
    n, metrics = past.shape[1:]
    worse = new - past.mean(axis=1)
    t = worse / (past.std(axis=1, ddof=1) * math.sqrt(1 + 1 / n))
    order = np.argsort(-t, axis=1)
    bounds = np.array([t_quantile(1 - alpha / (metrics - rank), n - 1) for rank in range(metrics)])
    passed = np.cumprod(np.take_along_axis(t, order, axis=1) >= bounds, axis=1).astype(bool)
    found = np.empty_like(passed)
    np.put_along_axis(found, order, passed, axis=1)
    alarms: NDArray[Any] = found & (worse >= math.log1p(LEAST_EFFECT))
    return alarms


def alarm_rate(noise: Noise, *, runs: int, past: int, metrics: int, sigma: float, seed: int = 0) -> float:
    """Releases without a change that alarm in any metric, as a share."""
    made = sigma * noise(np.random.default_rng(seed), (runs, past + 1, metrics))
    return float(alarmed(made[:, :-1], made[:, -1]).any(axis=1).mean())


def caught_rate(
    noise: Noise,
    *,
    runs: int,
    past: int,
    metrics: int,
    sigma: float,
    slower: float = 1.10,
    alpha: float = ALPHA,
    seed: int = 1,
) -> float:
    """Releases slower in their first metric that alarm in it, as a share."""
    made = sigma * noise(np.random.default_rng(seed), (runs, past + 1, metrics))
    made[:, -1, 0] += math.log(slower)
    return float(alarmed(made[:, :-1], made[:, -1], alpha)[:, 0].mean())


def confirm_rate(runs: int, *, slower: float = 1.0, sigma: float = 0.02, seed: int = 2) -> float:
    """Interleaved chains, new against old, that confirm one metric as slower, as a share."""
    design = Design(looks=LOOKS, level=nominal_level(LOOKS))
    return operate(design, normal_rounds, shift=math.log(slower), sigma=sigma, runs=runs, seed=seed).passes


def alarms_over_releases(
    noise: Noise, *, runs: int, past: int, releases: int, metrics: int, sigma: float, confirm: float, seed: int = 3
) -> tuple[float, float]:
    """Histories in which any of so many releases without a change alarms, and in which any alarm is confirmed.

    Every release joins the history of the next; each metric that alarms is confirmed with probability `confirm`,
    independently: it is measured on an engine start of its own.
    """
    generator = np.random.default_rng(seed)
    made = sigma * noise(generator, (runs, past + releases, metrics))
    ever, confirmed = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for release in range(past, past + releases):
        found = alarmed(made[:, max(0, release - MOST_RUNS) : release], made[:, release])
        ever |= found.any(axis=1)
        confirmed |= (found & (generator.random(found.shape) < confirm)).any(axis=1)
    return float(ever.mean()), float(confirmed.mean())
