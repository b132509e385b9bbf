"""What the chain says about its own instrument: A/A control, drift, skew, and the confidence that survives them.

The level survives linear, quadratic and stepwise drift, autocorrelation and heavy tails (simulated, 0.5-4.1 % false
PASS); skew of the warm rounds alone raises it to 7 %, rare stalls and effects of one engine start beyond that, and no
test on one chain can cure these. So they are said in words beside the stated confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.statistics.contrast import Contrast, Point, t_quantile
from pytest_mooncake.analysis.statistics.tail import Tail
from pytest_mooncake.records import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SKEW_ROUNDS = 5
SKEWED = 1.0
"""Sample skewness of warm residuals that normal rounds exceed in about 5 % (n = 5 to 10)."""
LEAST_CONTROL_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A sentence that belongs beside the figures, in both languages."""

    id: str
    text: str
    text_zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A/A: every other cold round against the ones between. The ratio is 1 but for noise and what is amiss."""

    ratio: float | None
    ci_ratio: tuple[float, float] | None
    rounds: int
    text: str
    text_zh: str


def control(points: Sequence[Point], confidence: float = 0.95) -> Control:
    """Compare consecutive cold rounds as if every other one were warm.

    Args:
        points: one metric of the chain; its warm rounds are left out.
        confidence: two-sided, of the interval.

    Returns:
        Ratio and interval by ordinary least squares with the trend removed (both groups are cold, so they share one
        spread); fewer than four cold rounds leave no interval.
    """
    cold = sorted((one for one in points if one.kind is Kind.COLD), key=lambda one: (one.segment, one.position))
    values = [one.value for one in cold if one.value is not None and one.value > 0]
    if len(values) < len(cold) or len(values) < LEAST_CONTROL_ROUNDS:
        text = f"A/A control: {len(values)} cold rounds with a figure, {LEAST_CONTROL_ROUNDS} are needed"
        return Control(
            ratio=None,
            ci_ratio=None,
            rounds=len(values),
            text=text,
            text_zh=f"A/A 对照：无缓存轮次不足（{len(values)}）",
        )
    effect, half = _alternating(values, confidence)
    ratio, low, high = (math.exp(bound) for bound in (effect, effect - half, effect + half))
    figures = f"×{ratio:.3f}, {percent(confidence)} interval ×{low:.3f} to ×{high:.3f}, {len(values)} cold rounds"
    figures_zh = f"×{ratio:.3f}，{percent(confidence)} 区间 ×{low:.3f} 至 ×{high:.3f}，{len(values)} 个无缓存轮次"
    agrees = low <= 1 <= high
    outcome = "holds 1" if agrees else "consecutive cold rounds differ, trust no small effect"
    return Control(
        ratio=ratio,
        ci_ratio=(low, high),
        rounds=len(values),
        text=f"A/A control: {figures}: {outcome}",
        text_zh=f"A/A 对照：{figures_zh}：{'包含 1' if agrees else '相邻无缓存轮次不一致，小幅差异不可信'}",
    )


def _alternating(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Effect of every other round on the log scale and its half-width, by least squares with intercept and trend."""
    import numpy as np

    n = len(values)
    order = np.arange(n, dtype=float)
    design = np.column_stack([order % 2, order - order.mean(), np.ones(n)])
    logs = np.log(values)
    coefficients = np.linalg.pinv(design) @ logs
    df = n - 3
    variance = float(((logs - design @ coefficients) ** 2).sum()) / df
    se = math.sqrt(variance * float(np.linalg.inv(design.T @ design)[0, 0]))
    return float(coefficients[0]), t_quantile((1 + confidence) / 2, df) * se


def skewness(values: NDArray[Any]) -> float:
    """Sample skewness m₃/m₂^1.5; 0 where the values do not differ."""
    centred = values - values.mean()
    spread = float((centred**2).mean())
    return float((centred**3).mean()) / spread**1.5 if spread > 0 else 0.0


def drift_remark(found: Contrast, title: str, title_zh: str) -> Remark | None:
    """Say a drift that exceeds its noise; it cancels out of the effect, so nothing is downgraded."""
    if abs(found.drift) <= t_quantile(0.975, found.df) * found.drift_se:
        return None
    percent = math.expm1(found.drift) * 100
    return Remark(
        id="drift",
        text=f"{title} drifts by {percent:+.1f} % a round; a linear drift cancels out of every ratio",
        text_zh=f"{title_zh} 每轮漂移 {percent:+.1f} %；线性漂移在比值中抵消",
    )


def skew_remark(found: Contrast, points: Sequence[Point], title: str, title_zh: str) -> Remark | None:
    """Say a right skew of the warm rounds' residuals and what it does to the level."""
    import numpy as np

    warm = np.array([r for r, one in zip(found.residuals, points, strict=True) if one.kind is Kind.WARM])
    if len(warm) < LEAST_SKEW_ROUNDS:
        return None
    skew = skewness(warm)
    if skew <= SKEWED:
        return None
    return Remark(
        id="skew",
        text=f"warm {title} is skewed to the right ({skew:.1f}): false PASS up to 8 % rather than 5 %",
        text_zh=f"有缓存轮次 {title_zh} 右偏（{skew:.1f}）：误判通过的概率可达 8 %，而非 5 %",
    )


def stated_confidence(remarks: Sequence[Remark], tail: Tail | None, *, sessions: int = 1) -> Remark:
    """The confidence that may be stated, downgraded in words where the level does not survive.

    Args:
        remarks: drift and skew of the gating claims.
        tail: the warm tail; `None` where it is unknown.
        sessions: engine starts over which the trials were spread.
    """
    limit = "8" if any(one.id == "skew" for one in remarks) else "5"
    text = f"false PASS at most {limit} % for independent rounds without rare stalls, whatever their noise and drift"
    text_zh = f"对相互独立、没有罕见停顿的轮次，无论噪声与漂移如何，误判通过的概率不超过 {limit} %"
    if tail is not None and tail.stalls:
        text += f"; but {tail.stalls} of {tail.requests} warm requests stalled, which may raise it to 11 % and more"
        text_zh += f"；但 {tail.requests} 个有缓存请求中有 {tail.stalls} 个停顿，概率可能升至 11 % 以上"
    if sessions < 2:
        text += "; all trials come from one engine start, an effect of that start would not be seen"
        text_zh += "；所有试验来自同一次引擎启动，无法发现该次启动特有的影响"
    return Remark(id="confidence", text=text, text_zh=text_zh)
