"""Targets as people write them: "down >= 60 %", ">= 2.5x", "within +-10 %", "stable", "<= 450 ms".

Read once, into numbers; the grammar is documented in `docs/reference/targets.md`. English or Chinese, with the
mathematical signs (≥ ≤ × ± −) or their ASCII spellings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pytest_mooncake.plan.targets.metrics import NamedMetric

__all__ = ["DEFAULT_MARGIN", "Direction", "ParsedTarget", "parse_target"]

Direction = Literal["lower", "higher", "equivalent"]
DEFAULT_MARGIN = 0.10
"""What "stable" allows unless the file says otherwise."""
FORMS = "'down >= 60 %', 'up >= 150 %', '>= 2.5x', 'within +-10 %', 'stable', or an absolute one like '<= 450 {unit}'"

_SIGNS = str.maketrans(
    {"≥": ">=", "≤": "<=", "×": "x", "−": "-", "–": "-", "±": "+-", "％": "%", "（": "(", "）": ")", "，": ","}
)
_UNITS: dict[str, dict[str, float]] = {
    "ms": {"ms": 1.0, "s": 1e3, "us": 1e-3},
    "s": {"s": 1.0, "ms": 1e-3, "min": 60.0},
    "req/s": {"req/s": 1.0, "requests/s": 1.0, "rps": 1.0, "req/min": 1 / 60},
    "tokens/s": {"tokens/s": 1.0, "token/s": 1.0, "tok/s": 1.0},
    "": {"%": 0.01, "": 1.0},
}
"""Units a metric may be given in, by the unit it is kept in, and the factor to it."""

_NUMBER = r"(?P<number>\d+(?:\.\d+)?)"
_DOWN = re.compile(
    rf"(?:(?:down|lower|reduced|falls?|cut|降低|下降|减少)(?: by)?(?: at least| >=|>=)?|-) ?{_NUMBER} ?%"
)
_UP = re.compile(rf"(?:(?:up|higher|rises?|提升|提高|增加)(?: by)?(?: at least| >=|>=)?|\+) ?{_NUMBER} ?%")
_SIGN = r"(?P<sign>>=|<=|at least|at most|不低于|不高于)"
_FACTOR = re.compile(rf"{_SIGN} ?(?:x ?{_NUMBER}|{_NUMBER.replace('number', 'factor')} ?x)")
_WITHIN = re.compile(rf"(?:within|equivalent within|变化不超过)? ?(?:\+-|\+/-)? ?{_NUMBER} ?%")
_STABLE = re.compile(rf"(?:stable|稳定|保持稳定)(?:,? ?(?:within |margin |\+-)*{_NUMBER} ?%)?")
_NOT_WORSE = re.compile(rf"(?:not worse than|no worse than|不差于) ?[+-]?{_NUMBER} ?%")
_ABSOLUTE = re.compile(rf"{_SIGN} ?{_NUMBER} ?(?P<unit>[a-z/%]*?)(?: ?(?:in )?(?P<rounds>cold|warm)(?: rounds?)?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTarget:
    """A target as numbers: a ratio warm/cold with the good side, or a bound in the metric's own unit."""

    direction: Direction
    stated: str
    ratio: float | None = None
    bound: float | None = None
    rounds: Literal["cold", "warm"] = "warm"


def parse_target(text: str, metric: NamedMetric, margin: float | None = None) -> ParsedTarget:
    """Read one target.

    Args:
        text: e.g. "down >= 60 %".
        metric: what it is about: its unit and which side is better.
        margin: what "stable" allows, as a share; `None`: 10 %.

    Returns:
        Direction and ratio, or direction and bound.

    Raises:
        ValueError: one line: what cannot be read, and how to write it.

    >>> from pytest_mooncake.plan.targets.metrics import NAMED
    >>> parse_target("down >= 60 %", NAMED["ttft_mean"]).ratio
    0.4
    >>> parse_target("<= 2 s", NAMED["ttft_p90"]).bound
    2000.0
    """
    cleaned = " ".join(text.translate(_SIGNS).lower().split())
    for found in _read(cleaned, metric, margin):
        if margin is not None and not _is_stable(cleaned):
            raise ValueError(f"{text!r} has no margin; the key 'margin' belongs to 'stable'")
        return _fitting(found, text, metric)
    raise ValueError(f"{text!r} is no target; write {FORMS.format(unit=metric.unit or '%').replace('  ', ' ')}")


def _read(text: str, metric: NamedMetric, margin: float | None) -> Iterator[ParsedTarget]:
    readers: tuple[Callable[[str, NamedMetric, float | None], ParsedTarget | None], ...] = (
        _change, _factor, _stable, _equivalent, _absolute,
    )  # fmt: skip
    yield from (found for read in readers if (found := read(text, metric, margin)))


