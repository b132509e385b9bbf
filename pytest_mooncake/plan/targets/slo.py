"""The service level that goodput counts by: `ttft_p90_ms<=500,tpot_mean_ms<=20`.

Two kinds of limits. `ttft_ms<=500` is a limit of every request: one that misses it does not count. `ttft_p90_ms<=500`
is a limit of a round: while a round misses it, the service level is not kept and none of its requests counts.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import PositiveFloat

from pytest_mooncake.plan.base import Model

__all__ = ["Limit", "parse_goodput"]

Part = Literal["each", "mean", "p50", "p90", "p99"]
_LIMIT = re.compile(r"(?P<latency>ttft|tpot|e2e)(?:_(?P<part>mean|p50|p90|p99))?_ms ?(?:<=|≤) ?(?P<most>\d+(?:\.\d+)?)")


class Limit(Model):
    """One limit in milliseconds, of each request or of a statistic of the round."""

    latency: Literal["ttft", "tpot", "e2e"]
    part: Part = "each"
    most_ms: PositiveFloat

    def __str__(self) -> str:
        part = "" if self.part == "each" else f"_{self.part}"
        return f"{self.latency}{part}_ms<={self.most_ms:g}"


def parse_goodput(text: str) -> tuple[Limit, ...]:
    """Read limits separated by commas.

    Raises:
        ValueError: one line that shows the part that cannot be read and how one is written.

    >>> [str(limit) for limit in parse_goodput("ttft_p90_ms<=500, tpot_ms <= 20")]
    ['ttft_p90_ms<=500', 'tpot_ms<=20']
    """
    limits = [_limit(part.strip()) for part in text.split(",")]
    names = [(limit.latency, limit.part) for limit in limits]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"{twice[0]} is limited twice in {text!r}; give each limit once")
    return tuple(limits)


def _limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if not found or not float(found["most"]):
        raise ValueError(
            f"{text!r} is no limit; write ttft_ms<=500 (each request) or ttft_p90_ms<=500 (the round): "
            "ttft, tpot or e2e, with mean, p50, p90 or p99 or without"
        )
    return Limit.model_validate(
        {"latency": found["latency"], "part": found["part"] or "each", "most_ms": float(found["most"])}
    )
