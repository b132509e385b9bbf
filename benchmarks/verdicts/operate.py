"""Operating characteristics of the sequential design: how often it passes, fails and stops where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.verdicts.noises import Noise
from pytest_mooncake.analysis.statistics.chain_simulation import batches
from pytest_mooncake.analysis.statistics.power import Design, interval_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristic:
    """Shares of runs, and the mean number of trials at the stop."""

    passes: float
    fails: float
    mean_trials: float


def operate(design: Design, noise: Noise, *, shift: float, sigma: float, runs: int, seed: int = 0) -> Characteristic:
    """Run `runs` chains whose log ratio lies `shift` below its target (positive: better) under `noise` × `sigma`."""
    generator = np.random.default_rng(seed)
    passes = fails = trials = 0
    for size in batches(runs):
        made = noise(generator, size, 2 * max(design.looks) + 1) * sigma
        verdict, stop = _verdicts(design, made, shift)
        passes += int((verdict == 1).sum())
        fails += int((verdict == -1).sum())
        trials += int(stop.sum())
    return Characteristic(passes=passes / runs, fails=fails / runs, mean_trials=trials / runs)


def _verdicts(design: Design, noise: NDArray[Any], shift: float) -> tuple[NDArray[Any], NDArray[Any]]:
    verdict = np.zeros(len(noise), dtype=np.int8)
    stop = np.full(len(noise), design.looks[-1])
    for look in design.looks:
        centre, half = interval_of(noise, look, design.level, 1.0, 1.0)
        found = np.where(centre - shift + half < 0, 1, np.where(centre - shift - half > 0, -1, 0))
        fresh = (verdict == 0) & (found != 0)
        verdict[fresh], stop[fresh] = found[fresh], look
    return verdict, stop
