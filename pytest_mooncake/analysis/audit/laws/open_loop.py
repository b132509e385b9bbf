"""Whether figures that come with a concurrency look like those of an open loop, which has none.

In an open loop requests come when they come: more of them may be in flight than any number that stands beside, and
throughput follows arrivals, not latency. Such figures are asked about, never condemned.
"""

from __future__ import annotations

from pytest_mooncake.analysis.audit.external_figures import Figures
from pytest_mooncake.analysis.audit.laws.side import COLD, WARM, Side

FEWER_IN_FLIGHT = 1.25
"""A closed loop has as many requests in flight warm as cold; in an open one they get fewer as latency falls."""
EQUAL_RATES = 0.05
"""Throughputs that differ by no more than this share follow arrivals."""


def question(figures: Figures, side: Side) -> str | None:
    """What to ask about the concurrency that was given, `None` where nothing speaks for an open loop."""
    reason = _reason(figures, side)
    return None if reason is None else f"{reason}: was this an open loop? then leave concurrency out"


def _reason(figures: Figures, side: Side) -> str | None:
    if figures.measured:
        return None
    if figures.request_rate is not None:
        return f"requests came at {figures.request_rate:g} a second"
    if figures.concurrency is not None and side.requests is not None and figures.concurrency >= side.requests:
        return f"all {side.requests} requests were sent at once"
    cold, warm = Side(figures, COLD).in_flight, Side(figures, WARM).in_flight
    if cold is None or warm is None or not warm.value:
        return None
    if cold.value >= FEWER_IN_FLIGHT * warm.value:
        return f"{cold.value:.1f} requests in flight cold and {warm.value:.1f} warm are no closed loop's"
    gain, _ = gain_and_allowed(figures)
    return None if gain is None or abs(gain - 1) > EQUAL_RATES else "throughput is the same cold and warm"


def gain_and_allowed(figures: Figures) -> tuple[float | None, float | None]:
    """Throughput warm over cold, and what latency allows at equal concurrency: cold over warm."""
    cold, warm = Side(figures, COLD), Side(figures, WARM)
    before, after = cold.latency_ms, warm.latency_ms
    slow, fast = figures.cold.request_throughput, figures.warm.request_throughput
    gain = fast / slow if slow and fast else None
    allowed = before.value / after.value if before and after and before.value and after.value else None
    return gain, allowed
