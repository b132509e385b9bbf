from __future__ import annotations

import itertools
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.plan.models import Lengths
from pytest_mooncake.workload.layouts.sampling import apportion, even, lengths, popularity, take_turns


@pytest.mark.parametrize("shape", ["fixed", "uniform", "lognormal"])
@pytest.mark.parametrize("count", [30, 3000])
def test_lengths_have_the_mean_and_spread_asked_for_at_any_number(shape: str, count: int) -> None:
    drawn = lengths(Lengths.model_validate({"shape": shape, "spread": 0.3}), 10_000, count, random.Random(1))
    assert statistics.fmean(drawn) == pytest.approx(10_000, rel=0.01)
    spread = statistics.pstdev(drawn) / statistics.fmean(drawn)
    assert spread == pytest.approx(0.0 if shape == "fixed" else 0.3, abs=0.02)


@given(seed=st.integers(0, 100), spread=st.floats(0, 2), scale=st.floats(0.1, 3), count=st.integers(1, 50))
def test_lengths_stay_within_their_bounds(seed: int, spread: float, scale: float, count: int) -> None:
    shape = Lengths(shape="lognormal", spread=spread, scale=scale, least=0.5, most=2.0)
    drawn = lengths(shape, 1000, count, random.Random(seed))
    assert len(drawn) == count
    assert 500 * scale - 1 <= min(drawn) <= max(drawn) <= 2000 * scale + 1


def test_only_the_order_of_lengths_depends_on_chance() -> None:
    shape = Lengths(shape="uniform", spread=0.5)
    first, second = (lengths(shape, 1000, 20, random.Random(seed)) for seed in (1, 2))
    assert first != second
    assert sorted(first) == sorted(second)


@given(documents=st.integers(1, 40), zipf=st.floats(0, 3), count=st.integers(0, 300))
def test_popularity_adds_up_and_falls_with_rank(documents: int, zipf: float, count: int) -> None:
    asked = popularity(documents, zipf, count)
    assert sum(asked) == count
    assert all(a >= b for a, b in itertools.pairwise(asked))


def test_zipf_zero_is_uniform_and_one_halves_the_second() -> None:
    assert popularity(4, 0.0, 20) == [5, 5, 5, 5]
    assert popularity(2, 1.0, 30) == [20, 10]


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=10), count=st.integers(0, 1000))
def test_shares_are_within_one_of_exact_proportion(weights: list[float], count: int) -> None:
    shares = apportion(weights, count)
    assert sum(shares) == count
    assert all(
        abs(share - weight * count / sum(weights)) < 1.000001 for share, weight in zip(shares, weights, strict=True)
    )


def test_even_points_fill_the_interval_at_every_length() -> None:
    for count in (10, 57, 300):
        points = sorted(even(i) for i in range(count))
        assert max(b - a for a, b in zip([0.0, *points], [*points, 1.0], strict=True)) < 3 / count


@given(turns=st.lists(st.integers(1, 6), max_size=20), live=st.integers(1, 8))
def test_every_turn_comes_once_in_its_order_and_never_more_sessions_than_allowed_at_a_time(
    turns: list[int], live: int
) -> None:
    order = take_turns(turns, live)
    assert sorted(order) == [(session, turn) for session, count in enumerate(turns) for turn in range(count)]
    for session, count in enumerate(turns):
        assert [turn for s, turn in order if s == session] == list(range(count))
    first = {session: order.index((session, 0)) for session in range(len(turns))}
    last = {session: order.index((session, count - 1)) for session, count in enumerate(turns)}
    assert list(first) == sorted(first, key=lambda session: first[session])
    for place in range(len(order)):
        assert sum(first[s] <= place <= last[s] for s in first) <= live + 1
