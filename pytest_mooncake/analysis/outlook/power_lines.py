"""What a run will cost and can tell, before it is started: from earlier runs of the kind, else from assumptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.outlook.forecast import PRIOR_SIGMA, Forecast, forecast
from pytest_mooncake.analysis.outlook.guidance import design_of
from pytest_mooncake.analysis.statistics.power import Assumed

if TYPE_CHECKING:
    from pytest_mooncake.plan.targets.models import Target, TargetsPlan

__all__ = ["BEYOND", "Past", "power_lines"]

BEYOND = 0.15
"""Share by which targets are assumed to be met where nothing is known; the acceptance report's own figures: 17 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Earlier runs on the same stack with the same workload: what they suggest of the claims, how long a trial took."""

    name: str
    """Which runs, as in "if it goes as in …"."""
    assumed: tuple[Assumed, ...]
    df: float
    """Degrees of freedom behind the spreads; 0: nothing is known of them."""
    trial_s: float | None
    feasibility: Mapping[str, Any] | None = None
    """Whether their targets could be met together, as `feasibility_of` says it; `None`: not known."""


def power_lines(targets: TargetsPlan, looks: tuple[int, ...], past: Past | None = None) -> Iterator[tuple[str, str]]:
    """Label and text of what the plan says of power and cost.

    Args:
        targets: of the run.
        looks: its design.
        past: earlier runs of the same kind; `None`: assumptions are made, and said.
    """
    design = design_of(targets, looks)
    known = past.assumed if past is not None and past.df > 0 else ()
    claims = known or tuple(_assumed(one) for one in targets.claims if one.gating and one.ratio is not None)
    if design is None or not claims:
        yield "power", "no gating claim on a ratio is tested, so there is nothing to forecast"
        return
    if past is not None and known:
        seen = forecast(design, claims, df=past.df, trial_s=past.trial_s)
        yield "power", f"if it goes as in {past.name}: {_sentence(seen)}"
    else:
        seen = forecast(design, claims)
        low, high = (percent(sigma, 1) for sigma in PRIOR_SIGMA)
        assumed = f"rounds vary by {low} to {high}, targets are met by {percent(BEYOND)}, what is to stay stable stays"
        yield "assumes", f"{assumed} (nothing is known of this stack and workload yet)"
        yield "power", _sentence(seen)
    yield "resolves", f"{_resolved(seen)} in 80 % of runs, at the noisy end of that"
    yield "minutes", _minutes(seen)
    if past is not None and past.feasibility is not None:
        yield "feasible" if past.feasibility["feasible"] else "WARNING", str(past.feasibility["text"])


def _assumed(target: Target) -> Assumed:
    """A claim whose target is met by `BEYOND`, or of a metric that does not change where it is to stay stable."""
    asked = target.ratio or 1.0
    factor = 1 + BEYOND if target.direction == "higher" else 1 / (1 + BEYOND)
    gains = asked > 1 if target.direction == "higher" else asked < 1
    stays = target.direction == "equivalent" or not gains
    low, _ = PRIOR_SIGMA
    return Assumed(
        id=target.claim_id,
        ratio=1.0 if stays else asked * factor,
        target_ratio=asked,
        direction=target.direction,
        sigma_w=low,
        sigma_c=low,
    )


def _sentence(seen: Forecast) -> str:
    low, high = seen.trials
    chance = " to ".join(percent(share) for share in seen.passes)
    after = f"{low}" if low == high else f"{low} to {high}"
    return f"a verdict after {after} trials; PASS in {chance} of such runs, {seen.binding} binds"


def _resolved(seen: Forecast) -> str:
    return ", ".join(f"{name} ×{ratio:.3g}" for name, ratio in seen.least_effects.items())


def _minutes(seen: Forecast) -> str:
    if seen.minutes is None:
        return "not known before the first trial: then every look says how long it will still take"
    low, high = seen.minutes
    return f"{low:.0f} to {high:.0f}, and the round that is left out"
