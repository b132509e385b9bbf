"""When requests are to be sent: offsets in ns after the start of a round, fixed before it begins.

Every function is pure: the same arguments give the same offsets. Schedules are absolute, so a late request never
pushes the ones after it (no drift, no coordinated omission). Offsets ascend and the first request is at 0.
"""

from __future__ import annotations

import math
import random

__all__ = [
    "constant_offsets",
    "gamma_offsets",
    "ramp_offsets",
]

_NS_PER_S = 1_000_000_000


def constant_offsets(count: int, *, rate_per_s: float) -> tuple[int, ...]:
    """Equal gaps of `1 / rate_per_s`.

    >>> constant_offsets(3, rate_per_s=2.0)
    (0, 500000000, 1000000000)
    """
    _check(count, rate_per_s=rate_per_s)
    return tuple(round(index * _NS_PER_S / rate_per_s) for index in range(count))


def gamma_offsets(count: int, *, rate_per_s: float, burstiness: float, seed: int) -> tuple[int, ...]:
    """Gamma-distributed gaps of mean `1 / rate_per_s` and shape `burstiness`.

    The coefficient of variation of the gaps is `1 / sqrt(burstiness)`: 1 is Poisson, below 1 comes in bursts, above 1
    is more even (the convention of `vllm bench serve --burstiness`).
    """
    _check(count, rate_per_s=rate_per_s, burstiness=burstiness)
    rng = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    scale_ns = _NS_PER_S / rate_per_s / burstiness
    at_ns, offsets = 0.0, [0]
    for _ in range(count - 1):
        at_ns += rng.gammavariate(burstiness, scale_ns)
        offsets.append(round(at_ns))
    return tuple(offsets[:count])


def ramp_offsets(count: int, *, from_per_s: float, to_per_s: float) -> tuple[int, ...]:
    """Rate that changes linearly in time from `from_per_s` to `to_per_s` over all `count` requests.

    The i-th request is where the integral of the rate reaches i: `a t + (b - a) t^2 / 2T = i` with `T = 2n / (a + b)`.

    >>> [round(offset / 1e9, 3) for offset in ramp_offsets(4, from_per_s=1.0, to_per_s=3.0)]
    [0.0, 0.732, 1.236, 1.646]
    """
    _check(count, from_per_s=from_per_s, to_per_s=to_per_s)
    duration_s = 2 * max(count, 1) / (from_per_s + to_per_s)
    slope = (to_per_s - from_per_s) / duration_s
    # The root in the form that also holds for slope 0 and loses no digits to cancellation.
    roots = (2 * i / (from_per_s + math.sqrt(from_per_s**2 + 2 * slope * i)) for i in range(count))
    return tuple(round(root * _NS_PER_S) for root in roots)


def _check(count: int, **positive: float) -> None:
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    for name, value in positive.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a positive number, got {value}")
