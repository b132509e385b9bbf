"""What is done today with 30 cold and 30 warm requests of one pair of rounds, on the same simulated systems.

A request's log TTFT is its round's noise plus noise of its own; requests of a round share the engine's state, which
is what these tests leave out. All of them accept when the gain exceeds the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

REQUESTS = 30
LOG_TARGET = math.log(0.40)
Rival = Callable[[NDArray[Any], NDArray[Any], np.random.Generator], NDArray[Any]]


def one_run_of_means(cold: NDArray[Any], warm: NDArray[Any], _: np.random.Generator) -> NDArray[Any]:
    """The ratio of the two means, no test."""
    return np.asarray(warm.mean(axis=1) / cold.mean(axis=1) <= 0.40)


def t_test_of_requests(cold: NDArray[Any], warm: NDArray[Any], _: np.random.Generator) -> NDArray[Any]:
    """Welch's t-test on the logs of single requests, 5 %."""
    found = stats.ttest_ind(np.log(warm), np.log(cold) + LOG_TARGET, axis=1, equal_var=False, alternative="less")
    return np.asarray(found.pvalue <= 0.05)


def mann_whitney(cold: NDArray[Any], warm: NDArray[Any], _: np.random.Generator) -> NDArray[Any]:
    """Mann-Whitney on single requests, the cold ones scaled to the target, 5 %."""
    found = stats.mannwhitneyu(warm, cold * 0.40, axis=1, alternative="less", method="asymptotic")
    return np.asarray(found.pvalue <= 0.05)


def bootstrap_of_requests(cold: NDArray[Any], warm: NDArray[Any], generator: np.random.Generator) -> NDArray[Any]:
    """The upper 95 % bound of the ratio of means, requests resampled 200 times."""
    draws = 200
    ratios = np.empty((len(cold), draws))
    for draw in range(draws):
        chosen = generator.integers(0, cold.shape[1], (2, *cold.shape))
        means = [
            np.take_along_axis(of, pick, axis=1).mean(axis=1) for of, pick in zip((warm, cold), chosen, strict=True)
        ]
        ratios[:, draw] = means[0] / means[1]
    return np.asarray(np.quantile(ratios, 0.95, axis=1) <= 0.40)


RIVALS: dict[str, Rival] = {
    "one run of means": one_run_of_means,
    "t-test of requests": t_test_of_requests,
    "Mann-Whitney of requests": mann_whitney,
    "bootstrap of requests": bootstrap_of_requests,
}


def acceptance(
    rival: Rival, ratio: float, *, sigma_round: float, runs: int, drift: float = 0.0, seed: int = 0
) -> float:
    """Share of runs that a rival accepts when the true ratio is `ratio`; requests scatter by 0.15 within a round."""
    generator = np.random.default_rng(seed)
    rounds = generator.normal(scale=sigma_round, size=(2, runs, 1))
    rounds[1] -= drift
    cold, warm = np.exp(rounds + generator.normal(scale=0.15, size=(2, runs, REQUESTS)))
    return float(rival(cold, warm * ratio, generator).mean())
