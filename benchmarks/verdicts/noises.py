"""Noise of rounds, as logs: what the level was set for, what it survives and what it does not.

Every function takes a generator, a number of chains and of rounds, and returns (chains, rounds) with mean 0 and a
standard deviation of about 1 per round; even columns are cold, odd ones warm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

STALL_SIGMA = 0.04
"""σ of the rounds on which stalls are laid: these have a size of their own, so σ decides how much they matter."""
Noise = Callable[[np.random.Generator, int, int], NDArray[Any]]


def normal(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
    """Independent normal rounds."""
    return generator.standard_normal((chains, rounds))


def ratio(scale: float) -> Noise:
    """Normal rounds, warm ones `scale` times as noisy as cold ones."""

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        noise = normal(generator, chains, rounds)
        noise[:, 1::2] *= scale
        return noise

    return make


def drifting(shape: Callable[[NDArray[Any]], NDArray[Any]]) -> Noise:
    """Normal rounds on a course that `shape` gives for times 0 … 1."""

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        return np.asarray(normal(generator, chains, rounds) + shape(np.linspace(0, 1, rounds)))

    return make


def transient(times: NDArray[Any]) -> NDArray[Any]:
    """A start-up that decays within the first rounds."""
    return np.asarray(6 * np.exp(-8 * times))


def step(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
    """Normal rounds with a shift of 4 σ from a random round on."""
    start = generator.integers(1, rounds, size=(chains, 1))
    return np.asarray(normal(generator, chains, rounds) + 4 * (np.arange(rounds) >= start))


def autoregressive(carry: float) -> Noise:
    """AR(1) with lag-one correlation `carry`."""

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        noise = normal(generator, chains, rounds)
        for k in range(1, rounds):
            noise[:, k] = carry * noise[:, k - 1] + math.sqrt(1 - carry**2) * noise[:, k]
        return noise

    return make


def walk(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
    """A random walk of half the step of the noise on top of it."""
    return normal(generator, chains, rounds) + 0.5 * normal(generator, chains, rounds).cumsum(axis=1)


def student(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
    """Student's t with 3 degrees of freedom, scaled to σ = 1."""
    return generator.standard_t(3, size=(chains, rounds)) / math.sqrt(3)


def lognormal(s: float) -> Noise:
    """Right-skewed: lognormal with shape s, centred, σ = 1."""
    mean, spread = math.exp(s * s / 2), math.sqrt(math.expm1(s * s)) * math.exp(s * s / 2)

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        return np.asarray((generator.lognormal(0, s, (chains, rounds)) - mean) / spread)

    return make


def exponential(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
    """Right-skewed: exponential, centred."""
    return generator.exponential(size=(chains, rounds)) - 1


def warm_only(skewed: Noise) -> Noise:
    """Warm rounds from `skewed`, cold ones normal."""

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        noise = normal(generator, chains, rounds)
        noise[:, 1::2] = skewed(generator, chains, rounds // 2)
        return noise

    return make


def outlier_trials(share: float, size: float = 5.0) -> Noise:
    """Normal rounds of which each is an outlier of `size` σ, up or down, with probability `share`."""

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        hit = generator.random((chains, rounds)) < share
        sign = generator.choice([-1.0, 1.0], (chains, rounds))
        return normal(generator, chains, rounds) + size * sign * hit

    return make


def session(size: float, starts: int) -> Noise:
    """An effect of each engine start on the warm rounds, `size` times the spread of one trial's log ratio."""

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        noise = normal(generator, chains, rounds)
        effects = generator.standard_normal((chains, starts)) * size * math.sqrt(1.5)
        noise[:, 1::2] += effects[:, np.arange(rounds // 2) % starts]
        return noise

    return make


def stalls(share: float, factor: float, requests: int = 30, sigma: float = STALL_SIGMA) -> Noise:
    """Warm requests that stall: each takes `factor` times as long with probability `share`; the mean includes them.

    Unlike the other noises this one has a scale: it has to be multiplied by `sigma`.
    """
    centre = math.log1p(share * (factor - 1))

    def make(generator: np.random.Generator, chains: int, rounds: int) -> NDArray[Any]:
        noise = normal(generator, chains, rounds)
        hits = generator.binomial(requests, share, (chains, rounds // 2))
        noise[:, 1::2] += (np.log1p(hits / requests * (factor - 1)) - centre) / sigma
        return noise

    return make


NOISES: dict[str, Noise] = {
    **{f"normal, σ_w/σ_c = {scale:g}": ratio(scale) for scale in (0.1, 0.25, 0.5, 1, 2, 4, 6, 10, 30, 100)},
    "linear drift, 10 σ a run": drifting(lambda t: 10 * t),
    "quadratic drift, 10 σ a run": drifting(lambda t: 10 * t**2),
    "step of 4 σ at a random round": step,
    "decaying start-up transient": drifting(transient),
    "AR(1) 0.3": autoregressive(0.3),
    "AR(1) 0.8": autoregressive(0.8),
    "AR(1) −0.3": autoregressive(-0.3),
    "AR(1) −0.6": autoregressive(-0.6),
    "random walk plus noise": walk,
    "t with 3 df": student,
    "lognormal s = 0.5, all rounds": lognormal(0.5),
    "exponential, all rounds": exponential,
    "5 % outlier rounds of 5 σ": outlier_trials(0.05),
    "warm only: lognormal s = 0.5": warm_only(lognormal(0.5)),
    "warm only: lognormal s = 1": warm_only(lognormal(1.0)),
    "warm only: exponential": warm_only(exponential),
    "session effect 0.5, one start": session(0.5, 1),
    "session effect 0.5, two starts": session(0.5, 2),
    "session effect 1, one start": session(1.0, 1),
    "session effect 1, two starts": session(1.0, 2),
    "stalls, warm only: 10 % × 3": stalls(0.10, 3),
    "stalls, warm only: 3 % × 5": stalls(0.03, 5),
    "stalls, warm only: 1 % × 10": stalls(0.01, 10),
    "stalls, warm only: 0.3 % × 30": stalls(0.003, 30),
}
CURABLE = tuple(name for name in NOISES if not name.startswith(("session", "stalls", "AR(1) −")))
"""Noises under which the promise of at most 5 % (8 % for warm-only skew) must hold."""
