"""The contrast of warm against cold rounds: what a chain of rounds says about one metric.

    log y_k = a(segment) + b·k + effect·[round k is warm] + noise

Warm and cold rounds may differ in noise, so each kind's spread comes from its own residuals and the degrees of
freedom from Welch (1947) and Satterthwaite (1946). A linear drift of any size cancels. In a whole chain
C0 W1 C1 … Wn Cn the effect is the difference of the means and

    se² = s_w²/n + s_c²/(n + 1);    a kind's own df = its rounds - 1 - its share of Σk²

`contrast` uses the general form, which also serves chains with rounds missing and several segments: the weights are
the row of the pseudo-inverse that belongs to the effect, a kind's own df its rounds less their leverages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.records import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONSTANT = 1e-9
"""Standard errors of a log ratio below this are rounding, not noise: no round repeats to one part in a milliard."""
_ESTIMABLE = 1e-8
_LEAST_DF = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One round's metric. `position` is its place in its segment's chain (C0 is 0); `value` None: not measured."""

    kind: Kind
    position: int
    value: float | None
    segment: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Log ratio warm/cold with its standard error, Welch degrees of freedom and each kind's spread of the log."""

    effect: float
    se: float
    df: float
    n_warm: int
    n_cold: int
    s_w: float
    s_c: float
    drift: float
    """Trend b: change of the log metric from one round to the next."""
    drift_se: float = 0.0
    residuals: tuple[float, ...] = ()
    """In the order of the points."""

    @property
    def ratio(self) -> float:
        """Estimated warm/cold ratio."""
        return math.exp(self.effect)


@dataclass(frozen=True, slots=True, kw_only=True)
class Untestable:
    """Why a chain allows no test, in words, with the effect it shows where it shows one."""

    reason: str
    effect: float | None
    n_warm: int
    n_cold: int
    measured: bool = False
    """Whether every round has a figure although they form no ratio: one of them is 0."""

    @property
    def ratio(self) -> float | None:
        """Estimated warm/cold ratio, if there is one."""
        return None if self.effect is None else math.exp(self.effect)


def contrast(points: Sequence[Point]) -> Contrast | Untestable:
    """Fit the model above.

    Args:
        points: rounds of the chain, each with a positive metric; order does not matter.

    Returns:
        The contrast, or in words why there is none: a round without a figure, no round of one kind, one trial only,
        or rounds that do not differ at all. No field is ever nan.
    """
    n_warm = sum(point.kind is Kind.WARM for point in points)
    n_cold = len(points) - n_warm
    reason = _missing(points, n_warm, n_cold)
    if reason:
        return Untestable(reason=reason, effect=None, n_warm=n_warm, n_cold=n_cold)
    reason = _not_positive(points)
    if reason:
        return Untestable(reason=reason, effect=None, n_warm=n_warm, n_cold=n_cold, measured=True)
    return _fit(points, n_warm, n_cold)


def _missing(points: Sequence[Point], n_warm: int, n_cold: int) -> str | None:
    for point in points:
        if point.value is None or not math.isfinite(point.value):
            return f"the {point.kind} round at position {point.position} has no figure for this metric"
    if not n_warm or not n_cold:
        return f"{n_warm} warm and {n_cold} cold rounds: a ratio needs both kinds"
    return None


def _not_positive(points: Sequence[Point]) -> str | None:
    point = next((one for one in points if one.value is not None and one.value <= 0), None)
    if point is None:
        return None
    reads = f"the {point.kind} round at position {point.position} reads {point.value:g}"
    return f"{reads}; a ratio needs more than 0, a bound in the metric's own unit does not"


