"""Whether the targets can be met together: throughput, TTFT and TPOT hang on each other through decode time.

In a saturated closed loop of equal concurrency

    throughput ratio = (TTFT_c + D_c)/(TTFT_w + D_w)                      D: decode time of a request
                     = (1 + k)/(1 - r + ρk)                               k = D_c/TTFT_c, ρ = D_w/D_c, r: cut of TTFT

at most (1 + k)/(ρk), and a ratio of R needs r ≥ 1 - 1/R + k(ρ - 1/R). Cold decode is slowed by other requests'
prefill, so ρ is measured by a probe at the run's own concurrency, never assumed to be 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.figures.summary import Summary

SPARE = 0.02
"""Share by which a demand must exceed what is possible before the words say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """k, the cold decode time over the cold TTFT, and ρ, the warm decode time over the cold one."""

    k: float
    rho: float

    @classmethod
    def of(cls, cold: Summary, warm: Summary) -> Probe | None:
        """From one cold and one warm summary; `None` where either lacks TTFT or end-to-end latency."""
        return cls.of_times(cold.ttft_ms.mean, decode_ms(cold), decode_ms(warm))

    @classmethod
    def of_times(cls, ttft_ms: float | None, cold_decode: float | None, warm_decode: float | None) -> Probe | None:
        """From mean times; `None` where one is missing or nothing was decoded."""
        if not ttft_ms or not cold_decode or warm_decode is None:
            return None
        return cls(k=cold_decode / ttft_ms, rho=warm_decode / cold_decode)

    def throughput_ratio(self, cut: float) -> float:
        """Throughput ratio that a cut of TTFT brings.

        >>> round(Probe(k=1.59, rho=0.967).throughput_ratio(0.67), 2)
        1.39
        """
        rest = 1 - cut + self.rho * self.k
        return (1 + self.k) / rest if rest > 0 else math.inf

    @property
    def limit(self) -> float:
        """Throughput ratio when TTFT vanishes altogether."""
        return self.throughput_ratio(1.0)

    def cut_for(self, ratio: float) -> float:
        """Cut of TTFT that a throughput ratio needs; above 1 it is out of reach."""
        return 1 - 1 / ratio + self.k * (self.rho - 1 / ratio)

    def k_for(self, ratio: float, cut: float) -> float:
        """Largest k at which a cut of TTFT brings this throughput ratio at the same ρ; inf where any k does."""
        slope = self.rho - 1 / ratio
        return math.inf if slope <= 0 else max(0.0, (cut - 1 + 1 / ratio) / slope)


def decode_ms(summary: Summary) -> float | None:
    """Mean time from first to last token."""
    if summary.e2e_ms.mean is None or summary.ttft_ms.mean is None:
        return None
    return summary.e2e_ms.mean - summary.ttft_ms.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility:
    """Whether a TTFT cut and a throughput ratio go together. Never a refusal: a warning before time is spent."""

    feasible: bool
    limit_ratio: float
    needed_cut: float
    ratio_at_cut: float
    sentence: str
    sentence_zh: str


def feasibility(probe: Probe, *, throughput_ratio: float, ttft_cut: float) -> Feasibility:
    """Confront the throughput target with what the cut of TTFT can bring.

    Args:
        probe: k and ρ at the run's own concurrency.
        throughput_ratio: target, warm/cold, e.g. 2.5.
        ttft_cut: cut of TTFT that is expected or was measured, e.g. 0.67.

    Returns:
        Figures and one sentence: what is possible, what is asked, which workload would show the effect.
    """
    reached = probe.throughput_ratio(ttft_cut)
    feasible = reached * (1 + SPARE) >= throughput_ratio
    return Feasibility(
        feasible=feasible,
        limit_ratio=probe.limit,
        needed_cut=probe.cut_for(throughput_ratio),
        ratio_at_cut=reached,
        sentence=_words(probe, throughput_ratio, ttft_cut, feasible),
        sentence_zh=_words_zh(probe, throughput_ratio, ttft_cut, feasible),
    )


def _words(probe: Probe, ratio: float, cut: float, feasible: bool) -> str:
    seen = f"with k = {probe.k:.2f} (decode over TTFT, cold) and ρ = {probe.rho:.2f} (decode, warm over cold)"
    gives = f"{seen} a TTFT cut of {percent(cut)} gives ×{probe.throughput_ratio(cut):.2f} at most, ×{ratio:g} is asked"
    if feasible:
        return f"{gives}: the targets can be met together"
    return f"{gives}: the targets cannot be met together{_cure(probe, ratio, cut)}"


def _cure(probe: Probe, ratio: float, cut: float) -> str:
    needed, k = probe.cut_for(ratio), probe.k_for(ratio, cut)
    other = f"; it would take k ≤ {k:.2f}: longer prompts or fewer output tokens" if 0 < k < math.inf else ""
    if needed > 1:
        return f", not even with TTFT at zero (×{probe.limit:.2f}){other}"
    return f"; it would take a TTFT cut of {percent(needed)}{other}"


def _words_zh(probe: Probe, ratio: float, cut: float, feasible: bool) -> str:
    gives = (
        f"k = {probe.k:.2f}（无缓存轮次解码/TTFT）、ρ = {probe.rho:.2f}（解码 有/无缓存）时，TTFT 降低 {percent(cut)} "
        f"最多带来 ×{probe.throughput_ratio(cut):.2f}，目标为 ×{ratio:g}"
    )
    if feasible:
        return f"{gives}：目标可以同时达到"
    return f"{gives}：目标无法同时达到（极限 ×{probe.limit:.2f}）；需要更长的 prompt 或更少的输出 token"
