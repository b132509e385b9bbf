"""How long a run will take and what it can tell: a range before the first trial, a narrower one with every look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.statistics.power import RUNS, Assumed, Design, least_effect, simulate
from pytest_mooncake.records import Claim

PRIOR_SIGMA = (0.015, 0.08)
"""Spread of log metrics from round to round without any data: quiet cores to a shared machine."""
_MIDDLE = 0.8
"""Coverage of the range of σ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Ranges from the quietest to the noisiest rounds that are plausible; minutes are `None` without durations."""

    trials: tuple[int, int]
    minutes: tuple[float, float] | None
    passes: tuple[float, float]
    """Share of PASS (low, high)."""
    alone: Mapping[str, tuple[float, float]]
    binding: str
    least_effects: Mapping[str, float]
    """Per claim: the ratio nearest to its target that the whole design resolves at the noisy end in 80 %."""

    @property
    def sentence(self) -> str:
        """One line for people."""
        minutes = f", in {self.minutes[0]:.0f} to {self.minutes[1]:.0f} min" if self.minutes else ""
        low, high = self.trials
        chance = " to ".join(f"{percent(share)}" for share in self.passes)
        least = ", ".join(f"{name} ×{ratio:.3g}" for name, ratio in self.least_effects.items())
        return (
            f"a verdict after {low} to {high} trials{minutes}; PASS in {chance} of such runs, "
            f"{self.binding} binds; resolves {least}"
        )

    @property
    def sentence_zh(self) -> str:
        """The same in Chinese."""
        minutes = f"，{self.minutes[0]:.0f} 至 {self.minutes[1]:.0f} 分钟内" if self.minutes else ""
        low, high = self.trials
        chance = " 至 ".join(f"{percent(share)}" for share in self.passes)
        least = "、".join(f"{name} ×{ratio:.3g}" for name, ratio in self.least_effects.items())
        return f"{low} 至 {high} 次试验后可判定{minutes}；通过概率 {chance}，瓶颈为 {self.binding}；可分辨 {least}"


def sigma_range(sigma: float, df: float) -> tuple[float, float]:
    """Range of a standard deviation estimated with `df` degrees of freedom, by the chi-square distribution.

    >>> [round(bound, 2) for bound in sigma_range(1.0, 1e6)]
    [1.0, 1.0]
    """
    from scipy.special import chdtri

    tail = (1 - _MIDDLE) / 2
    return sigma * math.sqrt(df / chdtri(df, tail)), sigma * math.sqrt(df / chdtri(df, 1 - tail))


def forecast(
    design: Design,
    claims: Sequence[Assumed],
    *,
    df: float | None = None,
    trial_s: float | None = None,
    done: int = 0,
    runs: int = RUNS,
) -> Forecast:
    """Simulate the design at both ends of what the rounds' noise may be.

    Args:
        design: looks and level.
        claims: gating claims with expected ratios and spreads; spreads are ignored where `df` is None.
        df: degrees of freedom behind the spreads (history or the looks so far); None: nothing is known.
        trial_s: seconds of a trial (one warm, one cold round, both settled).
        done: trials already measured without a verdict; looks up to there have passed.
        runs: simulated runs an end.

    Returns:
        The forecast; its minutes count the trials still to come and the cold round that opens the chain.
    """
    ahead = replace(design, looks=tuple(look for look in design.looks if look > done) or design.looks[-1:])
    quiet, noisy = _ends(claims, df)
    best, worst = (simulate(ahead, end, runs=runs) for end in (quiet, noisy))
    trials = (min(best.trials[0], worst.trials[0]), max(best.trials[1], worst.trials[1]))
    return Forecast(
        trials=trials,
        minutes=_minutes(trials, done, trial_s),
        passes=_both(best.passes, worst.passes),
        alone={one.id: _both(best.alone[one.id], worst.alone[one.id]) for one in claims},
        binding=worst.binding,
        least_effects={one.id: least_effect(ahead, one, runs=runs) for one in noisy},
    )


def _ends(claims: Sequence[Assumed], df: float | None) -> tuple[list[Assumed], list[Assumed]]:
    if df is None:
        quiet, noisy = ([replace(one, sigma_w=sigma, sigma_c=sigma) for one in claims] for sigma in PRIOR_SIGMA)
        return quiet, noisy
    quiet, noisy = (
        [replace(one, sigma_w=one.sigma_w * factor, sigma_c=one.sigma_c * factor) for one in claims]
        for factor in sigma_range(1.0, df)
    )
    return quiet, noisy


def _both(one: float, other: float) -> tuple[float, float]:
    return min(one, other), max(one, other)


def _minutes(trials: tuple[int, int], done: int, trial_s: float | None) -> tuple[float, float] | None:
    if trial_s is None:
        return None
    opening = 0.0 if done else 0.5
    low, high = (max(0, count - done) + opening for count in trials)
    return low * trial_s / 60, high * trial_s / 60


def assumed_of(claims: Sequence[Claim]) -> tuple[Assumed, ...]:
    """What judged claims suggest: their estimates and spreads, of gating claims that were tested."""
    return tuple(
        Assumed(
            id=claim.id,
            ratio=claim.estimate_ratio,
            target_ratio=claim.target_ratio,
            direction=claim.details["direction"],
            sigma_w=max(claim.details["s_w"], 1e-6),
            sigma_c=max(claim.details["s_c"], 1e-6),
            level=claim.details["level"],
        )
        for claim in claims
        if claim.gating and claim.estimate_ratio and claim.target_ratio and "s_w" in claim.details
    )


def outlook(
    design: Design, claims: Sequence[Claim], *, trial_s: float | None = None, done: int = 0, runs: int = RUNS
) -> Forecast | None:
    """Forecast from the claims of the last look; `None` before any could be tested.

    The spreads of a chain of n trials rest on 2n - 2 degrees of freedom.
    """
    assumed = assumed_of(claims)
    if not assumed:
        return None
    return forecast(design, assumed, df=max(1, 2 * done - 2), trial_s=trial_s, done=done, runs=runs)