def _fit(points: Sequence[Point], n_warm: int, n_cold: int) -> Contrast | Untestable:
    import numpy as np

    design = _design(points)
    logs = np.log([point.value or math.nan for point in points])
    warm = np.array([point.kind is Kind.WARM for point in points])
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ logs
    if abs((inverse @ design)[0, 0] - 1) > _ESTIMABLE:
        effect = float(logs[warm].mean() - logs[~warm].mean())
        reason = (
            "no segment of the chain holds a warm round beside a cold one, so drift and effect cannot be told apart"
        )
        return Untestable(reason=reason, effect=effect, n_warm=n_warm, n_cold=n_cold)
    residuals = logs - design @ coefficients
    spare = 1 - np.einsum("ij,ji->i", design, inverse)
    groups = [_group(inverse[:2], residuals, spare, chosen) for chosen in (warm, ~warm)]
    return _welch(coefficients, groups, residuals, (n_warm, n_cold))


def _design(points: Sequence[Point]) -> NDArray[Any]:
    """Columns: warm, trend, one intercept a segment; positions centred, so that the numbers stay small."""
    import numpy as np

    segments = sorted({point.segment for point in points})
    middle = sum(point.position for point in points) / len(points)
    rows = [
        [point.kind is Kind.WARM, point.position - middle, *(point.segment == one for one in segments)]
        for point in points
    ]
    return np.array(rows, dtype=float)


@dataclass(frozen=True, slots=True)
class _Group:
    variance: float
    """Of the group's part of the effect."""
    drift_variance: float
    deviation: float
    df: float


def _group(weights: NDArray[Any], residuals: NDArray[Any], spare: NDArray[Any], chosen: NDArray[Any]) -> _Group:
    df = float(spare[chosen].sum())
    if df < _LEAST_DF:
        return _Group(0.0, 0.0, 0.0, 0.0)
    s2 = float((residuals[chosen] ** 2).sum()) / df
    effect, drift = s2 * (weights[:, chosen] ** 2).sum(axis=1)
    return _Group(float(effect), float(drift), math.sqrt(s2), df)


def _welch(
    coefficients: NDArray[Any], groups: Sequence[_Group], residuals: NDArray[Any], counts: tuple[int, int]
) -> Contrast | Untestable:
    warm, cold = groups
    n_warm, n_cold = counts
    effect = float(coefficients[0])
    if not warm.df or not cold.df:
        few = "one trial" if n_warm == 1 else f"{n_warm} warm and {n_cold} cold rounds"
        reason = f"{few}: no spread between rounds can be estimated, so this describes and tests nothing"
        return Untestable(reason=reason, effect=effect, n_warm=n_warm, n_cold=n_cold)
    variance = warm.variance + cold.variance
    if math.sqrt(variance) < CONSTANT:
        reason = "rounds of one kind do not differ at all: without noise there is nothing to test against"
        return Untestable(reason=reason, effect=effect, n_warm=n_warm, n_cold=n_cold)
    df = variance**2 / (warm.variance**2 / warm.df + cold.variance**2 / cold.df)
    return Contrast(
        effect=effect,
        se=math.sqrt(variance),
        df=df,
        n_warm=n_warm,
        n_cold=n_cold,
        s_w=warm.deviation,
        s_c=cold.deviation,
        drift=float(coefficients[1]),
        drift_se=math.sqrt(warm.drift_variance + cold.drift_variance),
        residuals=tuple(float(value) for value in residuals),
    )


def repeated_interval(found: Contrast, level: float) -> tuple[float, float]:
    """Repeated confidence interval of the log ratio, valid at every look of a design with this nominal level.

    Args:
        found: the contrast at the look.
        level: nominal one-sided level of the look set (`levels.nominal_level`).

    Returns:
        (lo, hi) = effect ± t(1 - level, df)·se. A claim is met exactly when it lies wholly on the good side of the
        target, and missed when it lies wholly on the bad side.

    Source: Jennison and Turnbull, Group Sequential Methods (1999), chapter 9.
    """
    half = t_quantile(1 - level, found.df) * found.se
    return found.effect - half, found.effect + half


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t with fractional degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))
