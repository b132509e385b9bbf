"""Percentiles over tokens: chunks that carry several tokens stand several times, whichever way they are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.figures.summary import QUANTILES, _at_ranks, _at_weights, rank_of

GAPS = st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40)


@given(GAPS, st.integers(1, 5), st.integers(0, 30))
def test_equal_weights_give_what_any_weights_give(gaps: list[float], weight: int, lost: int) -> None:
    values, weights = np.array(gaps), np.full(len(gaps), weight)
    ranks = [rank_of(q, weight * len(gaps) + lost) for q in QUANTILES]
    assert _at_ranks(values, [rank // weight for rank in ranks]) == _at_weights(values, weights, np.array(ranks))


@given(st.lists(st.tuples(st.floats(0.1, 1e4), st.integers(1, 4)), min_size=1, max_size=30), st.integers(0, 30))
def test_a_weight_stands_for_so_many_equal_values(pairs: list[tuple[float, int]], lost: int) -> None:
    values, weights = (np.array(part) for part in zip(*pairs, strict=True))
    repeated = sorted(value for value, weight in pairs for _ in range(weight))
    ranks = [rank_of(q, len(repeated) + lost) for q in QUANTILES]
    expected = [repeated[rank] if rank < len(repeated) else None for rank in ranks]
    assert _at_weights(values, weights, np.array(ranks)) == pytest.approx(expected)
