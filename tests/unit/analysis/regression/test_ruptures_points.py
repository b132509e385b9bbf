"""The second opinion on shifts: ruptures finds what is there, nothing in noise, and says when it is missing."""

from __future__ import annotations

import builtins
import random
from typing import Any

import pytest

from pytest_mooncake.analysis.regression.ruptures_points import Method, points_by, ruptures_points
from pytest_mooncake.errors import MissingPartError


def series(*levels: tuple[float, int], sigma: float = 0.01, seed: int = 1) -> tuple[list[float], list[str]]:
    """`count` runs at each level, with noise on the log scale."""
    rng = random.Random(seed)
    values = [level * 2.718281828 ** rng.gauss(0, sigma) for level, count in levels for _ in range(count)]
    return values, [f"v{number}" for number in range(len(values))]


def test_all_shifts_are_found_at_once_each_with_its_release_and_size() -> None:
    first, second = ruptures_points(*series((100, 15), (120, 8), (90, 9)))
    assert (first.release, second.release) == ("v15", "v23")
    assert first.ratio == pytest.approx(1.2, rel=0.02)
    assert second.ratio == pytest.approx(0.75, rel=0.02)
    assert (first.runs_before, first.runs_after, second.runs_after) == (15, 8, 9)
    assert (first.t, first.bound) == (None, None), "found without a test"
    assert first.words.startswith("+2")


def test_both_ways_agree_on_one_clear_shift() -> None:
    data = series((100, 20), (115, 6))
    (ours,), (theirs,) = (points_by(method, *data) for method in Method)
    assert ours.release == theirs.release == "v20"
    assert ours.ratio == pytest.approx(theirs.ratio)


@pytest.mark.parametrize("values", [[], [1.0, 2.0, 3.0], [5.0] * 30])
def test_too_few_runs_and_a_constant_level_hold_no_shift(values: list[float]) -> None:
    assert ruptures_points(values, [str(n) for n in range(len(values))]) == ()


def test_what_cannot_be_on_a_log_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ruptures_points([1.0, 0.0, 2.0, 3.0], list("abcd"))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "ruptures":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPartError, match=r"pip install 'pytest-mooncake\[changepoints\]'"):
        ruptures_points([1.0] * 5, list("abcde"))
