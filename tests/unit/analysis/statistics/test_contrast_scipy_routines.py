"""Every scipy routine that a figure or a verdict rests on, against a route that does not go through scipy."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import pytest_mooncake

PACKAGE = Path(pytest_mooncake.__file__).parent
CHECKED = {"betaincinv", "chdtri", "gammaincinv", "ndtr", "ndtri", "stdtr", "stdtrit"}

shares = st.floats(0.001, 0.999)
points = st.floats(-30, 30)


def test_no_routine_is_used_that_is_not_checked_here() -> None:
    used: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for found in re.findall(
            r"^\s*from scipy\.special import (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            used |= set(re.split(r",\s*", found))
        assert not re.search(r"from scipy import|import scipy", path.read_text(encoding="utf-8")), path
    assert used == CHECKED


def density_of_t(df: float, t: float) -> float:
    log = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(log - (df + 1) / 2 * math.log1p(t * t / df))


def integral_of_t(df: float, t: float, steps: int = 4000) -> float:
    """Student's distribution function by Simpson's rule from zero."""
    width = t / steps
    ends = density_of_t(df, 0) + density_of_t(df, t)
    inner = math.fsum((4 if step % 2 else 2) * density_of_t(df, step * width) for step in range(1, steps))
    return 0.5 + width / 3 * (ends + inner)


@given(points)
def test_students_t_with_one_and_two_degrees_of_freedom_is_its_closed_form(t: float) -> None:
    # near 0 scipy itself is off by 1.1e-9
    assert special.stdtr(1, t) == pytest.approx(0.5 + math.atan(t) / math.pi, rel=5e-9)
    assert special.stdtr(2, t) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), rel=1e-9)


@pytest.mark.parametrize("df", [1.5, 3.7, 4, 18, 250.25])
@pytest.mark.parametrize("t", [-4.0, -1.0, 0.3, 2.5])
def test_students_t_with_any_degrees_of_freedom_is_the_integral_of_its_density(df: float, t: float) -> None:
    assert special.stdtr(df, t) == pytest.approx(integral_of_t(df, t), abs=1e-8)


@given(shares)
def test_students_quantile_with_one_and_two_degrees_of_freedom_is_its_closed_form(p: float) -> None:
    assert special.stdtrit(1, p) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-7, abs=1e-9)
    two = (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    assert special.stdtrit(2, p) == pytest.approx(two, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("df", [1.5, 3.7, 18])
@pytest.mark.parametrize("p", [0.006, 0.2, 0.975])
def test_students_quantile_goes_back_through_the_integral(df: float, p: float) -> None:
    assert integral_of_t(df, float(special.stdtrit(df, p))) == pytest.approx(p, abs=1e-7)


@given(points)
def test_the_normal_distribution_is_that_of_the_error_function(x: float) -> None:
    assert special.ndtr(x) == pytest.approx(math.erfc(-x / math.sqrt(2)) / 2, rel=1e-9)


@given(shares)
def test_the_normal_quantile_is_that_of_the_standard_library(p: float) -> None:
    assert special.ndtri(p) == pytest.approx(NormalDist().inv_cdf(p), rel=1e-9, abs=1e-12)


def binomial(k: int, n: int, p: float) -> float:
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@given(st.integers(1, 60), shares, st.data())
def test_the_beta_quantile_is_the_share_at_which_the_binomial_sum_takes_a_value(
    n: int, p: float, data: st.DataObject
) -> None:
    a = data.draw(st.integers(1, n))
    share = float(special.betaincinv(a, n + 1 - a, p))
    assert 1 - binomial(a - 1, n, share) == pytest.approx(p, abs=1e-7)


def poisson(k: int, mean: float) -> float:
    return math.fsum(math.exp(-mean + i * math.log(mean) - math.lgamma(i + 1)) for i in range(k + 1))


@given(st.integers(1, 40), shares)
def test_the_gamma_and_chi_square_quantiles_are_the_means_at_which_a_poisson_sum_takes_a_value(
    k: int, p: float
) -> None:
    mean = float(special.gammaincinv(k, p))
    assert 1 - poisson(k - 1, mean) == pytest.approx(p, abs=1e-7)
    assert poisson(k - 1, float(special.chdtri(2 * k, p)) / 2) == pytest.approx(p, abs=1e-7)


@pytest.mark.parametrize("df", [1, 3, 5.5])
def test_the_chi_square_quantile_of_other_degrees_of_freedom_falls_with_the_share(df: float) -> None:
    found = [float(special.chdtri(df, p)) for p in (0.05, 0.3, 0.9)]
    assert all(later < sooner for sooner, later in pairwise(found))
    normal = NormalDist().inv_cdf(1 - 0.05 / 2)
    assert special.chdtri(1, 0.05) == pytest.approx(normal**2, rel=1e-9), "the square of a normal variable"