def _change(text: str, _metric: NamedMetric, _margin: float | None) -> ParsedTarget | None:
    down, up = _DOWN.fullmatch(text), _UP.fullmatch(text)
    if down:
        share = _percent(down)
        if share >= 1:
            raise ValueError(f"nothing falls by {share * 100:g} %; 'down >= 60 %' is a ratio of 0.4")
        return ParsedTarget(direction="lower", ratio=_tidy(1 - share), stated=f"-{_plain(share * 100)} %")
    if up:
        share = _percent(up)
        return ParsedTarget(direction="higher", ratio=_tidy(1 + share), stated=f"+{_plain(share * 100)} %")
    return None


def _factor(text: str, _metric: NamedMetric, _margin: float | None) -> ParsedTarget | None:
    found = _FACTOR.fullmatch(text)
    if not found:
        return None
    ratio = float(found["number"] or found["factor"])
    if ratio <= 0:
        raise ValueError("a ratio must be above 0")
    higher = _is_least(found["sign"])
    return ParsedTarget(
        direction="higher" if higher else "lower", ratio=ratio, stated=f"{'≥' if higher else '≤'} ×{_plain(ratio)}"
    )


def _stable(text: str, metric: NamedMetric, margin: float | None) -> ParsedTarget | None:
    """One-sided: not worse than the margin, on the side on which this metric gets worse."""
    found = _is_stable(text)
    if not found:
        return None
    allowed = _percent(found) if found["number"] else DEFAULT_MARGIN if margin is None else margin
    if margin is not None and found["number"] and margin != allowed:
        raise ValueError(f"{text!r} names a margin and the key 'margin' another one; give it once")
    stated = "stable" if found.re is _STABLE else f"≤ {_plain(allowed * 100)} % worse"
    if metric.better == "lower":
        return ParsedTarget(direction="lower", ratio=_tidy(1 + allowed), stated=stated)
    if allowed >= 1:
        raise ValueError(f"{text!r}: a margin of 100 % or more allows everything")
    return ParsedTarget(direction="higher", ratio=_tidy(1 - allowed), stated=stated)


def _is_stable(text: str) -> re.Match[str] | None:
    return _STABLE.fullmatch(text) or _NOT_WORSE.fullmatch(text)


def _equivalent(text: str, _metric: NamedMetric, _margin: float | None) -> ParsedTarget | None:
    """Two-sided: between 1/(1 + margin) and 1 + margin."""
    found = _WITHIN.fullmatch(text)
    if not found or not text.startswith(("within", "equivalent", "+-", "+/-", "变化")):
        return None
    share = _percent(found)
    if share <= 0:
        raise ValueError(f"{text!r}: a margin must be above 0")
    return ParsedTarget(direction="equivalent", ratio=_tidy(1 + share), stated=f"±{_plain(share * 100)} %")


def _absolute(text: str, metric: NamedMetric, _margin: float | None) -> ParsedTarget | None:
    found = _ABSOLUTE.fullmatch(text)
    if not found:
        return None
    units = _UNITS[metric.unit]
    if found["unit"] == "%" and not metric.is_share:
        word = "down" if metric.better == "lower" else "up"
        raise ValueError(f"{text!r}: {metric.name} is no share; a change is written '{word} >= {found['number']} %'")
    if found["unit"] not in units:
        known = ", ".join(unit for unit in units if unit)
        seen = f"{found['unit']!r} does not fit" if found["unit"] else "no unit is given"
        raise ValueError(f"{text!r}: {seen} for {metric.name}; write one of: {known}")
    bound, rounds = float(found["number"]) * units[found["unit"]], found["rounds"] or "warm"
    if metric.is_share and bound > 1:
        raise ValueError(f"{text!r}: a share lies between 0 and 100 %")
    least = _is_least(found["sign"])
    unit = found["unit"] or ""
    where = " (cold)" if rounds == "cold" else ""
    return ParsedTarget(
        direction="higher" if least else "lower",
        bound=_tidy(bound),
        rounds="cold" if rounds == "cold" else "warm",
        stated=f"{'≥' if least else '≤'} {found['number']}{' ' if unit else ''}{unit}{where}",
    )


def _fitting(found: ParsedTarget, text: str, metric: NamedMetric) -> ParsedTarget:
    """Refuse a target that asks a metric to get worse: more likely a slip than a wish.

    A cold round may be asked for any level, and "not worse than" lies on the bad side by its nature.
    """
    beyond = found.ratio is None or (found.ratio - 1) * (1 if found.direction == "higher" else -1) > 0
    if found.direction in ("equivalent", metric.better) or found.rounds == "cold" or not beyond:
        return found
    worse = "higher" if metric.better == "lower" else "lower"
    raise ValueError(f"{text!r} asks {metric.name} to be {worse}, which is worse; it is better when {metric.better}")


def _is_least(sign: str) -> bool:
    return sign in (">=", "at least", "不低于")


def _percent(found: re.Match[str]) -> float:
    return float(found["number"]) / 100


def _tidy(value: float) -> float:
    """Without the dust of binary fractions: 1 - 0.6 is 0.4."""
    return float(f"{value:.12g}")


def _plain(value: float) -> str:
    return f"{value:.12g}"
