"""Power by simulation of the sequential design: how many trials to a verdict, which claim binds, what can be resolved.

The nominal power of one fixed sample (non-central t) is not that of a run which may stop at six looks and must meet
all gating claims at the same one; so whole runs are simulated, claim by claim and jointly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.metrics import metric_named
from pytest_mooncake.analysis.statistics.chain_simulation import statistics, sums
from pytest_mooncake.analysis.statistics.looks import good_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_mooncake.plan.targets.grammar import Direction

RUNS = 4_000
ALIKE, APART = 0.8, 0.3
"""Correlation of the noise of metrics that share TTFT or makespan, and of TPOT with these (measured, local stack)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Looks (trials after which a verdict may fall) and their nominal level."""

    looks: tuple[int, ...]
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What is assumed of one gating claim: its true ratio and the spread of the log metric from round to round."""

    id: str
    ratio: float
    target_ratio: float
    direction: Direction
    sigma_w: float
    sigma_c: float
    level: float | None = None
    """Nominal level of this claim where it has a confidence of its own; else the design's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedOutcome:
    """What many runs of a design come to; shares 0-1, trials at the stop (10th percentile, mean, 90th)."""

    passes: float
    fails: float
    undecided: float
    mean_trials: float
    trials: tuple[int, int]
    alone: Mapping[str, float]
    """Power of each claim by itself."""
    binding: str
    """The claim that is met least often, or latest."""


def simulate(design: Design, claims: Sequence[Assumed], *, runs: int = RUNS, seed: int = 0) -> SimulatedOutcome:
    """Simulate `runs` runs whose rounds are normal on the log scale.

    Args:
        design: looks and level.
        claims: gating claims, at least one; the noise of different metrics is correlated as measured.
        runs: how many; the Monte-Carlo error of a share is at most 0.5/√runs.
        seed: of the generator.

    Returns:
        Shares of PASS (all claims met at the same look), FAIL (stopped at the first missed claim) and neither.
    """
    import numpy as np

    noise = _noise(claims, max(design.looks), runs, np.random.default_rng(seed))
    verdicts = np.stack([_verdicts(design, claim, one) for claim, one in zip(claims, noise, strict=True)])
    joint = np.where((verdicts == -1).any(axis=0), -1, (verdicts == 1).all(axis=0).astype(np.int8))
    decided, stops = _stops(joint, design.looks)
    ends = [_stops(one, design.looks) for one in verdicts]
    alone = {claim.id: float((end == 1).mean()) for claim, (end, _) in zip(claims, ends, strict=True)}
    late = {claim.id: float(when.mean()) for claim, (_, when) in zip(claims, ends, strict=True)}
    low, high = np.quantile(stops, [0.1, 0.9], method="nearest")
    return SimulatedOutcome(
        passes=float((decided == 1).mean()),
        fails=float((decided == -1).mean()),
        undecided=float((decided == 0).mean()),
        mean_trials=float(stops.mean()),
        trials=(int(low), int(high)),
        alone=alone,
        binding=min(alone, key=lambda one: (alone[one], -late[one])),
    )


def _noise(claims: Sequence[Assumed], trials: int, runs: int, generator: Any) -> NDArray[Any]:
    """Correlated standard normal noise, shape (claims, runs, rounds)."""
    import numpy as np

    correlation = np.array([[_correlation(one.id, other.id) for other in claims] for one in claims])
    root = np.linalg.cholesky(correlation + 1e-9 * np.eye(len(claims)))
    independent = generator.standard_normal((len(claims), runs, 2 * trials + 1))
    return np.asarray(np.tensordot(root, independent, axes=1))


def _correlation(one: str, other: str) -> float:
    """Of the noise of two metrics in one round: a slow round has high latencies and low throughput."""
    if one == other:
        return 1.0
    size = ALIKE if one.startswith("tpot") == other.startswith("tpot") else APART
    return size if metric_named(one).better == metric_named(other).better else -size


def _verdicts(design: Design, claim: Assumed, noise: NDArray[Any]) -> NDArray[Any]:
    """1 met, -1 missed, 0 neither, shape (looks, runs)."""
    import numpy as np

    least, most = good_side(claim.direction, math.log(claim.target_ratio))
    rows = []
    for look in design.looks:
        centre, half = interval_of(noise, look, claim.level or design.level, claim.sigma_w, claim.sigma_c)
        centre = centre + math.log(claim.ratio)
        met = (centre - half > least) & (centre + half < most)
        missed = (centre + half < least) | (centre - half > most)
        rows.append(met.astype(np.int8) - missed.astype(np.int8))
    return np.stack(rows)


def interval_of(
    noise: NDArray[Any], look: int, level: float, sigma_w: float, sigma_c: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Centre and half-width of the repeated interval of each run at one look, the true effect being 0."""
    from scipy.special import stdtrit

    found = statistics(sums(noise, look), scale_w=sigma_w, scale_c=sigma_c)
    return found.effect, stdtrit(found.df, 1 - level) * found.se


def _stops(verdicts: NDArray[Any], looks: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """First verdict of each run and the trials it took; 0 and the last look where none fell."""
    import numpy as np

    fell = verdicts != 0
    first = np.where(fell.any(axis=0), fell.argmax(axis=0), len(looks) - 1)
    return verdicts[first, np.arange(verdicts.shape[1])], np.asarray(looks)[first]


def least_distance(
    design: Design, *, sigma_w: float, sigma_c: float, power: float = 0.8, runs: int = RUNS, seed: int = 0
) -> float:
    """Smallest distance of the log ratio from its target that the design resolves with this power.

    A run resolves a distance that exceeds the smallest (noise + half-width) over its looks, so the answer is the
    `power` quantile of that minimum.
    """
    import numpy as np

    noise = np.random.default_rng(seed).standard_normal((runs, 2 * max(design.looks) + 1))
    reach = [sum(interval_of(noise, look, design.level, sigma_w, sigma_c)) for look in design.looks]
    return float(np.quantile(np.min(np.stack(reach), axis=0), power))


def least_effect(design: Design, claim: Assumed, *, power: float = 0.8, runs: int = RUNS) -> float:
    """Ratio nearest to the target that would still be told from it, e.g. 0.37 for a target of at most 0.40."""
    design = replace(design, level=claim.level or design.level)
    distance = least_distance(design, sigma_w=claim.sigma_w, sigma_c=claim.sigma_c, power=power, runs=runs)
    return claim.target_ratio * math.exp(distance if claim.direction == "higher" else -distance)
