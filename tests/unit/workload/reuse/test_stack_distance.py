from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mooncake.workload.layouts.layout import Layout, Segments
from pytest_mooncake.workload.layouts.segment_tree import as_tree
from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse
from pytest_mooncake.workload.reuse.stack_distance import size_curve
from tests.support.brute_force_reuse import lru_hits

PATHS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=15)
SEGMENT = 30


def layout(paths: list[list[int]]) -> Layout:
    starts = np.cumsum([0, *map(len, paths)])
    path, old = as_tree(starts, np.array([name for p in paths for name in p], dtype=np.int32), 5)
    return Layout(
        starts=starts,
        path=path,
        segments=Segments(tokens=np.full(len(old), SEGMENT, dtype=np.int32), stream=old),
        prompt_tokens=np.array([SEGMENT * len(p) for p in paths], dtype=np.int32),
        output_tokens=np.ones(len(paths), dtype=np.int32),
    )


def keys(path: list[int], chunk_tokens: int) -> list[tuple[int, ...]]:
    """Chunks as the names of all segments up to their end, with the end: equal prefixes, equal keys."""
    ends = range(chunk_tokens, SEGMENT * len(path) + 1, chunk_tokens)
    return [(end, *path[: -(-end // SEGMENT)]) for end in ends]


@settings(max_examples=100, deadline=None)
@given(paths=PATHS, chunk_tokens=st.integers(10, 70))
def test_hits_at_every_size_equal_those_of_a_simulated_lru_cache(paths: list[list[int]], chunk_tokens: int) -> None:
    curve = size_curve(layout(paths), chunk_tokens)
    prompts = [keys(path, chunk_tokens) for path in paths]
    assert curve.accesses == sum(map(len, prompts))
    assert curve.distinct == len({key for prompt in prompts for key in prompt})
    for size in range(1, curve.distinct + 3):
        assert curve.hits(size) == sum(lru_hits(prompts, size))
    warm = size_curve(layout(paths), chunk_tokens, warm=True)
    assert (warm.accesses, warm.distinct) == (curve.accesses, curve.distinct)
    for size in range(1, curve.distinct + 3):
        assert warm.hits(size) == sum(lru_hits(prompts * 2, size)[len(prompts) :])


@given(paths=PATHS)
def test_a_cache_of_the_working_set_serves_what_an_unbounded_one_does(paths: list[list[int]]) -> None:
    made = layout(paths)
    curve = size_curve(made, 16)
    assert curve.hits(curve.distinct) == curve.most_hits == int(planned_reuse(made, 16).cold_hits.sum())


@given(paths=PATHS, share=st.floats(0, 1))
def test_the_size_for_a_share_is_the_smallest_that_serves_it(paths: list[list[int]], share: float) -> None:
    curve = size_curve(layout(paths), 16)
    size = curve.chunks_for(share)
    assert curve.hits(size) >= share * curve.most_hits - 1e-6
    assert size == 0 or curve.hits(size - 1) < share * curve.most_hits + 1e-6


def test_a_prompt_longer_than_the_cache_evicts_its_own_beginning() -> None:
    curve = size_curve(layout([[0, 1], [0, 1]]), 30)
    assert [curve.hits(size) for size in (1, 2, 3)] == [0, 2, 2]
    assert curve.hit_ratio(2) == pytest.approx(0.5)


def test_prompts_without_a_whole_chunk_need_no_cache() -> None:
    curve = size_curve(layout([[0], [0]]), 256)
    assert (curve.accesses, curve.distinct, curve.most_hits, curve.hit_ratio(10)) == (0, 0, 0, 0.0)
    assert curve.chunks_for(1.0) == 0
