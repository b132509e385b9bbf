"""Values as vLLM, LMCache and Mooncake read them; what none of them could read is None, never an exception."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pytest_mooncake.border.values import parse_json
from pytest_mooncake.errors import BorderError

__all__ = ["is_true", "json_mapping", "number", "seconds", "size_bytes", "version_key", "whole_number"]

_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:\.post(\d{1,6}))?(?P<rest>.*)", re.DOTALL)


def size_bytes(value: object) -> int | None:
    """Read a size as Mooncake does: bytes, or a number with a binary unit.

    >>> size_bytes("4GB"), size_bytes(1024), size_bytes("much")
    (4294967296, 1024, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if math.isfinite(value) and value >= 0 else None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def number(value: object) -> float | None:
    """Read a finite number, also one in a text.

    >>> number("8.0"), number("20GB"), number(True), number("nan")
    (8.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole_number(value: object) -> int | None:
    """Read a whole number that is not negative, also one in a text.

    >>> whole_number("256"), whole_number(256), whole_number("256k"), whole_number(-1)
    (256, 256, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def seconds(value: object) -> float | None:
    """Read a duration as `mooncake_master` does: milliseconds, or a number with a unit.

    >>> seconds("5000"), seconds("30s"), seconds("5m"), seconds("soon")
    (5.0, 30.0, 300.0, None)
    """
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*(ms|s|m|h)?\s*", str(value))
    return None if match is None else float(match[1]) * _UNITS[match[2] or "ms"]


def version_key(text: str) -> tuple[int, ...] | None:
    """Return what versions are ordered by: numbers and post-release; None for what no release is called.

    A build of a branch (`0.1.dev1+g3f2`, `nightly`, `dev`) tells nothing of what is in it.

    >>> (version_key("0.3.12.post1") or ()) > (version_key("0.3.12") or ()) > (version_key("0.3.9") or ())
    True
    >>> version_key("0.1.dev1+g3f2"), version_key("nightly"), version_key("0.32.0+cpu")
    (None, None, (0, 32, 0, 0))
    """
    match = _VERSION.fullmatch(text.strip())
    if match is None or "dev" in match["rest"] or not re.match(r"(rc\d+|[ab]\d+|[-+].*)?$", match["rest"]):
        return None
    return tuple(int(part or 0) for part in match.groups()[:4])


def is_true(value: object) -> bool:
    """Whether LMCache and Mooncake take a value for yes: `true` and `1`, in any case, and nothing else.

    >>> is_true(True), is_true("True"), is_true("1"), is_true("yes"), is_true("no")
    (True, True, True, False, False)
    """
    return value is True or str(value).strip().lower() in {"true", "1"}


def json_mapping(text: object) -> Mapping[str, object] | None:
    """Return a JSON object as a mapping; None when the text is absent or anything else."""
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        value = parse_json(text, "")
    except BorderError:
        return None
    return value if isinstance(value, dict) else None
