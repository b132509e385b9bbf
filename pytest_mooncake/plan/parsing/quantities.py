"""Quantities as people write them in options: sizes with a unit, ways to wait."""

from __future__ import annotations

import re

from pytest_mooncake.errors import UsageError

__all__ = ["parse_bytes", "parse_settle"]

LONGEST_SETTLE_S = 600
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(I?)B?")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def parse_bytes(flag: str, text: str) -> int:
    """Read a size: bytes, or a number with a unit; `GB` is 10^9, as reports print it, `GiB` is 2^30.

    Raises:
        UsageError: it is no size, or none at all.

    >>> parse_bytes("--x", "20GB"), parse_bytes("--x", "1.5 GiB"), parse_bytes("--x", "4096")
    (20000000000, 1610612736, 4096)
    """
    match = _SIZE.fullmatch(text.strip().replace(",", "").replace("_", "").upper())
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]]) if match else 0
    if size < 1:
        raise UsageError(f"{flag} {text}: expected a size like 20GB, 512MiB or a number of bytes")
    return size


def parse_settle(text: str) -> float | None:
    """Read `--mooncake-settle`: None for `counters`, seconds for `fixed:S`.

    Raises:
        UsageError: neither of the two, or not a positive number of at most 600 seconds.

    >>> parse_settle("fixed:5")
    5.0
    """
    if text == "counters":
        return None
    word, _, number = text.partition(":")
    try:
        seconds = float(number)
    except ValueError:
        seconds = -1.0
    if word != "fixed" or not 0 < seconds <= LONGEST_SETTLE_S:
        raise UsageError(f"--mooncake-settle {text}: expected counters, or fixed:SECONDS (up to {LONGEST_SETTLE_S})")
    return seconds
