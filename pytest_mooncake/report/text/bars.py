"""Bars of block characters, the longer of two filling its width."""

from __future__ import annotations

FULL = "█"
TTFT_WIDTH = 48
THROUGHPUT_WIDTH = 38


def pair(cold: float | None, warm: float | None, width: int) -> tuple[str, str]:
    """Bars of two values on one scale; a value that is there gets at least one block, a missing one none.

    >>> [len(bar) for bar in pair(2.5, 7.4, 38)]
    [13, 38]
    """
    longest = max(cold or 0.0, warm or 0.0)
    return _bar(cold, longest, width), _bar(warm, longest, width)


def _bar(value: float | None, longest: float, width: int) -> str:
    if value is None or value <= 0 or longest <= 0:
        return ""
    return FULL * max(1, round(width * value / longest))
