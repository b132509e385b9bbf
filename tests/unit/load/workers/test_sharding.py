"""Dividing slots and merging results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.load.spec import RoundResult
from pytest_mooncake.load.workers.sharding import merge, slots_of
from pytest_mooncake.records import ClientHealth, Kind, Phase, RequestRecord


def result(**fields: Any) -> RoundResult:
    values: dict[str, Any] = {"started_ns": 10, "ended_ns": 20, "health": ClientHealth(), **fields}
    return RoundResult(**values)


def record(index: int, sent_ns: int | None, last_ns: int | None, ready_ns: int = 0) -> RequestRecord:
    return RequestRecord(
        round=0,
        kind=Kind.COLD,
        phase=Phase.CHAIN,
        index=index,
        prompt_tokens_planned=1,
        output_tokens_planned=1,
        intended_ns=0,
        ready_ns=ready_ns,
        sent_ns=sent_ns,
        last_token_ns=last_ns,
    )


@given(st.integers(min_value=1, max_value=1000), st.integers(min_value=1, max_value=64))
def test_all_slots_are_given_out_evenly(total: int, workers: int) -> None:
    slots = [slots_of(total, workers=workers, worker=worker) or 0 for worker in range(workers)]
    assert sum(slots) == total
    assert max(slots) - min(slots) <= 1


def test_without_a_limit_nobody_has_one() -> None:
    assert slots_of(None, workers=3, worker=0) is None


def test_delays_and_times_are_computed_anew_and_the_worst_worker_counts_for_the_rest() -> None:
    parts = [
        result(
            health=ClientHealth(loop_lag_p99_ms=2.0, cpu_s=1.0, cpu_peak_share=0.2, chunks=3),
            tainted=(4,),
            connections_opened=1,
        ),
        result(health=ClientHealth(loop_lag_p99_ms=5.0, cpu_s=2.0, chunks=4), tainted=(1,), stamping="read"),
    ]
    merged = merge(parts, [record(0, 3_000_000, 7), record(1, 5_000_000, 9_000_000), record(2, None, None)])
    assert (merged.started_ns, merged.ended_ns) == (3_000_000, 9_000_000)
    assert merged.health.send_delay_mean_ms == pytest.approx(4.0)
    assert merged.health.send_delay_max_ms == merged.health.send_delay_p99_ms == 5.0
    assert (merged.health.loop_lag_p99_ms, merged.health.loop_lag_p50_ms) == (5.0, None)
    assert (merged.health.cpu_s, merged.health.cpu_peak_share, merged.health.chunks) == (3.0, 0.2, 7)
    assert merged.tainted == (1, 4)
    assert merged.stamping == "read"
    assert merged.connections_opened == 1


def test_a_round_without_records_has_the_times_of_the_attempt() -> None:
    merged = merge([result(started_ns=5, ended_ns=6), result(started_ns=4, ended_ns=9)], [])
    assert (merged.started_ns, merged.ended_ns) == (4, 9)
    assert merged.health.send_delay_mean_ms is None
    assert merged.stamping == "arrival"


@pytest.mark.parametrize(("cuts", "cut_short"), [(("a", "b"), "a"), (("a", None), None), ((None, None), None)])
def test_a_round_goes_on_while_one_worker_does(cuts: tuple[str | None, ...], cut_short: str | None) -> None:
    assert merge([result(cut_short=cut) for cut in cuts], []).cut_short == cut_short
