"""Figures as they were printed: a number stands for everything that is rounded to it.

A law is broken where no numbers within these bounds obey it; what is said of it is computed from the printed numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Printed:
    """A figure that is not negative, and the bounds between which the true one lies."""

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Printed:
        """A figure that was counted, or measured here."""
        return cls(value, value, value)

    @classmethod
    def rounded(cls, value: float, half: float) -> Printed:
        """A figure whose last digit is `2·half`.

        >>> Printed.rounded(14.5, 0.05)
        Printed(value=14.5, low=14.45, high=14.55)
        """
        return cls(value, max(0.0, value - half), value + half)

    def __add__(self, other: Printed) -> Printed:
        """The sum."""
        return Printed(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, other: Printed) -> Printed:
        """The product."""
        return Printed(self.value * other.value, self.low * other.low, self.high * other.high)

    def __truediv__(self, other: Printed) -> Printed:
        """The quotient; without end where the divisor may be nothing."""
        return Printed(_over(self.value, other.value), _over(self.low, other.high), _over(self.high, other.low))

    def times(self, factor: float) -> Printed:
        """The figure in another unit."""
        return Printed(self.value * factor, self.low * factor, self.high * factor)

    def minus(self, number: float) -> Printed:
        """So much less, never below nothing."""
        return Printed(*(max(0.0, bound - number) for bound in (self.value, self.low, self.high)))


def _over(dividend: float, divisor: float) -> float:
    if divisor:
        return dividend / divisor
    return math.inf if dividend else 0.0
