"""The warm tail: stalls that means hide, and what a sample of this size can bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.figures.summary import rank_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_mooncake.records import Round

STALL_FACTOR = 3.0
"""A request stalls when its TTFT exceeds this many medians."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Stalls among warm requests. `bound` is the upper 95 % limit of their rate (0-1)."""

    requests: int
    stalls: int
    bound: float
    median_ms: float
    worst_ms: float

    @property
    def text(self) -> str:
        """One sentence, e.g. "90 warm requests without a stall bound its rate only at 3.3 %"."""
        if not self.stalls:
            return f"{self.requests} warm requests without a stall bound its rate only at {percent(self.bound, 1)}"
        share = f"{self.stalls} of {self.requests} warm requests stalled (TTFT over {STALL_FACTOR:g} medians"
        worst = f"worst {self.worst_ms:.0f} ms at a median of {self.median_ms:.0f} ms"
        return f"{share}, {worst}); rate at most {percent(self.bound, 1)}"

    @property
    def text_zh(self) -> str:
        """The same in Chinese."""
        if not self.stalls:
            return f"{self.requests} 个有缓存请求均无停顿，只能说明停顿率不超过 {percent(self.bound, 1)}"
        share = f"{self.requests} 个有缓存请求中 {self.stalls} 个停顿（TTFT 超过中位数 {STALL_FACTOR:g} 倍"
        worst = f"最差 {self.worst_ms:.0f} ms，中位数 {self.median_ms:.0f} ms"
        return f"{share}，{worst}）；停顿率不超过 {percent(self.bound, 1)}"


def warm_tail(ttft_ms: NDArray[Any]) -> Tail | None:
    """Count stalls among warm TTFTs.

    Args:
        ttft_ms: (n,) of successful warm requests; nan entries are left out.

    Returns:
        The tail; `None` without a request. Its bound is that of Clopper and Pearson (1934).
    """
    import numpy as np

    known = ttft_ms[~np.isnan(ttft_ms)]
    if not len(known):
        return None
    median_ms, stalls = float(np.median(known)), count_stalls(known) or 0
    return Tail(
        requests=len(known),
        stalls=stalls,
        bound=rate_bound(stalls, len(known)),
        median_ms=median_ms,
        worst_ms=float(known.max()),
    )


def count_stalls(ttft_ms: NDArray[Any]) -> int | None:
    """TTFTs above three of their medians; nan entries are left out, `None` where nothing else is there."""
    import numpy as np

    known = ttft_ms[~np.isnan(ttft_ms)]
    return int((known > STALL_FACTOR * np.median(known)).sum()) if len(known) else None


def rate_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Upper confidence limit of a rate of which `events` were seen in `trials`; 1 where all of them were.

    >>> round(rate_bound(0, 90), 4)
    0.0327
    """
    if events >= trials:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(events + 1, trials - events, confidence))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Warm over cold TTFT of the same prompts in one trial; described, never tested as if independent."""

    prompts: int
    p10: float
    p50: float
    p90: float
    worst_index: int
    worst_ratio: float


def paired_ratios(cold: Round, warm: Round) -> Paired | None:
    """Compare each prompt with itself.

    Args:
        cold: the round that first sent the prompts.
        warm: the round that repeated them.

    Returns:
        Distribution of the ratios and the worst prompt; `None` where no prompt succeeded in both.
    """
    before = _ttft_of(cold)
    pairs = sorted((ttft / before[index], index) for index, ttft in _ttft_of(warm).items() if before.get(index))
    if not pairs:
        return None
    ratios: Sequence[float] = [ratio for ratio, _ in pairs]
    p10, p50, p90 = (ratios[rank_of(quantile, len(ratios))] for quantile in (0.1, 0.5, 0.9))
    worst_ratio, worst_index = pairs[-1]
    return Paired(prompts=len(pairs), p10=p10, p50=p50, p90=p90, worst_index=worst_index, worst_ratio=worst_ratio)


def _ttft_of(one: Round) -> dict[int, int]:
    return {
        record.index: record.first_token_ns - record.sent_ns
        for record in one.requests
        if record.error is None and record.first_token_ns is not None and record.sent_ns is not None
    }
