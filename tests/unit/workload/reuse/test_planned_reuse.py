from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.workload.layouts.layout import Layout, Segments
from pytest_mooncake.workload.layouts.segment_tree import as_tree, is_tree
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.reuse import chunk_index
from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse, segment_hits
from pytest_mooncake.workload.tokens.pools import pool_of_ids
from tests.support.brute_force_reuse import unbounded_hits

PATHS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=12)


def layout(paths: list[list[int]], lengths: list[int], cuts: list[int]) -> Layout:
    """Prompts of named segments of given lengths, each prompt cut by some tokens of its last segment."""
    starts = np.cumsum([0, *map(len, paths)])
    names = np.array([name for path in paths for name in path], dtype=np.int32)
    path, old = as_tree(starts, names, 6)
    tokens = np.array(lengths, dtype=np.int32)[old]
    prompt = [sum(lengths[name] for name in p) - cut % lengths[p[-1]] for p, cut in zip(paths, cuts, strict=False)]
    return Layout(
        starts=starts,
        path=path,
        segments=Segments(tokens=tokens, stream=old),
        prompt_tokens=np.array(prompt, dtype=np.int32),
        output_tokens=np.ones(len(paths), dtype=np.int32),
    )


@settings(max_examples=150, deadline=None)
@given(
    paths=PATHS,
    lengths=st.lists(st.integers(40, 90), min_size=6, max_size=6),
    cuts=st.lists(st.integers(0, 20), min_size=12, max_size=12),
    chunk_tokens=st.integers(8, 60),
)
def test_planned_hits_equal_those_of_a_cache_fed_with_the_very_tokens(
    paths: list[list[int]], lengths: list[int], cuts: list[int], chunk_tokens: int
) -> None:
    made = layout(paths, lengths, cuts)
    work = Workload(WorkloadPlan(name="w"), made, pool_of_ids(range(5000), "test"))
    prompts = [work.prompt("n", i) for i in range(len(made))]
    reuse = planned_reuse(made, chunk_tokens)
    expected = unbounded_hits(prompts, chunk_tokens)  # type: ignore[arg-type]  # token ids, as the pool is of ids
    assert reuse.cold_hits.tolist() == expected
    assert reuse.chunks.tolist() == [len(prompt) // chunk_tokens for prompt in prompts]
    assert reuse.cold_ratio == pytest.approx(sum(expected) / max(1, int(reuse.chunks.sum())))
    assert reuse.distinct_chunks == int(reuse.chunks.sum()) - sum(expected)


@given(paths=PATHS)
def test_renamed_segments_form_a_tree_and_stand_for_the_same_names(paths: list[list[int]]) -> None:
    starts = np.cumsum([0, *map(len, paths)])
    names = np.array([name for path in paths for name in path], dtype=np.int32)
    path, old = as_tree(starts, names, 6)
    assert is_tree(starts, path, len(old))
    assert old[path].tolist() == names.tolist()
    prefixes = {tuple(p[:end]) for p in paths for end in range(1, len(p) + 1)}
    assert len(old) == len(prefixes)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([[0, 1], [0, 2]], True),
        ([[0, 1], [2, 1]], False),
        ([[0, 1], [1]], False),
        ([[0], [0, 0]], False),
        ([[0, 1, 2], [3], [0, 1, 4]], True),
    ],
)
def test_a_segment_behind_two_predecessors_is_no_tree(paths: list[list[int]], expected: bool) -> None:
    starts = np.cumsum([0, *map(len, paths)])
    names = np.array([name for path in paths for name in path], dtype=np.int32)
    assert is_tree(starts, names, 5) is expected


def test_no_requests_are_a_tree_of_nothing() -> None:
    nothing = np.zeros(0, dtype=np.int32)
    path, old = as_tree(np.zeros(1, dtype=np.int64), nothing, 1)
    assert (len(path), len(old)) == (0, 0)
    assert is_tree(np.zeros(1, dtype=np.int64), nothing, 1)


def test_segment_hits_count_cut_segments_whole() -> None:
    made = layout([[0, 1], [0, 1], [0, 2]], [16] * 6, [5, 5, 5])
    assert segment_hits(made).tolist() == [0, 2, 1]


def test_the_figures_do_not_depend_on_how_the_work_is_cut_into_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [[i % 3, (i * 7) % 5, 5][: 1 + i % 3] for i in range(12)]
    made = layout(paths, [30, 17, 64, 20, 51, 16], [0] * 12)
    whole = planned_reuse(made, 16).cold_hits.tolist()
    monkeypatch.setattr(chunk_index, "SLAB", 2)
    assert planned_reuse(made, 16).cold_hits.tolist() == whole
    assert sum(whole) > 0


def test_an_engine_that_finds_everything_still_computes_one_token() -> None:
    made = layout([[0], [0], [0]], [64] * 6, [0, 0, 1])
    reuse = planned_reuse(made, 32)
    assert reuse.cold_cached_tokens == (0, 63, 32)
    assert reuse.warm_cached_tokens == (63, 63, 32)


def test_prompts_without_a_whole_chunk_reuse_nothing() -> None:
    reuse = planned_reuse(layout([[0], [0]], [20] * 6, [0, 0]), 256)
    assert reuse.cold_ratio == 0.0
    assert reuse.warm_cached_tokens == (0, 0)


def test_sums_of_a_round_are_those_of_its_requests_in_the_stores_chunks() -> None:
    plan = WorkloadPlan(name="w", requests=3, prompt_tokens=40, concurrency=1)
    work = Workload(plan, layout([[0, 1], [0, 2], [3]], [32, 16, 16, 40], [0, 0, 0]), pool_of_ids(range(500), "test"))
    planned = work.planned(16)
    assert (planned.requests, planned.chunks, planned.distinct_chunks) == (3, 3 + 3 + 2, 3 + 1 + 2)
    assert (planned.cold_chunks, planned.cold_cached_tokens) == (2, 32)
    assert planned.warm_cached_tokens == 47 + 47 + 32
    assert planned.in_order


def test_where_the_stores_chunks_are_unknown_no_larger_ones_find_more_than_the_sums_say() -> None:
    plan = WorkloadPlan(name="w", requests=2, prompt_tokens=100)
    work = Workload(plan, layout([[0, 1], [0, 2]], [70, 30, 30], [0, 0]), pool_of_ids(range(500), "test"))
    unknown = work.planned(None)
    assert not unknown.in_order
    assert all(work.planned(size).cold_cached_tokens <= unknown.cold_cached_tokens for size in (16, 32, 64, 256))
