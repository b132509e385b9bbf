"""When requests arrive where they do not wait for each other: the grammar of `--mooncake-rate`, and its offsets."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from pytest_mooncake.plan.base import Model

__all__ = ["RATE_GRAMMAR", "Arrivals", "parse_rate"]

RATE_GRAMMAR = "N, constant:N, poisson:N, gamma:N:BURSTINESS or ramp:N-N (N requests per second)"
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_FORMS: dict[Literal["poisson", "constant", "gamma", "ramp"], str] = {
    "poisson": rf"(?:poisson:)?{_NUMBER}",
    "constant": rf"constant:{_NUMBER}",
    "gamma": rf"gamma:{_NUMBER}:{_NUMBER}",
    "ramp": rf"ramp:{_NUMBER}-{_NUMBER}",
}


class Arrivals(Model):
    """An open loop: requests are sent at these times, however many are still open."""

    shape: Literal["poisson", "constant", "gamma", "ramp"] = "poisson"
    rate_per_s: PositiveFloat
    """Requests per second; of a ramp, those it begins with."""
    burstiness: PositiveFloat = 1.0
    """Of gamma: 1 is Poisson, below 1 comes in bursts, above 1 is more even."""
    to_per_s: PositiveFloat | None = None
    """Of a ramp: the rate it ends with."""
    cap: PositiveInt | None = None
    """Requests in flight above which one whose time has come waits; the wait counts as the server's, not ours."""


def parse_rate(text: str) -> Arrivals:
    """Arrivals of one line of text.

    Raises:
        ValueError: the text is none, or a rate is 0.

    >>> parse_rate("5").shape, parse_rate("ramp:1-10").to_per_s
    ('poisson', 10.0)
    """
    matches = ((shape, re.fullmatch(form, text.strip())) for shape, form in _FORMS.items())
    shape, found = next(((shape, found) for shape, found in matches if found), (None, None))
    if shape is None or found is None:
        raise ValueError(f"expected {RATE_GRAMMAR}")
    numbers = [float(number) for number in found.groups()]
    if not all(numbers):
        raise ValueError("a rate or burstiness of 0 sends nothing; give numbers above 0")
    first, second = numbers[0], numbers[-1]
    if shape == "gamma":
        return Arrivals(shape=shape, rate_per_s=first, burstiness=second)
    if shape == "ramp":
        return Arrivals(shape=shape, rate_per_s=first, to_per_s=second)
    return Arrivals(shape=shape, rate_per_s=first)
