"""The client's view of itself: lag, CPU, delays, saturation, taint."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.load.health import HealthSampler, peak_share, rank_percentile, send_delay_ns, tainted_requests
from pytest_mooncake.load.spec import LagSample
from pytest_mooncake.records import Kind, Phase, RequestRecord

MS = 1_000_000
S = 1_000_000_000


def record(index: int = 0, **fields: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "round": 0,
        "kind": Kind.COLD,
        "phase": Phase.CHAIN,
        "prompt_tokens_planned": 1,
        "output_tokens_planned": 1,
        "intended_ns": 0,
        **fields,
    }
    return RequestRecord(index=index, **values)


@given(st.lists(st.integers(), min_size=1), st.floats(min_value=0, max_value=1))
def test_a_rank_percentile_is_a_value_with_that_share_at_or_below(values: list[int], share: float) -> None:
    found = rank_percentile(values, share)
    assert found in values
    assert found is not None
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_no_values_have_no_percentile() -> None:
    assert rank_percentile([], 0.5) is None


def test_the_peak_is_that_of_the_busiest_second() -> None:
    at = [second * S // 10 for second in range(41)]
    cpu = list(itertools.accumulate([0] + [10 * MS] * 10 + [90 * MS] * 10 + [20 * MS] * 20))
    assert peak_share(at, cpu) == pytest.approx(0.9)


@given(st.lists(st.integers(min_value=0, max_value=100 * MS), min_size=12, max_size=60))
def test_no_second_is_busier_than_the_peak(steps: list[int]) -> None:
    at = [place * 100 * MS for place in range(len(steps) + 1)]
    cpu = [0, *itertools.accumulate(steps)]
    windows = [(cpu[end] - cpu[end - 10]) / S for end in range(10, len(at))]
    assert peak_share(at, cpu) == pytest.approx(max(windows))


def test_a_round_shorter_than_a_second_has_no_peak() -> None:
    assert peak_share([0, S // 2], [0, S // 2]) is None
    assert peak_share([], []) is None


def test_the_send_delay_counts_from_the_slot_or_from_the_schedule() -> None:
    assert send_delay_ns(record(intended_ns=5, sent_ns=9)) == 4
    assert send_delay_ns(record(intended_ns=5, ready_ns=7, sent_ns=9)) == 2
    assert send_delay_ns(record()) is None


def test_a_request_is_tainted_when_a_token_came_while_the_loop_lagged() -> None:
    lags = (LagSample(at_ns=100, lag_ns=20), LagSample(at_ns=300, lag_ns=50))
    records = [
        record(4, chunk_ns=(50, 90)),
        record(1, chunk_ns=(79, 101, 249, 301)),
        record(2, chunk_ns=(400,)),
        record(3, chunk_ns=(250,)),
        record(5),
    ]
    assert tainted_requests(records, lags) == (3, 4)
    assert tainted_requests(records, ()) == ()


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=12),
    st.lists(st.integers(0, 100), max_size=20).map(sorted),
)
def test_it_is_tainted_by_every_window_and_by_nothing_else(steps: list[tuple[int, int]], chunk_ns: list[int]) -> None:
    lags, at = [], 0
    for lag, quiet in steps:
        at += lag + quiet + 1
        lags.append(LagSample(at_ns=at, lag_ns=lag))
    touched = any(one.at_ns - one.lag_ns <= chunk <= one.at_ns for one in lags for chunk in chunk_ns)
    assert tainted_requests([record(7, chunk_ns=tuple(chunk_ns))], lags) == ((7,) if touched else ())


async def test_a_blocked_loop_is_seen_with_its_length_and_its_cpu() -> None:
    now = Clock()
    sampler = HealthSampler(clock=now, cpu_clock=lambda: now.at_ns // 2)
    await run_ticks(sampler, now, [10 * MS] * 10 + [60 * MS] + [10 * MS] * 200)
    (lag,) = sampler.lags()
    assert lag.lag_ns == 50 * MS
    health = sampler.health([record(sent_ns=4 * MS, ready_ns=1 * MS, chunk_ns=(1, 2)), record(1)])
    assert health.loop_lag_max_ms == 50
    assert health.loop_lag_p50_ms == 0
    assert health.send_delay_mean_ms == health.send_delay_max_ms == health.send_delay_p99_ms == 3
    assert health.cpu_peak_share == pytest.approx(0.5)
    assert health.cpu_s == pytest.approx((210 * 10 + 60) / 1000 / 2)
    assert health.chunks == 2


async def test_a_round_without_requests_measured_nothing() -> None:
    health = HealthSampler().health([])
    assert health.send_delay_mean_ms is None
    assert health.loop_lag_max_ms is None
    assert health.cpu_s is None


async def test_the_sampler_runs_by_itself_until_it_is_stopped() -> None:
    sampler = HealthSampler()
    sampler.start()
    await asyncio.sleep(0.1)
    sampler.stop()
    health = sampler.health([])
    assert health.loop_lag_p50_ms is not None
    assert health.cpu_s is not None
    assert health.cpu_s >= 0
    sampler.stop()


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at_ns = 0

    def __call__(self) -> int:
        return self.at_ns


async def run_ticks(sampler: HealthSampler, clock: Clock, steps_ns: list[int]) -> None:
    """Let the sampler's timer come back after each of `steps_ns`, without waiting."""
    loop = asyncio.get_running_loop()
    waiting: list[Callable[[], object]] = []

    class Handle:
        def cancel(self) -> None:
            waiting.clear()

    def call_later(_delay: float, callback: Callable[..., object], *arguments: object) -> Handle:
        waiting.append(lambda: callback(*arguments))
        return Handle()

    original = loop.call_later
    loop.call_later = call_later  # type: ignore[assignment, method-assign]
    try:
        sampler.start()
        for step in steps_ns:
            clock.at_ns += step
            waiting.pop()()
        sampler.stop()
    finally:
        loop.call_later = original  # type: ignore[method-assign]
