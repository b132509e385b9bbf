"""Thresholds in k6's words: `warm.ttft: ["avg<=0.4*cold", "p(99)<2s"]`.

A threshold holds a figure of the run itself against a number, or against the same figure of the other rounds. Nothing
is tested: claims (`plan.targets.models`) decide whether a gain is real, thresholds whether a figure may be seen at all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import model_validator

from pytest_mooncake.plan.base import Model

__all__ = ["METRICS", "Asked", "Threshold", "parse_expression", "thresholds_of"]

Rounds = Literal["cold", "warm"]
Sign = Literal["<", "<=", ">", ">=", "=="]
Aggregate = Literal["avg", "min", "med", "max", "p", "value", "rate", "count"]

_TIME = {"ms": 1.0, "": 1.0, "s": 1e3, "us": 1e-3}
_SHARE = {"%": 0.01, "": 1.0}
_TRENDS = ("avg", "min", "med", "max", "p")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metric:
    """Which aggregates a metric has, and the factor of every unit to the one it is kept in (the first)."""

    aggregates: tuple[str, ...]
    units: Mapping[str, float]


METRICS: Mapping[str, _Metric] = {
    **{name: _Metric(aggregates=_TRENDS, units=_TIME) for name in ("ttft", "tpot", "itl", "e2e")},
    "request_throughput": _Metric(aggregates=("value",), units={"req/s": 1.0, "": 1.0, "rps": 1.0}),
    "output_token_throughput": _Metric(aggregates=("value",), units={"tokens/s": 1.0, "": 1.0}),
    "makespan": _Metric(aggregates=("value",), units={"s": 1.0, "": 1.0, "ms": 1e-3, "min": 60.0}),
    "failed": _Metric(aggregates=("rate", "count"), units=_SHARE),
    "cached_share": _Metric(aggregates=("rate",), units=_SHARE),
}
"""What a threshold may speak of, after `cold.` or `warm.`."""

_NUMBER = r"\d+(?:\.\d+)?"
_EXPRESSION = re.compile(
    rf"(?P<aggregate>[a-z]+)(?:\((?P<quantile>{_NUMBER})\))?(?P<sign><=|>=|===|==|<|>)(?P<value>.+)"
)
_ABSOLUTE = re.compile(rf"(?P<number>{_NUMBER})(?P<unit>[a-z/%]*)")
_RELATIVE = re.compile(rf"(?:(?P<factor>{_NUMBER})\*)?(?P<rounds>cold|warm)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A threshold as numbers. With `of`, `value` is a factor of the same figure of those rounds; else a bound.

    Times are ms (the makespan s), shares 0-1, percentiles 0-100.
    """

    aggregate: Aggregate
    quantile: float | None
    sign: Sign
    value: float
    of: Rounds | None


class Threshold(Model):
    """One threshold of one metric, as it was written."""

    metric: str
    """`warm.ttft`: the rounds and the metric."""
    threshold: str
    """`avg<=0.4*cold`."""
    abort_on_fail: bool = False
    """Whether the run ends at the first trial that crosses it."""
    optional: bool = False
    """Whether crossing it is only reported."""

    @property
    def claim_id(self) -> str:
        """What it is called in reports, as it was written."""
        return f"{self.metric}: {self.threshold}"

    @property
    def rounds(self) -> Rounds:
        """The rounds whose figure it speaks of."""
        return "cold" if self.metric.startswith("cold.") else "warm"

    @property
    def name(self) -> str:
        """The metric without its rounds."""
        return self.metric.partition(".")[2]

    @property
    def unit(self) -> str:
        """The unit its metric is kept in; none for a share or a count."""
        unit = next(iter(METRICS[self.name].units))
        return "" if unit == "%" else unit

    @property
    def asked(self) -> Asked:
        """The threshold as numbers."""
        return parse_expression(self.metric, self.threshold)

    @model_validator(mode="after")
    def _can_be_read(self) -> Threshold:
        parse_expression(self.metric, self.threshold)
        return self


