"""What a gain in throughput is worth: servers, money, payback; at full reuse, a scenario's own, and in whole servers.

Rounding rule: the server count is rounded to one decimal *first* and all money follows from the rounded count, so
that everybody can recompute every printed figure from the ones above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_UP, Decimal

from pytest_mooncake.plan.models import EconomicsPlan, ReuseScenario

__all__ = ["Case", "Economics", "ReuseCase", "economics", "gain_at_reuse", "rounded"]

Interval = tuple[float, float]

MONTHS_PER_YEAR = 12
DAYS_PER_MONTH = 30
SENSITIVITY_STEPS = 10


def rounded(value: float, places: int) -> float:
    """Round half away from zero, as people do it on paper and as the reports print it.

    >>> rounded(0.25, 1), rounded(-2.5, 0)
    (0.3, -3.0)
    """
    if not abs(value) < 2**53:
        return value  # a float of this size has no fraction, and `Decimal` not the digits
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def gain_at_reuse(throughput_ratio: float, reuse: float) -> float:
    """Time-weighted gain when only a share `reuse` (0-1) of the requests is served at `throughput_ratio`.

    The harmonic mean of Amdahl's law: 1 / ((1 - reuse) + reuse / ratio).

    >>> [round(gain_at_reuse(2.96, reuse), 2) for reuse in (0.90, 0.85, 0.80)]
    [2.47, 2.29, 2.13]
    """
    return 1.0 / ((1.0 - reuse) + reuse / throughput_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One business case. Money in the plan's currency; `payback_*` is `None` when nothing is saved."""

    gain_ratio: float
    servers_after: float
    servers_after_rounded_up: int
    savings_share: float
    cost_before: float
    cost_after: float
    monthly_savings: float
    annual_savings: float
    payback_months: float | None
    payback_days: int | None
    annual_net: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseCase:
    """A business case at one share of reuse; `interval` is the case at the lower and at the upper end."""

    id: str
    title: str
    reuse: float
    case: Case
    interval: tuple[Case, Case] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Economics:
    """The business case of a run with everything finance asks for beside it.

    `basis` says what the gain was measured against: cold rounds with the connector (`cold`: they pay for storing
    their KV, which flatters the gain) or an engine without one (`without_cache`).
    """

    currency: str
    example: bool
    basis: str
    servers_before: float
    server_cost_per_month: float
    storage_cost_per_month: float
    investment: float
    throughput_ratio: float
    headline: Case
    interval: tuple[Case, Case] | None
    whole_servers: Case
    with_spare: Case
    spare_servers: int
    scenarios: tuple[ReuseCase, ...]
    sensitivity: tuple[ReuseCase, ...]
    store_bytes: int | None
    documents_in_store: int | None

    def to_json(self) -> dict[str, object]:
        """The `economics` object of report.json: the headline's fields at the top, the rest beside them."""
        own = asdict(self)
        return {"servers_before": own.pop("servers_before"), **own.pop("headline"), **own}


def economics(
    plan: EconomicsPlan,
    throughput_ratio: float,
    ci: Interval | None,
    *,
    without_cache: tuple[float, Interval | None] | None = None,
    document_bytes: int | None = None,
) -> Economics:
    """Compute the business case of a throughput that changed by `throughput_ratio` (warm/cold, above 0).

    Args:
        plan: costs.
        throughput_ratio: warm over cold throughput (or goodput), dimensionless.
        ci: its interval (low, high), `None` when there is none.
        without_cache: both against an engine without a connector, where that was measured; they then carry the case.
        document_bytes: KV bytes of one document, for the number of documents that fit the store.

    Raises:
        ValueError: a ratio is not above 0.
    """
    ratio, interval = _checked(*(without_cache or (throughput_ratio, ci)))
    return Economics(
        currency=plan.currency,
        example=plan.example,
        basis="without_cache" if without_cache else "cold",
        servers_before=plan.servers,
        server_cost_per_month=plan.server_cost_per_month,
        storage_cost_per_month=plan.storage_cost_per_month,
        investment=plan.investment,
        throughput_ratio=ratio,
        headline=_case(plan, ratio),
        interval=_at_both_ends(interval, lambda end: _case(plan, end)),
        whole_servers=_in_whole_servers(plan, ratio),
        with_spare=_in_whole_servers(plan, ratio, spare=plan.spare_servers),
        spare_servers=plan.spare_servers,
        scenarios=tuple(_at_reuse(plan, scenario, ratio, interval) for scenario in plan.scenarios),
        sensitivity=tuple(_at_reuse(plan, step, ratio, interval) for step in _STEPS),
        store_bytes=plan.store_bytes,
        documents_in_store=plan.store_bytes // document_bytes if plan.store_bytes and document_bytes else None,
    )


_STEPS = tuple(
    ReuseScenario(id=f"{step}0", title="", reuse=step / SENSITIVITY_STEPS) for step in range(SENSITIVITY_STEPS + 1)
)


def _in_whole_servers(plan: EconomicsPlan, ratio: float, *, spare: int = 0) -> Case:
    needed = _case(plan, ratio).servers_after_rounded_up
    return _case(plan, ratio, servers_after=float(needed + spare))


def _checked(ratio: float, interval: Interval | None) -> tuple[float, Interval | None]:
    if ratio <= 0 or (interval and interval[0] <= 0):
        raise ValueError(f"throughput ratio {ratio} with interval {interval}: must be above 0")
    return ratio, interval


def _at_both_ends(interval: Interval | None, case: Callable[[float], Case]) -> tuple[Case, Case] | None:
    return (case(interval[0]), case(interval[1])) if interval else None


def _at_reuse(plan: EconomicsPlan, scenario: ReuseScenario, ratio: float, interval: Interval | None) -> ReuseCase:
    return ReuseCase(
        id=scenario.id,
        title=scenario.title,
        reuse=scenario.reuse,
        case=_case(plan, gain_at_reuse(ratio, scenario.reuse)),
        interval=_at_both_ends(interval, lambda end: _case(plan, gain_at_reuse(end, scenario.reuse))),
    )


def _case(plan: EconomicsPlan, gain: float, *, servers_after: float | None = None) -> Case:
    exact = plan.servers / gain
    after = rounded(exact, 1) if servers_after is None else servers_after
    before = plan.servers * plan.server_cost_per_month
    cost_after = rounded(after * plan.server_cost_per_month + plan.storage_cost_per_month, 2)
    monthly = rounded(before - cost_after, 2)
    months, days = _payback(plan.investment, monthly)
    annual = rounded(monthly * MONTHS_PER_YEAR, 2)
    return Case(
        gain_ratio=gain,
        servers_after=after,
        servers_after_rounded_up=math.ceil(exact - 1e-9) if servers_after is None else math.ceil(after),
        savings_share=rounded(1.0 - after / plan.servers, 4),
        cost_before=before,
        cost_after=cost_after,
        monthly_savings=monthly,
        annual_savings=annual,
        payback_months=months,
        payback_days=days,
        annual_net=rounded(annual - plan.investment, 2),
    )


def _payback(investment: float, monthly_savings: float) -> tuple[float | None, int | None]:
    """Months (one decimal) and days; the days follow from the printed months, unless those print as 0."""
    if monthly_savings <= 0:
        return None, None
    exact = investment / monthly_savings
    months = rounded(exact, 1)
    return months, int(rounded((months or exact) * DAYS_PER_MONTH, 0))
