"""Numbers as text, the same on every machine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mooncake.report.text import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.00"),
        (0.004, "0.004"),
        (0.043, "0.043"),
        (0.1, "0.10"),
        (0.5, "0.50"),
        (1.0, "1.0"),
        (2.5, "2.5"),
        (2.534, "2.53"),
        (14.5, "14.5"),
        (15.0, "15.0"),
        (99.96, "100.0"),
        (320.0, "320"),
        (1200.4, "1200"),
        (-12.34, "-12.3"),
        (5.7344e15, "5.73e15"),
    ],
)
def test_a_figure_has_as_many_digits_as_it_is_worth(value: float | None, text: str) -> None:
    assert numbers.quantity(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (-66.67, "-67%"), (196.0, "+196%"), (-3.3, "-3%"), (0.4, "+0.4%"), (-0.04, "0%"), (0.0, "0%")],
)
def test_a_change_is_signed_and_never_minus_zero(value: float | None, text: str) -> None:
    assert numbers.signed_percent(value) == text


@pytest.mark.parametrize(
    ("amount", "currency", "lang", "text"),
    [
        (500_000, "CNY", "zh", "50 万元"),
        (3_960_000, "CNY", "zh", "396 万元"),
        (123_456_789, "CNY", "zh", "12345.68 万元"),
        (330_000, "USD", "zh", "33 万 USD"),
        (330_000, "CNY", "en", "CNY 330,000 (33 wan)"),
        (1234.5, "EUR", "en", "EUR 1,234.50"),
        (-125_000, "CNY", "zh", "-12.5 万元"),
    ],
)
def test_money_is_printed_in_the_readers_unit(amount: float, currency: str, lang: str, text: str) -> None:
    assert numbers.money(amount, currency, lang) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (-3, "0 s"), (59.4, "59 s"), (125, "2 min 05 s"), (3780, "1 h 03 min")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0 B"), (999, "999 B"), (5_368_709_120, "5.37 GB"), (2e15, "2000 TB")]
)
def test_sizes_use_decimal_units(count: float | None, text: str) -> None:
    assert numbers.size(count) == text


def test_ratios_and_intervals_have_three_digits_below_one() -> None:
    assert numbers.ratio(1 / 3) == "×0.333"
    assert numbers.ratio(2.96) == "×2.96"
    assert numbers.interval((0.31, 2.5)) == "[0.310, 2.50]"
    assert (numbers.ratio(None), numbers.interval(None), numbers.percent(None), numbers.whole(None)) == ("-",) * 4


def test_a_count_has_a_decimal_only_where_it_is_not_whole() -> None:
    assert numbers.whole(10.0) == "10"
    assert numbers.whole(2.5) == "2.5"


@given(st.floats(-1e7, 1e7))
def test_the_printed_figure_is_close_to_the_value(value: float) -> None:
    assert float(numbers.quantity(value)) == pytest.approx(value, rel=0.06, abs=0.0006)


@settings(deadline=None)  # an example is quick; a machine that does something else meanwhile is not
@given(st.floats(-1e9, 1e9), st.integers(0, 3))
def test_trimmed_numbers_have_no_trailing_zeros_and_no_separators(value: float, places: int) -> None:
    text = numbers.trimmed(value, places)

    assert "," not in text
    assert not ("." in text and text.endswith("0"))
    assert float(text) == pytest.approx(value, abs=0.51 * 10**-places)
