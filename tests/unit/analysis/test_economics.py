"""What a gain in throughput is worth, and that every printed figure follows from the ones above it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.economics import economics, gain_at_reuse, rounded
from pytest_mooncake.plan.models import EconomicsPlan

SPEC = EconomicsPlan(servers=10, server_cost_per_month=50_000, currency="CNY", investment=200_000)
RATIO = 7.4 / 2.5

plans = st.builds(
    EconomicsPlan,
    servers=st.integers(1, 5000),
    server_cost_per_month=st.floats(1, 1e6).map(lambda v: round(v, 2)),
    investment=st.floats(0, 1e7).map(lambda v: round(v, 2)),
    storage_cost_per_month=st.floats(0, 1e5).map(lambda v: round(v, 2)),
)


def test_the_figures_of_the_original_report_come_out() -> None:
    case = economics(SPEC, RATIO, None).headline

    assert (case.servers_after, case.servers_after_rounded_up) == (3.4, 4)
    assert case.savings_share == pytest.approx(0.66)
    assert (case.cost_before, case.cost_after, case.monthly_savings) == (500_000, 170_000, 330_000)
    assert (case.annual_savings, case.annual_net) == (3_960_000, 3_760_000)
    assert (case.payback_months, case.payback_days) == (0.6, 18)


def test_report_json_has_the_contracts_fields_at_the_top() -> None:
    document = economics(SPEC, RATIO, (2.8, 3.1)).to_json()

    assert list(document)[:12] == [
        "servers_before",
        "gain_ratio",
        "servers_after",
        "servers_after_rounded_up",
        "savings_share",
        "cost_before",
        "cost_after",
        "monthly_savings",
        "annual_savings",
        "payback_months",
        "payback_days",
        "annual_net",
    ]
    assert document["servers_before"] == 10


@pytest.mark.parametrize(("reuse", "gain"), [(0.90, 2.47), (0.85, 2.29), (0.80, 2.13), (0.0, 1.0), (1.0, 2.96)])
def test_the_gain_at_a_scenarios_own_reuse_is_time_weighted(reuse: float, gain: float) -> None:
    assert gain_at_reuse(RATIO, reuse) == pytest.approx(gain, abs=0.005)


def test_the_three_scenarios_stand_beside_the_full_hit_figures() -> None:
    scenarios = economics(SPEC, RATIO, (2.8, 3.1)).scenarios

    assert [(s.id, s.case.servers_after) for s in scenarios] == [
        ("kb-qa", 4.0),
        ("customer-chat", 4.4),
        ("code-assistant", 4.7),
    ]
    assert all(
        s.interval and s.interval[0].gain_ratio < s.case.gain_ratio < s.interval[1].gain_ratio for s in scenarios
    )


def test_the_interval_of_the_ratio_is_carried_through_to_servers_and_money() -> None:
    interval = economics(SPEC, RATIO, (2.5, 4.0)).interval

    assert interval is not None
    assert [case.servers_after for case in interval] == [4.0, 2.5]
    assert [case.monthly_savings for case in interval] == [300_000, 375_000]


def test_whole_servers_and_a_spare_are_costed_as_such() -> None:
    result = economics(SPEC, RATIO, None)

    assert (result.whole_servers.servers_after, result.whole_servers.monthly_savings) == (4, 300_000)
    assert (result.with_spare.servers_after, result.with_spare.monthly_savings) == (5, 250_000)


def test_rounding_up_uses_the_exact_count_not_the_printed_one() -> None:
    case = economics(SPEC, 10 / 3.02, None).headline

    assert (case.servers_after, case.servers_after_rounded_up) == (3.0, 4)


def test_an_exact_number_of_servers_is_not_rounded_up_by_float_noise() -> None:
    assert economics(SPEC, 10 / 3, None).headline.servers_after_rounded_up == 3


def test_running_storage_costs_lowers_the_savings() -> None:
    plan = SPEC.model_copy(update={"storage_cost_per_month": 30_000.0})

    case = economics(plan, RATIO, None).headline

    assert (case.cost_after, case.monthly_savings) == (200_000, 300_000)


def test_a_slower_system_saves_nothing_and_never_pays_back() -> None:
    case = economics(SPEC, 0.8, None).headline

    assert case.servers_after == 12.5
    assert case.monthly_savings == -125_000
    assert (case.payback_months, case.payback_days) == (None, None)
    assert case.annual_net == -1_700_000


def test_a_payback_below_a_tenth_of_a_month_still_counts_days() -> None:
    plan = SPEC.model_copy(update={"investment": 11_000.0})

    case = economics(plan, RATIO, None).headline

    assert (case.payback_months, case.payback_days) == (0.0, 1)


def test_a_measured_engine_without_cache_carries_the_case() -> None:
    result = economics(SPEC, RATIO, None, without_cache=(2.0, (1.9, 2.1)))

    assert result.basis == "without_cache"
    assert result.headline.servers_after == 5.0
    assert economics(SPEC, RATIO, None).basis == "cold"


def test_documents_that_fit_the_store_are_counted_whole() -> None:
    plan = SPEC.model_copy(update={"store_bytes": 100})

    assert economics(plan, RATIO, None, document_bytes=30).documents_in_store == 3
    assert economics(plan, RATIO, None).documents_in_store is None
    assert economics(SPEC, RATIO, None, document_bytes=30).documents_in_store is None


@pytest.mark.parametrize(("ratio", "ci"), [(0.0, None), (-1.0, None), (2.0, (0.0, 3.0))])
def test_a_ratio_that_cannot_be_is_refused(ratio: float, ci: tuple[float, float] | None) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        economics(SPEC, ratio, ci)


def test_the_sensitivity_runs_from_no_reuse_to_all_of_it() -> None:
    steps = economics(SPEC, RATIO, None).sensitivity

    assert [step.reuse for step in steps] == [n / 10 for n in range(11)]
    assert steps[0].case.monthly_savings == 0
    assert steps[-1].case == economics(SPEC, RATIO, None).headline


@given(plans, st.floats(0.05, 200))
def test_every_figure_follows_from_the_ones_above_it(plan: EconomicsPlan, ratio: float) -> None:
    case = economics(plan, ratio, None).headline

    assert case.servers_after == rounded(plan.servers / ratio, 1)
    assert case.cost_after == pytest.approx(
        case.servers_after * plan.server_cost_per_month + plan.storage_cost_per_month, abs=0.006
    )
    assert case.monthly_savings == pytest.approx(case.cost_before - case.cost_after, abs=0.006)
    assert case.annual_savings == pytest.approx(12 * case.monthly_savings, abs=0.006)
    assert case.annual_net == pytest.approx(case.annual_savings - plan.investment, abs=0.006)
    assert (case.payback_months is None) == (case.monthly_savings <= 0)


@given(plans, st.floats(1.0, 100), st.floats(1.0, 100))
def test_more_throughput_never_needs_more_servers(plan: EconomicsPlan, one: float, other: float) -> None:
    less, more = sorted((one, other))

    assert economics(plan, more, None).headline.servers_after <= economics(plan, less, None).headline.servers_after


@given(st.floats(-1e9, 1e9), st.integers(0, 4))
def test_rounding_stays_within_half_a_unit(value: float, places: int) -> None:
    assert math.isclose(rounded(value, places), value, abs_tol=0.5000001 * 10**-places, rel_tol=1e-12)


@pytest.mark.parametrize(("value", "places", "expected"), [(0.05, 1, 0.1), (2.5, 0, 3), (-2.5, 0, -3), (3.378, 1, 3.4)])
def test_halves_are_rounded_away_from_zero(value: float, places: int, expected: float) -> None:
    assert rounded(value, places) == expected