def thresholds_of(written: object) -> object:
    """The key `thresholds` of a targets file as one entry a threshold; what has another form is left to be refused.

    Raises:
        ValueError: the key, or the value of one of its metrics, is none of the forms.
    """
    if not isinstance(written, Mapping):
        return written
    entries: list[dict[str, Any]] = []
    for metric, value in written.items():
        several = value if isinstance(value, list) else [value]
        entries.extend(_entry(str(metric), one) for one in several)
    return entries


def _entry(metric: str, one: object) -> dict[str, Any]:
    if isinstance(one, str):
        return {"metric": metric, "threshold": one}
    if isinstance(one, Mapping) and set(one) <= {"threshold", "abort_on_fail", "optional"} and "threshold" in one:
        return {"metric": metric, **one}
    raise ValueError(
        f"{metric}: {one!r} is no threshold; write 'p(99)<2s', or threshold: p(99)<2s with abort_on_fail or optional"
    )


def parse_expression(metric: str, text: str) -> Asked:
    """Read one threshold.

    Args:
        metric: e.g. "warm.ttft".
        text: e.g. "avg<=0.4*cold", "p(99) < 2s", "rate<1%".

    Raises:
        ValueError: one line: the metric, the aggregate or the value that is not known here, and what is.

    >>> parse_expression("warm.ttft", "p(99)<2s").value
    2000.0
    >>> parse_expression("warm.ttft", "avg<=0.4*cold").of
    'cold'
    """
    rounds, _, name = metric.partition(".")
    if rounds not in ("cold", "warm") or name not in METRICS:
        raise ValueError(f"no metric is called {metric!r}; {_nearest(metric)}")
    found = _EXPRESSION.fullmatch("".join(text.lower().translate(_SIGNS).split()))
    if not found:
        raise ValueError(f"{metric}: {text!r} is no threshold; write 'avg<=0.4*cold' or 'p(99)<2s'")
    aggregate, quantile = _aggregate(metric, name, found, text)
    value, of = _value(metric, name, aggregate, found["value"], text)
    if of == rounds:
        raise ValueError(f"{metric}: {text!r} holds {rounds} rounds against themselves; name the other rounds")
    sign = found["sign"].replace("===", "==")
    return Asked(aggregate=aggregate, quantile=quantile, sign=sign, value=value, of=of)  # type: ignore[arg-type]


_SIGNS = str.maketrans({"≤": "<=", "≥": ">=", "×": "*"})


def _nearest(metric: str) -> str:
    known = [f"{rounds}.{name}" for rounds in ("warm", "cold") for name in METRICS]
    near = difflib.get_close_matches(metric, known, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: warm. or cold. with {', '.join(METRICS)}"


def _aggregate(metric: str, name: str, found: re.Match[str], text: str) -> tuple[str, float | None]:
    aggregate, known = found["aggregate"], METRICS[name].aggregates
    if aggregate not in known:
        shown = ", ".join("p(N)" if one == "p" else one for one in known)
        raise ValueError(f"{metric}: {text!r}: {aggregate!r} does not fit; known: {shown}")
    if (aggregate == "p") != (found["quantile"] is not None):
        raise ValueError(f"{metric}: {text!r}: a percentile is written p(99), nothing else has parentheses")
    quantile = None if found["quantile"] is None else float(found["quantile"])
    if quantile is not None and not 0 < quantile <= 100:
        raise ValueError(f"{metric}: {text!r}: a percentile lies above 0 and at most at 100")
    return aggregate, quantile


def _value(metric: str, name: str, aggregate: str, value: str, text: str) -> tuple[float, Rounds | None]:
    relative, absolute = _RELATIVE.fullmatch(value), _ABSOLUTE.fullmatch(value)
    if relative:
        of: Rounds = "cold" if relative["rounds"] == "cold" else "warm"
        return float(relative["factor"] or 1), of
    units = {"": 1.0} if aggregate == "count" else METRICS[name].units
    if absolute is None or absolute["unit"] not in units:
        shown = ", ".join(unit or "none" for unit in units)
        raise ValueError(f"{metric}: {text!r}: {value!r} is no value; write a number (units: {shown}) or 0.4*cold")
    return float(absolute["number"]) * units[absolute["unit"]], None
