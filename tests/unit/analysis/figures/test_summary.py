"""Figures of requests and rounds, against hand arithmetic and against a second, plain implementation."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.figures.columns import columns_of
from pytest_mooncake.analysis.figures.summary import rank_of, request_metrics, spread, summarise
from pytest_mooncake.records import RequestRecord
from tests.support.made_rounds import MS, a_round, request, serial


def test_times_of_a_request_follow_the_definitions() -> None:
    metrics = request_metrics(request(sent_ms=5, ttft_ms=120, tpot_ms=10, tokens=5))

    assert metrics.ttft_ms == 120
    assert metrics.tpot_ms == 10
    assert metrics.e2e_ms == 160
    assert metrics.itl_ms == (10, 10, 10, 10)


def test_tokens_of_the_first_chunk_do_not_count_as_decoded() -> None:
    record = replace(
        request(tokens=2),
        chunk_ns=(100 * MS, 130 * MS),
        chunk_tokens=(3, 2),
        output_tokens=5,
        first_token_ns=100 * MS,
        last_token_ns=130 * MS,
    )
    assert request_metrics(record).tpot_ms == 15


def test_a_gap_is_shared_by_the_tokens_that_ended_it() -> None:
    record = replace(request(tokens=3), chunk_ns=(0, 10 * MS, 40 * MS), chunk_tokens=(1, 1, 3))
    assert request_metrics(record).itl_ms == (10, 10, 10, 10)
    assert request_metrics(record).chunk_gap_ms == (10, 30)


def test_a_chunk_without_a_token_lengthens_the_next_gap() -> None:
    record = replace(request(tokens=3), chunk_ns=(0, 10 * MS, 40 * MS), chunk_tokens=(1, 0, 1))
    assert request_metrics(record).chunk_gap_ms == (40,)


def test_a_request_of_one_token_has_a_ttft_and_no_tpot() -> None:
    metrics = request_metrics(request(tokens=1))
    assert (metrics.ttft_ms, metrics.tpot_ms, metrics.itl_ms) == (100, None, ())


def test_a_request_that_never_answered_has_no_times_rather_than_zeros() -> None:
    metrics = request_metrics(request(error="timed out"))
    assert (metrics.ttft_ms, metrics.tpot_ms, metrics.e2e_ms) == (None, None, None)


def test_throughput_is_successes_over_the_time_from_first_send_to_last_token() -> None:
    summary = summarise([a_round([*serial(100, 10, 4), request(9, error="refused")])])

    assert summary.makespan_s == pytest.approx(0.56, rel=1e-4)
    assert summary.request_throughput == pytest.approx(4 / 0.56, rel=1e-4)
    assert summary.output_token_throughput == pytest.approx(20 / 0.56, rel=1e-4)
    assert (summary.requests, summary.failed) == (5, 1)


def test_makespans_of_pooled_rounds_add_up_however_far_apart_they_lie() -> None:
    first = a_round(serial(100, 10, 4), number=0)
    later = a_round([request(i, sent_ms=1e6 + 140 * i) for i in range(4)], number=2)

    assert summarise([first, later]).makespan_s == pytest.approx(1.12, rel=1e-4)
    assert summarise([first, later]).request_throughput == pytest.approx(
        summarise([first]).request_throughput, rel=1e-4
    )


def test_failures_rank_behind_every_measured_request() -> None:
    nine = [request(i, ttft_ms=100 + i) for i in range(9)]
    summary = summarise([a_round([*nine, request(9, error="refused")])])

    assert summary.ttft_ms.p50 == 104
    assert summary.ttft_ms.p90 == 108
    assert summary.ttft_ms.p99 is None
    assert summary.ttft_ms.mean == 104


def test_tokens_that_a_failed_request_owed_rank_behind_every_gap() -> None:
    summary = summarise([a_round([request(0, tokens=5), request(1, tokens=5, error="refused")])])
    assert (summary.itl_ms.p50, summary.itl_ms.p90) == (10, None)


def test_a_round_in_which_everything_failed_has_no_figures() -> None:
    summary = summarise([a_round([request(0, error="refused")])])

    assert (summary.requests, summary.failed) == (1, 1)
    assert summary.ttft_ms.mean is None
    assert summary.request_throughput is None
    assert summary.makespan_s is None
    assert summary.cached_tokens is None


def test_no_rounds_at_all_are_a_summary_of_nothing() -> None:
    summary = summarise([])
    assert (summary.requests, summary.itl_ms.mean, summary.output_tokens) == (0, None, None)


def test_sums_count_only_what_the_server_reported() -> None:
    silent = replace(request(0), cached_tokens=None)
    summary = summarise([a_round([silent, replace(request(1), cached_tokens=768)])])

    assert summary.cached_tokens == 768
    assert summary.prompt_tokens == 2000


def test_json_holds_the_contracts_fields_and_no_nan() -> None:
    made = summarise([a_round([request(0), request(1, error="refused")])]).to_json()
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert {
        "requests", "failed", "ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "request_throughput",
        "output_token_throughput", "makespan_s", "prompt_tokens", "cached_tokens", "output_tokens",
    } <= made.keys()  # fmt: skip
    assert made["ttft_ms"].keys() == {"mean", "p50", "p90", "p99"}


chunked = st.lists(st.tuples(st.integers(0, 50 * MS), st.integers(0, 4)), max_size=6)


def _recorded(index: int, chunks: list[tuple[int, int]], failed: bool) -> RequestRecord:
    if failed:
        return request(index, error="refused")
    at, times, counts = 7 * MS, [7 * MS], [1]
    for gap, tokens in chunks:
        at += gap
        times.append(at)
        counts.append(tokens)
    return replace(
        request(index),
        chunk_ns=tuple(times),
        chunk_tokens=tuple(counts),
        output_tokens=sum(counts),
        first_token_ns=times[0],
        last_token_ns=times[-1],
    )


@given(st.lists(st.tuples(chunked, st.booleans()), min_size=1, max_size=12))
def test_columns_agree_with_the_requests_one_by_one(shapes: list[tuple[list[tuple[int, int]], bool]]) -> None:
    records = [_recorded(i, chunks, failed) for i, (chunks, failed) in enumerate(shapes)]
    columns = columns_of(iter(records))
    each = [request_metrics(record) for record in records]

    for column, name in ((columns.ttft_ms, "ttft_ms"), (columns.tpot_ms, "tpot_ms"), (columns.e2e_ms, "e2e_ms")):
        plain = [getattr(metrics, name) for metrics in each]
        assert [None if math.isnan(value) else value for value in column.tolist()] == pytest.approx(plain)
    gaps = [
        gap for metrics, record in zip(each, records, strict=True) if not record.error for gap in metrics.chunk_gap_ms
    ]
    assert columns.gap_ms.tolist() == pytest.approx(gaps)

    itl = sorted(v for m, r in zip(each, records, strict=True) if not r.error for v in m.itl_ms or ())
    owed = sum(r.output_tokens_planned - 1 for r in records if r.error)
    pooled = summarise([a_round(records)])
    if itl:
        expected = [itl[rank] if (rank := rank_of(q, len(itl) + owed)) < len(itl) else None for q in (0.5, 0.9, 0.99)]
        assert [pooled.itl_ms.p50, pooled.itl_ms.p90, pooled.itl_ms.p99] == pytest.approx(expected)
        assert pooled.itl_ms.mean == pytest.approx(sum(itl) / len(itl))


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=60), st.integers(0, 20))
def test_percentiles_are_members_of_the_sample_in_order(values: list[float], failures: int) -> None:
    found = spread(np.array(values), failures)
    ranked = sorted(values) + [math.inf] * failures

    for quantile, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        expected = ranked[math.ceil(round(quantile * len(ranked), 6)) - 1]
        assert (math.inf if value is None else value) == expected


def test_a_request_that_is_sent_late_has_a_longer_ttft_for_its_user() -> None:
    late = replace(request(sent_ms=50, ttft_ms=100), intended_ns=20 * MS)
    columns = columns_of([late])
    assert columns.ttft_ms[0] == 100
    assert columns.ttft_user_ms[0] == 130
    assert columns.ttft_vllm_ms[0] == 130, "without slots the other benchmark starts at the intended time too"


def test_waiting_for_a_slot_counts_for_the_user_and_not_for_vllms_benchmark() -> None:
    waited = replace(request(sent_ms=50, ttft_ms=100), intended_ns=20 * MS, ready_ns=45 * MS)
    columns = columns_of([waited])
    assert columns.ttft_user_ms[0] == 130
    assert columns.ttft_vllm_ms[0] == 105


def test_vllms_benchmark_stops_at_a_chunk_that_holds_a_role_and_no_text() -> None:
    chat = replace(request(sent_ms=50, ttft_ms=100), ready_ns=50 * MS, first_role_ns=70 * MS)
    columns = columns_of([chat])
    assert columns.ttft_ms[0] == 100
    assert columns.ttft_vllm_ms[0] == 20


def test_other_ttfts_are_pooled_like_the_headline_and_failures_rank_last() -> None:
    figures = summarise([a_round([request(0), request(1, ttft_ms=200), request(2, error="lost")])])
    assert figures.ttft_user_ms == figures.ttft_vllm_ms == figures.ttft_ms
    assert figures.ttft_user_ms.p99 is None
    assert figures.to_json()["ttft_vllm_ms"]["mean"] == 150
