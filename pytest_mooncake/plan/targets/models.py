"""What a run is asked to show: claims with their targets, read from a targets file and frozen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, ValidationInfo, field_validator, model_validator

from pytest_mooncake.plan.base import Model
from pytest_mooncake.plan.targets.grammar import Direction, ParsedTarget, parse_target
from pytest_mooncake.plan.targets.metrics import NAMED, nearest_names
from pytest_mooncake.plan.targets.slo import Limit, parse_goodput
from pytest_mooncake.plan.targets.thresholds import Threshold, thresholds_of

__all__ = ["Target", "TargetsPlan"]

Share = Annotated[float, Field(gt=0, lt=1)]
_NUMBERS = ("direction", "ratio", "bound", "rounds")
NOT_STATED = "-"


class Target(Model):
    """One claim: a metric of the warm rounds against the cold ones, or against a bound in its own unit.

    `target` is how people write it (`plan.targets.grammar`); the numbers follow from it, or are given instead:
    `direction` says which side of `ratio` (warm/cold) or of `bound` is good. TTFT down >= 60 % is `lower 0.40`;
    throughput up >= 150 % is `higher 2.5`; "TPOT stable" is `lower 1.10` (not worse than +10 %). Without ratio and
    bound the metric is reported and nothing is asked of it.
    """

    metric: str
    title: str = ""
    margin: Share | None = None
    """What "stable" allows, as a share; 10 % unless given."""
    target: str | None = None
    direction: Direction = "lower"
    ratio: PositiveFloat | None = None
    bound: PositiveFloat | None = None
    rounds: Literal["cold", "warm"] = "warm"
    """The rounds that a `bound` speaks of."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """1 - the largest rate of false PASS of this claim; the file's unless given."""
    gating: bool = True
    stated: str = NOT_STATED
    """The target in the words of whoever set it: "-60 %", "+150 %", "stable"."""

    @property
    def claim_id(self) -> str:
        """What the claim is called in reports: the metric, with the rounds where a bound is asked."""
        return self.metric if self.bound is None else f"{self.metric}_{self.rounds}"

    @property
    def is_asked(self) -> bool:
        """Whether anything is asked of the metric at all."""
        return self.ratio is not None or self.bound is not None

    @model_validator(mode="before")
    @classmethod
    def _numbers_of_target(cls, data: Any) -> Any:
        """Fill in what follows from metric and target; what cannot be read is left for the fields to refuse."""
        if not isinstance(data, dict) or data.get("metric") not in NAMED:
            return data
        metric = NAMED[data["metric"]]
        filled = {"direction": metric.better, **data}
        parsed = _parsed(data)
        if parsed is not None:
            numbers = {name: getattr(parsed, name) for name in _NUMBERS}
            filled = {**filled, **{key: data.get(key) or value for key, value in numbers.items()}}
            filled["stated"] = data.get("stated") or parsed.stated
        filled["title"] = data.get("title") or _title(metric.title, filled)
        return filled

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, name: str) -> str:
        if name not in NAMED:
            raise ValueError(f"no metric is called {name!r}; {nearest_names(name)}")
        return name

    @field_validator("target")
    @classmethod
    def _target_can_be_read(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None and "metric" in info.data and "margin" in info.data:
            parse_target(text, NAMED[info.data["metric"]], info.data["margin"])
        return text

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Target:
        if self.ratio is not None and self.bound is not None:
            raise ValueError("a ratio and a bound were given; a claim asks one thing, write two claims")
        if self.target is not None:
            self._agree_with_target(parse_target(self.target, NAMED[self.metric], self.margin))
        if self.margin is not None and self.target is None:
            raise ValueError("the key 'margin' belongs to a target like 'stable'")
        if self.gating and not self.is_asked:
            raise ValueError("nothing is asked of it; give a target, or gating: false to have it reported only")
        if self.metric == "stall_share" and self.ratio is not None:
            raise ValueError("a share of stalled requests has no ratio; write a bound like '<= 5 %'")
        return self

    def _agree_with_target(self, parsed: ParsedTarget) -> None:
        for name in _NUMBERS:
            said, given = getattr(parsed, name), getattr(self, name)
            if said != given:
                raise ValueError(f"target {self.target!r} means {name} {said}, and {name} {given} was given: drop one")


def _parsed(data: dict[str, Any]) -> ParsedTarget | None:
    text, margin = data.get("target"), data.get("margin")
    if not isinstance(text, str) or not isinstance(margin, float | int | None):
        return None
    try:
        return parse_target(text, NAMED[data["metric"]], margin)
    except ValueError:
        return None


def _title(metric: str, filled: dict[str, Any]) -> str:
    return metric if filled.get("bound") is None else f"{metric} ({filled.get('rounds') or 'warm'})"


class TargetsPlan(Model):
    """All claims of a run."""

    name: str
    description: str = ""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """1 - the largest rate of false PASS per claim."""
    warm_hit_share: Annotated[float, Field(gt=0, le=1)] = 0.99
    goodput: tuple[Limit, ...] = ()
    """The service level by which goodput counts; as text: "ttft_p90_ms<=500,tpot_mean_ms<=20"."""
    claims: tuple[Target, ...]
    thresholds: tuple[Threshold, ...] = ()
    """Figures that must not be crossed, in k6's words; in the file one list a metric."""

    @field_validator("thresholds", mode="before")
    @classmethod
    def _thresholds_by_metric(cls, value: Any) -> Any:
        return thresholds_of(value)

    @field_validator("goodput", mode="before")
    @classmethod
    def _goodput_as_text(cls, value: Any) -> Any:
        return parse_goodput(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _claims_fit_together(self) -> TargetsPlan:
        names = [claim.claim_id for claim in self.claims]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"{twice} is claimed twice; keep one of them")
        limits = [one.claim_id for one in self.thresholds]
        twice = next((limit for limit in limits if limits.count(limit) > 1), None)
        if twice:
            raise ValueError(f"the threshold {twice!r} is given twice; keep one of them")
        if "goodput" in {claim.metric for claim in self.claims} and not self.goodput:
            raise ValueError(
                "a claim on goodput needs its service level: add a line like goodput: ttft_p90_ms<=500,tpot_mean_ms<=20"
            )
        return self

    def confidence_of(self, target: Target) -> float:
        """1 - the largest rate of false PASS of one claim."""
        return target.confidence or self.confidence

    def with_goodput(self, limits: tuple[Limit, ...]) -> TargetsPlan:
        """The same targets with another service level; goodput is reported where nothing is asked of it."""
        claims = self.claims
        if not any(claim.metric == "goodput" for claim in claims):
            claims = (*claims, Target(metric="goodput", gating=False))
        return TargetsPlan.model_validate({**self.model_dump(), "goodput": limits, "claims": claims})
