"""Sizes and ways to wait, as people write them in options."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.parsing import quantities
from pytest_mooncake.plan.parsing.quantities import parse_bytes, parse_settle
from pytest_mooncake.plan.resolve import resolve


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20GB", 20 * 10**9),
        ("20gb", 20 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("512M", 512 * 10**6),
        ("161_000_000_000", 161 * 10**9),
        ("4,096", 4096),
        ("2TiB", 2**41),
    ],
)
def test_sizes_are_read_with_decimal_and_binary_units(text: str, size: int) -> None:
    assert parse_bytes("--x", text) == size


@given(st.integers(min_value=1, max_value=10**15))
def test_a_plain_number_is_bytes(size: int) -> None:
    assert parse_bytes("--x", str(size)) == parse_bytes("--x", f"{size}B") == size


@pytest.mark.parametrize("text", ["", "0", "-5GB", "much", "20 GBit", "GB", "0.0001"])
def test_a_size_that_cannot_be_meant_is_refused_with_the_flag_and_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"--x .*expected a size like 20GB"):
        parse_bytes("--x", text)


def test_the_settle_option_is_read() -> None:
    assert parse_settle("counters") is None
    assert parse_settle("fixed:0.5") == 0.5


@pytest.mark.parametrize("text", ["fixed", "fixed:", "fixed:0", "fixed:-1", "fixed:nan", "fixed:601", "sleep:5", ""])
def test_a_settle_option_that_cannot_be_meant_is_refused_with_what_may_be(text: str) -> None:
    with pytest.raises(UsageError, match="expected counters, or fixed:SECONDS"):
        parse_settle(text)


def test_how_a_run_treats_the_store_stands_in_its_plan(tmp_path: Path) -> None:
    plan = resolve(Options(settle="fixed:5", store_budget="20GB", allow_clear="2"), tmp_path)
    assert (plan.settle_fixed_s, plan.store_budget_bytes, plan.allow_clear) == (5.0, 20 * 10**9, "everything")
    plain = resolve(Options(), tmp_path)
    assert (plain.settle_fixed_s, plain.store_budget_bytes, plain.allow_clear) == (None, None, "none")


def test_clearing_is_allowed_once_or_twice(tmp_path: Path) -> None:
    assert resolve(Options(allow_clear="1"), tmp_path).allow_clear == "own"
    with pytest.raises(UsageError, match="--mooncake-allow-clear was given 3 times"):
        resolve(Options(allow_clear="3"), tmp_path)


def test_the_examples_in_the_docstrings_are_true() -> None:
    results = doctest.testmod(quantities)
    assert results.attempted > 0
    assert results.failed == 0
