"""Whether figures that come with a concurrency look like those of an open loop, which has none.

In an open loop requests come when they come: more of them may be in flight than any number that stands beside, and
throughput follows arrivals, not latency. Such figures are asked about, never condemned.
"""

from __future__ import annotations

from pytest_mooncake.analysis.figures import Figures
from pytest_mooncake.analysis.side import COLD, WARM, Side

EQUAL_RATES = 1.25
"""Throughputs that differ by less than this follow arrivals when latency allows so much more."""


def question(figures: Figures, side: Side) -> str | None:
    """What to ask about the concurrency that was given, `None` where nothing speaks for an open loop."""
    reason = _reason(figures, side)
    return None if reason is None else f"{reason}: was this an open loop? then leave concurrency out"


def _reason(figures: Figures, side: Side) -> str | None:
    if figures.request_rate is not None:
        return f"requests came at {figures.request_rate:g} a second"
    if figures.concurrency is not None and side.requests is not None and figures.concurrency >= side.requests:
        return f"all {side.requests} requests were sent at once"
    gain, allowed = gain_and_allowed(figures)
    if gain is None or allowed is None:
        return None
    follows_arrivals = 1 / EQUAL_RATES <= gain <= EQUAL_RATES and allowed >= EQUAL_RATES * gain
    return "throughput is the same although latency fell" if follows_arrivals else None


def gain_and_allowed(figures: Figures) -> tuple[float | None, float | None]:
    """Throughput warm over cold, and what latency allows at equal concurrency: cold over warm."""
    cold, warm = Side(figures, COLD), Side(figures, WARM)
    before, after = cold.latency_ms, warm.latency_ms
    slow, fast = figures.cold.request_throughput, figures.warm.request_throughput
    gain = fast / slow if slow and fast else None
    allowed = before.value / after.value if before and after and before.value and after.value else None
    return gain, allowed
