"""Numbers as text, the same on every machine: no locale, halves rounded up, "not measured" as a dash.

Tables print through these functions from the values that `report.json` holds, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from pytest_mooncake.analysis.economics import rounded

MISSING = "-"
LARGE = 1e8
WAN = 10_000
"""The Chinese counting unit of money, 万 = 10,000."""


def fixed(value: float | None, places: int) -> str:
    """`value` with exactly `places` decimals.

    >>> fixed(3.378, 1), fixed(None, 1)
    ('3.4', '-')
    """
    return MISSING if value is None else f"{rounded(value, places):.{places}f}"


def quantity(value: float | None) -> str:
    """A measured figure with as many digits as it is worth: 1200, 15.0, 2.53, 0.043, 5.73e15.

    >>> [quantity(v) for v in (5.7344e15, 1200.4, 15.0, 2.5, 2.534, 0.0432)]
    ['5.73e15', '1200', '15.0', '2.5', '2.53', '0.043']
    """
    if value is None:
        return MISSING
    size = abs(value)
    if size >= LARGE:
        return f"{value:.3g}".replace("e+", "e")
    if size >= 100:
        return fixed(value, 0)
    if size >= 10:
        return fixed(value, 1)
    if size >= 1:
        text = fixed(value, 2)
        return text[:-1] if text.endswith("0") else text
    return fixed(value, 2 if size >= 0.1 or size == 0 else 3)


def whole(value: float | None) -> str:
    """A count: no decimals if it is whole, one otherwise."""
    return MISSING if value is None else fixed(value, 0 if value == int(value) else 1)


def signed_percent(value: float | None) -> str:
    """A change: `-67%`, `+196%`; one decimal below 1 %.

    >>> [signed_percent(v) for v in (-66.67, 196.0, -3.3, 0.4, 0.0)]
    ['-67%', '+196%', '-3%', '+0.4%', '0%']
    """
    if value is None:
        return MISSING
    text = fixed(value, 1 if abs(value) < 1 else 0)
    if float(text) == 0:
        return "0%"
    return f"{'+' if value > 0 else ''}{text}%"


def percent(share: float | None, places: int = 0) -> str:
    """A share (0-1) as percent: `66%`."""
    return MISSING if share is None else f"{fixed(share * 100, places)}%"


def ratio(value: float | None) -> str:
    """A ratio warm/cold: `×0.333`, `×2.96`."""
    return MISSING if value is None else f"×{_ratio(value)}"


def interval(ends: Sequence[float] | None) -> str:
    """An interval of ratios: `[0.310, 0.360]`."""
    return MISSING if ends is None else f"[{', '.join(_ratio(end) for end in ends)}]"


def _ratio(value: float) -> str:
    return fixed(value, 3 if abs(value) < 1 else 2)


def grouped(value: float) -> str:
    """A number of money or bytes with thousands separators: `3,960,000`; cents only where there are some."""
    return f"{rounded(value, 2):,.2f}".removesuffix(".00")


def trimmed(value: float, places: int = 2) -> str:
    """At most `places` decimals, no trailing zeros, no separators: `17`, `3.25`."""
    text = f"{rounded(value, places):.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: float, currency: str, lang: str) -> str:
    """An amount in the reader's unit.

    Chinese counts in 万 (no separator in it); for yuan the English text names both forms.

    >>> money(3_960_000, "CNY", "zh"), money(3_960_000, "CNY", "en"), money(1500, "USD", "en")
    ('396 万元', 'CNY 3,960,000 (396 wan)', 'USD 1,500')
    """
    if lang == "zh":
        return f"{trimmed(value / WAN)} 万{'元' if currency == 'CNY' else ' ' + currency}"
    plain = f"{currency} {grouped(value)}"
    return f"{plain} ({trimmed(value / WAN)} wan)" if currency == "CNY" else plain


def duration(seconds: float) -> str:
    """Seconds for people: `4 s`, `2 min 05 s`, `1 h 03 min`."""
    total = int(rounded(max(0.0, seconds), 0))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def size(count: float | None) -> str:
    """Bytes with a decimal unit: `5.37 GB`."""
    if count is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{trimmed(count)} {unit}"
        count /= 1000
    return f"{trimmed(count)} TB"


def _counted(count: int | None) -> str:
    return MISSING if count is None else f"{count:,}"


FILTERS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "quantity": quantity,
        "fixed": fixed,
        "whole": whole,
        "percent": percent,
        "ratio": ratio,
        "interval": interval,
        "grouped": _counted,
        "size": size,
    }
)
"""What the templates of Markdown and of the page call numbers by."""
