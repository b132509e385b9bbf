"""Whole rounds: slots, schedules, connections, what ends a round early, and what its result says."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Sequence

import pytest

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.load.health import send_delay_ns
from pytest_mooncake.load.schedule.arrivals import constant_offsets, gamma_offsets
from pytest_mooncake.plan.models import Timeouts
from pytest_mooncake.records import PlannedRequest, RequestRecord
from tests.support.faulty_server import FaultyServer
from tests.support.measured_rounds import measure, planned, spec_for
from tests.support.replies import Received, Reply, Stream, error, silent

COMPLETIONS = "/v1/completions"


def in_flight(records: Sequence[RequestRecord]) -> int:
    """Most requests that were on their way at one moment."""
    begins = [(record.sent_ns or 0, 1) for record in records]
    ends = [(record.done_ns or 0, -1) for record in records]
    return max(itertools.accumulate(step for _, step in sorted(begins + ends)))


async def test_every_request_is_recorded_once_in_order_of_completion() -> None:
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.01, gap_s=0.002)}) as server:
        records, result = await measure(spec_for(server.url, requests=planned(9), concurrency=3))
    assert sorted(record.index for record in records) == list(range(9))
    done = [record.done_ns or 0 for record in records]
    assert done == sorted(done)
    assert not any(record.error for record in records)
    assert result.cut_short is None
    assert result.health.chunks == 36


async def test_a_closed_loop_keeps_exactly_its_slots_busy() -> None:
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.02, gap_s=0.005)}) as server:
        records, _ = await measure(spec_for(server.url, requests=planned(12), concurrency=4))
    assert in_flight(records) == 4
    for record in records:
        assert record.ready_ns == record.intended_ns


async def test_a_slot_is_ready_when_the_response_before_it_ended() -> None:
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.01)}) as server:
        records, _ = await measure(spec_for(server.url, requests=planned(4), concurrency=1))
    for before, after in itertools.pairwise(records):
        assert after.ready_ns == before.done_ns
        delay = send_delay_ns(after)
        assert delay is not None
        assert delay > 0


async def test_the_round_runs_from_the_first_send_to_the_last_token() -> None:
    async with FaultyServer() as server:
        records, result = await measure(spec_for(server.url, requests=planned(5)))
    assert result.started_ns == min(record.sent_ns or 0 for record in records)
    assert result.ended_ns == max(record.last_token_ns or 0 for record in records)


async def test_connections_are_opened_before_the_round_and_reused() -> None:
    connections = 0
    answer = Stream()
    async with FaultyServer({COMPLETIONS: answer}) as server:
        serve = server._serve

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await serve(reader, writer)

        server._serve = count  # type: ignore[method-assign]
        _, result = await measure(spec_for(server.url, requests=planned(12), concurrency=3))
    assert connections == 3
    assert result.connections_opened == 0


async def test_a_connection_closed_by_the_server_is_replaced_not_retried() -> None:
    closing = Reply(headers=(("Connection", "close"),), status=500)
    async with FaultyServer({COMPLETIONS: [Stream(), closing, Stream()]}) as server:
        records, result = await measure(spec_for(server.url, requests=planned(4), concurrency=1))
    assert [record.error is None for record in records] == [True, False, True, True]
    assert len(server.requests_to(COMPLETIONS)) == 4
    assert result.connections_opened >= 1


async def test_requests_go_to_their_engines() -> None:
    async with FaultyServer() as first, FaultyServer() as second:
        spec = spec_for(first.url, second.url, requests=planned(6, engines=2), concurrency=2)
        records, _ = await measure(spec)
        assert [record.engine for record in sorted(records, key=lambda record: record.index)] == [0, 1] * 3
        assert len(first.received) == len(second.received) == 3


async def test_bodies_ask_for_what_was_planned_and_headers_are_sent() -> None:
    async with FaultyServer() as server:
        spec = spec_for(server.url, requests=planned(1), headers={"Authorization": "Bearer sesame"})
        await measure(spec)
        (received,) = server.received
    body = received.json()
    assert body["prompt"] == [0, 1, 2, 3, 4]
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"], body["temperature"]) == (4, 4, True, 0)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert received.headers["authorization"] == "Bearer sesame"
    assert received.headers["accept-encoding"] == "identity"
    assert received.headers["content-type"] == "application/json"
    assert "sesame" not in repr(spec)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with FaultyServer() as server:
        records, _ = await measure(spec_for(server.url, requests=planned(1)))
    assert records[0].error is None


async def test_the_round_ends_when_its_first_requests_all_failed() -> None:
    async with FaultyServer({COMPLETIONS: error(500, "broken")}) as server:
        records, result = await measure(spec_for(server.url, requests=planned(20), concurrency=3))
    assert len(records) == 3
    assert len(server.received) == 3
    assert result.cut_short is not None
    assert "first 3 requests all failed" in result.cut_short
    assert "broken" in result.cut_short


async def test_the_round_ends_when_its_first_requests_all_had_the_wrong_length() -> None:
    async with FaultyServer({COMPLETIONS: Stream(tokens=2)}) as server:
        records, result = await measure(spec_for(server.url, requests=planned(40), concurrency=2))
    assert result.cut_short is not None
    assert len(records) < 40


async def test_one_success_among_the_first_requests_lets_the_round_go_on() -> None:
    async with FaultyServer({COMPLETIONS: [error(500), Stream(), error(500)]}) as server:
        records, result = await measure(spec_for(server.url, requests=planned(6), concurrency=3))
    assert len(records) == 6
    assert result.cut_short is None


async def test_an_endpoint_that_nobody_serves_is_tried_once_per_slot() -> None:
    records, result = await measure(spec_for("http://127.0.0.1:1", requests=planned(9), concurrency=2))
    assert len(records) == 2
    assert result.cut_short is not None
    assert result.started_ns <= result.ended_ns


@pytest.mark.parametrize("concurrency", [None, 2])
async def test_an_open_loop_also_ends_when_its_first_requests_all_failed(concurrency: int | None) -> None:
    offsets = constant_offsets(60, rate_per_s=200)
    async with FaultyServer({COMPLETIONS: error(500)}) as server:
        spec = spec_for(server.url, requests=planned(60, offsets=offsets), concurrency=concurrency)
        records, result = await measure(spec)
    assert result.cut_short is not None
    assert len(records) < 60


async def test_late_answers_do_not_delay_the_schedule() -> None:
    """No coordinated omission: a server that takes half a second a request is still sent one every 20 ms."""
    offsets = constant_offsets(10, rate_per_s=50)
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.5)}) as server:
        spec = spec_for(server.url, requests=planned(10, offsets=offsets), concurrency=None)
        records, result = await measure(spec)
    ordered = sorted(records, key=lambda record: record.index)
    start_ns = ordered[0].intended_ns
    assert tuple(record.intended_ns - start_ns for record in ordered) == offsets
    assert all(record.ready_ns is None for record in ordered)
    assert in_flight(ordered) == 10
    assert result.ended_ns - result.started_ns < 10 * 500_000_000 / 4


@pytest.mark.parametrize(
    "offsets",
    [
        gamma_offsets(20, rate_per_s=100, burstiness=1.0, seed=1),
        tuple(at_ms * 2_000_000 for at_ms in (0, 10, 10, 10, 60, 61)),
    ],
    ids=["poisson", "trace"],
)
async def test_nothing_is_sent_before_its_time_and_the_delay_is_known(offsets: tuple[int, ...]) -> None:
    async with FaultyServer() as server:
        spec = spec_for(server.url, requests=planned(len(offsets), offsets=offsets), concurrency=None)
        records, result = await measure(spec)
    delays = [send_delay_ns(record) for record in records]
    assert all(delay is not None and delay > 0 for delay in delays)
    assert result.health.send_delay_mean_ms == pytest.approx(sum(delay or 0 for delay in delays) / len(delays) / 1e6)


async def test_a_cap_holds_requests_back_and_says_when_they_got_their_slot() -> None:
    offsets = (0,) * 6
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.05)}) as server:
        spec = spec_for(server.url, requests=planned(6, offsets=offsets), concurrency=2)
        records, _ = await measure(spec)
    assert in_flight(records) == 2
    waits = sorted((record.ready_ns or 0) - record.intended_ns for record in records)
    assert waits[-1] > 10 * waits[0]


async def test_user_perceived_latency_includes_the_wait_for_a_slot() -> None:
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.05)}) as server:
        spec = spec_for(server.url, requests=planned(3, offsets=(0, 0, 0)), concurrency=1)
        records, _ = await measure(spec)
    perceived = [(record.first_token_ns or 0) - record.intended_ns for record in records]
    measured = [(record.first_token_ns or 0) - (record.sent_ns or 0) for record in records]
    assert perceived[2] > 2 * measured[2]


async def test_the_watch_ends_only_what_is_overdue() -> None:
    limits = Timeouts(first_token_s=0.3, between_chunks_s=5, request_s=5)
    async with FaultyServer({COMPLETIONS: [Stream(), silent(), Stream()]}) as server:
        spec = spec_for(server.url, requests=planned(6), concurrency=2, timeouts=limits)
        records, _ = await measure(spec)
    assert sorted(record.error is None for record in records) == [False, True, True, True, True, True]


async def test_an_error_of_the_journal_ends_the_round_and_is_raised_as_it_is() -> None:
    def refuse(_record: RequestRecord) -> None:
        raise OSError("disk full")

    from pytest_mooncake.load.round import run_round

    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.01)}) as server:
        with pytest.raises(OSError, match="disk full"):
            await run_round(spec_for(server.url, requests=planned(50), concurrency=1), on_record=refuse)
        assert len(server.received) < 50


async def test_cancelling_a_round_keeps_what_was_recorded_and_leaves_no_task() -> None:
    from pytest_mooncake.load.round import run_round

    records: list[RequestRecord] = []
    third_arrived = asyncio.Event()

    def fall_silent(_received: Received) -> Reply:
        third_arrived.set()
        return silent()

    async with FaultyServer({COMPLETIONS: [Stream(), Stream(), fall_silent]}) as server:
        task = asyncio.create_task(
            run_round(spec_for(server.url, requests=planned(9), concurrency=1), on_record=records.append)
        )
        async with asyncio.timeout(10):
            await third_arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(records) == 2
    assert gc.isenabled()


async def test_the_collector_rests_during_the_round_and_is_restored() -> None:
    states: list[bool] = []
    async with FaultyServer() as server:
        await _run(server.url, states)
    assert states == [False] * 3
    assert gc.isenabled()


async def _run(url: str, states: list[bool]) -> None:
    from pytest_mooncake.load.round import run_round

    await run_round(spec_for(url, requests=planned(3)), on_record=lambda _record: states.append(gc.isenabled()))


async def test_requests_are_made_once_each_and_in_order() -> None:
    asked: list[int] = []

    class Lazy(Sequence[PlannedRequest]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> PlannedRequest:  # type: ignore[override]
            asked.append(index)
            return planned(5)[index]

    async with FaultyServer() as server:
        records, _ = await measure(spec_for(server.url, requests=Lazy()))
    assert asked == [0, 1, 2, 3, 4]
    assert len(records) == 5


async def test_token_ids_cannot_go_to_chat() -> None:
    with pytest.raises(WorkloadError, match="--mooncake-api completions"):
        await measure(spec_for("http://127.0.0.1:1", requests=planned(1), api="chat"))


async def test_a_closed_loop_needs_a_concurrency() -> None:
    with pytest.raises(ValueError, match="needs a concurrency"):
        await measure(spec_for("http://127.0.0.1:1", requests=planned(1), concurrency=None))


async def test_both_ways_of_stamping_tell_the_same_story() -> None:
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.05, gap_s=0.02)}) as server:
        arrival, on_arrival = await measure(spec_for(server.url, requests=planned(1)))
        read, on_read = await measure(spec_for(server.url, requests=planned(1)), stamp_on_arrival=False)
    assert (on_arrival.stamping, on_read.stamping) == ("arrival", "read")
    for one, other in zip(arrival, read, strict=True):
        assert one.output_sha256 == other.output_sha256
        assert one.chunk_tokens == other.chunk_tokens
        ratio = ((one.last_token_ns or 0) - (one.sent_ns or 0)) / ((other.last_token_ns or 0) - (other.sent_ns or 0))
        assert 0.5 < ratio < 2


async def test_aiohttp_of_another_shape_falls_back_to_ordinary_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_mooncake.load.http import transport

    monkeypatch.setattr(transport.StampedBody, "write_with_length", _write_as_unknown)
    async with FaultyServer() as server:
        records, result = await measure(spec_for(server.url, requests=planned(3)))
    assert [record.error for record in records] == [None, None, None]
    assert all(record.chunk_tokens == (1, 1, 1, 1) for record in records)
    assert result.stamping == "read"


async def _write_as_unknown(self: object, writer: object, _length: object) -> None:
    """A body of a future aiohttp whose writer no longer tells its protocol."""
    await writer.write(self._value)  # type: ignore[attr-defined]
    self._stamps.sent_ns = self._clock()  # type: ignore[attr-defined]
