"""Ratios of percentiles, warm over cold: each side has its order-statistic limits, so the error is shared by both.

A round's own percentile is none of the percentile (`percentiles`), so these ratios are not those of a chain: drift
does not cancel, it widens the interval. Means are the better claim where either would do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.claims.shares import samples_of, too_few
from pytest_mooncake.analysis.claims.wording import OfPercentiles
from pytest_mooncake.analysis.statistics.percentiles.order_statistics import percentile_limits
from pytest_mooncake.plan.targets.sample_sizes import percentile_level
from pytest_mooncake.records import Kind

if TYPE_CHECKING:
    from pytest_mooncake.analysis.statistics.looks import Look
    from pytest_mooncake.analysis.statistics.observed import Observed

__all__ = ["ratio_of_percentiles"]


def ratio_of_percentiles(
    metric: str, quantile: float, chain: Sequence[Observed], look: Look
) -> tuple[OfPercentiles, tuple[float, float] | None]:
    """Warm over cold percentile of all requests, and the interval of its log.

    Args:
        metric: e.g. "ttft_p90".
        quantile: e.g. 0.9.
        chain: valid rounds up to the look.
        look: where the run stands; before the first look there is no interval.

    Returns:
        What was found, in words where the sample bears no interval. Either side's limits get half of the error.
    """
    level = percentile_level(look.looks, look.alpha / 2)
    sides = {kind: [one for one in chain if one.kind is kind] for kind in Kind}
    found = OfPercentiles(ratio=None, n_warm=len(sides[Kind.WARM]), n_cold=len(sides[Kind.COLD]))
    samples = {kind: samples_of(rounds, metric) for kind, rounds in sides.items()}
    if any(len(samples[kind]) < len(sides[kind]) or not sides[kind] for kind in Kind):
        why, why_zh = "not tested: a round has no figure for this metric", "未检验：有轮次没有该指标的数据"
        return replace(found, why=why, why_zh=why_zh, measured=False), None
    warm, cold = (percentile_limits(samples[kind], quantile, level) for kind in (Kind.WARM, Kind.COLD))
    if warm.estimate is not None and cold.estimate:
        found = replace(found, ratio=warm.estimate / cold.estimate)
    if look.at is None:
        return replace(found, why="not tested: no look was reached", why_zh="未检验：未到判定点"), None
    if not (warm.low and warm.high and cold.low and cold.high):
        few, few_zh = too_few(min((warm, cold), key=lambda one: one.effective), quantile, level)
        return replace(found, why=f"no interval: {few}", why_zh=f"无区间：{few_zh}"), None
    return found, (math.log(warm.low / cold.high), math.log(warm.high / cold.low))
