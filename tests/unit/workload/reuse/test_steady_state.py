"""A store smaller than the working set: what it must serve at least, against a store played key by key."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import TraceSpec, WorkloadPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.workload.build import layout_of
from pytest_mooncake.workload.layouts.layout import Layout
from pytest_mooncake.workload.reuse.chunk_index import chunk_index
from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse
from pytest_mooncake.workload.reuse.steady_state import LEAST_SHARE, UNKNOWN_AT_ONCE, at_once, steady_state

ROOT = Path(__file__).parents[4]
TRACES = ROOT / "tests" / "data" / "traces"
WATERMARK_SHARE = 0.90
EVICTED_SHARE = 0.05
ENOUGH_SHARE = 0.99
"""Of what is asked: `warm_hit_share` of the targets."""


def scenario(name: str) -> Layout:
    return layout_of(load(ROOT / "fixtures" / "workloads" / f"{name}.yaml", WorkloadPlan, name=name))


def trace(name: str) -> Layout:
    part = TraceSpec(path=str(TRACES / f"{name}.jsonl.gz"), start_s=600, duration_s=60)
    return layout_of(WorkloadPlan(name=name, kind="trace", trace=part))


def rows_of(layout: Layout) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(len(layout))]
    for part in chunk_index(layout, 256).accesses():
        for request, chunk in zip(part.request.tolist(), part.chunk.tolist(), strict=True):
            rows[request].append(chunk)
    return rows


def mooncake_hits(rows: list[list[int]], capacity: int) -> list[int]:
    """Hits of two rounds in a store that refreshes what it hands out and evicts in batches above its watermark."""
    keys: OrderedDict[int, None] = OrderedDict()
    hits = [0, 0]
    for one in range(2):
        for row in rows:
            found = next((place for place, key in enumerate(row) if key not in keys), len(row))
            hits[one] += found
            for key in row[:found]:
                keys.move_to_end(key)
            for key in row[found:]:  # putting what exists is refused and refreshes nothing
                if key not in keys:
                    if len(keys) + 1 > WATERMARK_SHARE * capacity:
                        for _ in range(max(1, int(len(keys) * EVICTED_SHARE))):
                            keys.popitem(last=False)
                    keys[key] = None
    return hits


@pytest.mark.parametrize(
    "layout",
    [
        *(pytest.param(scenario(name), id=name) for name in ("kb-qa", "customer-chat", "code-assistant", "mixed")),
        *(pytest.param(trace(name), id=name) for name in ("conversation_trace", "synthetic_trace")),
    ],
)
@pytest.mark.parametrize("share", [1 / 8, 1 / 4, 1 / 2, 3 / 4, 9 / 10])
def test_a_store_that_evicts_in_batches_serves_what_is_asked_and_never_more_than_all(
    layout: Layout, share: float
) -> None:
    planned = planned_reuse(layout).sums(in_order=True)
    capacity = int(share * planned.distinct_chunks)
    cold, warm = mooncake_hits(rows_of(layout), capacity)
    steady = steady_state(planned, layout, capacity, in_flight=1)
    assert ENOUGH_SHARE * steady.least[0] <= cold <= planned.cold_chunks
    assert ENOUGH_SHARE * steady.least[1] <= warm <= planned.chunks
    assert steady.least_chunks == int(LEAST_SHARE * capacity)


def documents(count: int) -> Layout:
    return layout_of(WorkloadPlan(name="w", requests=count, prompt_tokens=1024))


def test_requests_at_once_lower_what_is_asked_by_the_chunks_that_they_may_be_out_of_order_by() -> None:
    layout = scenario("kb-qa")
    planned = planned_reuse(layout).sums(in_order=False)
    one, four = (steady_state(planned, layout, 288, in_flight=n) for n in (1, 4))
    longest = int(layout.prompt_tokens.max()) // 256
    assert one.least_chunks - four.least_chunks == 3 * longest
    assert four.least[1] <= one.least[1]
    assert one.lru == four.lru
    assert steady_state(planned, layout, 288, in_flight=10_000).least == (0, 0)


def test_a_scan_through_more_documents_than_fit_is_asked_for_nothing() -> None:
    layout = documents(10)
    steady = steady_state(planned_reuse(layout).sums(in_order=True), layout, 39, in_flight=1)
    assert steady.lru == steady.least == (0, 0)
    assert "an exact LRU of its size serves 0.0% of a warm round" in steady.sentence()


def test_a_store_that_holds_everything_is_no_steady_state() -> None:
    layout = documents(10)
    with pytest.raises(UsageError, match=r"holds 40 chunks, a round works on 40.*smaller store.segment_bytes"):
        steady_state(planned_reuse(layout).sums(in_order=True), layout, 40, in_flight=1)


def test_the_sums_carry_what_is_asked_into_the_record() -> None:
    layout = scenario("kb-qa")
    planned = planned_reuse(layout).sums(in_order=True)
    steady = steady_state(planned, layout, 288, in_flight=1)
    sums = steady.sums()
    assert (sums.steady_cold_chunks, sums.steady_warm_chunks) == steady.least
    assert (sums.steady_store_chunks, sums.chunks) == (288, planned.chunks)
    assert planned.steady_store_chunks is None
    told = steady.sentence()
    assert "holds 288 of the 384 chunks" in told
    assert f"{steady.lru[1] / planned.chunks:.1%} of a warm round" in told


def test_engines_that_are_started_here_limit_what_is_worked_on_at_once(tmp_path: Path) -> None:
    assert at_once(resolve(Options(concurrency="3"), tmp_path)) == 3
    assert at_once(resolve(Options(concurrency="30"), tmp_path)) == 8
    assert at_once(resolve(Options(rate="5"), tmp_path)) == 8
    attached = resolve(Options(url=("http://127.0.0.1:1",), rate="5"), tmp_path)
    assert at_once(attached) == UNKNOWN_AT_ONCE
