"""A round from several processes is the round that one process would have sent."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_mooncake.errors import MooncakeError, WorkloadError
from pytest_mooncake.load.schedule.arrivals import constant_offsets
from pytest_mooncake.load.workers import pool, sharding
from pytest_mooncake.load.workers.child_environment import child_environment
from pytest_mooncake.load.workers.pool import run_round_in_workers
from pytest_mooncake.records import PlannedRequest, RequestRecord
from tests.support.faulty_server import FaultyServer
from tests.support.measured_rounds import measure, planned, spec_for
from tests.support.replies import Received, Reply, Stream, error, silent

COMPLETIONS = "/v1/completions"


def in_flight(records: Sequence[RequestRecord]) -> int:
    begins = [(record.sent_ns or 0, 1) for record in records]
    ends = [(record.done_ns or 0, -1) for record in records]
    return max(itertools.accumulate(step for _, step in sorted(begins + ends)))


async def test_the_records_are_those_of_a_single_process() -> None:
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.02, gap_s=0.005)}) as server:
        spec = spec_for(server.url, requests=planned(12), concurrency=4, headers={"Authorization": "Bearer s"})
        alone, _ = await measure(spec)
        records: list[RequestRecord] = []
        result = await run_round_in_workers(spec, workers=2, on_record=records.append)
        authorized = {received.headers.get("authorization") for received in server.received}
    assert authorized == {"Bearer s"}
    assert [record.error for record in records] == [None] * 12
    assert sorted(record.index for record in records) == list(range(12))
    assert {record.output_sha256 for record in records} == {record.output_sha256 for record in alone}
    assert {record.chunk_tokens for record in records} == {record.chunk_tokens for record in alone}
    assert in_flight(records) == 4
    assert result.health.chunks == 48
    assert result.cut_short is None
    assert result.started_ns == min(record.sent_ns or 0 for record in records)
    assert result.ended_ns == max(record.last_token_ns or 0 for record in records)


async def test_an_open_loop_keeps_one_schedule_over_all_workers() -> None:
    offsets = constant_offsets(12, rate_per_s=60)
    async with FaultyServer() as server:
        spec = spec_for(server.url, requests=planned(12, offsets=offsets), concurrency=None)
        records: list[RequestRecord] = []
        await run_round_in_workers(spec, workers=3, on_record=records.append)
    start_ns = min(record.intended_ns for record in records)
    assert sorted(record.intended_ns - start_ns for record in records) == list(offsets)
    assert all((record.sent_ns or 0) > record.intended_ns for record in records)


async def test_one_worker_is_no_worker() -> None:
    async with FaultyServer() as server:
        records: list[RequestRecord] = []
        spec = spec_for(server.url, requests=planned(2), concurrency=1)
        result = await run_round_in_workers(spec, workers=4, on_record=records.append)
    assert len(records) == 2
    assert result.health.chunks == 8


async def test_the_round_is_cut_short_when_every_worker_gives_up() -> None:
    async with FaultyServer({COMPLETIONS: error(500, "broken")}) as server:
        records: list[RequestRecord] = []
        spec = spec_for(server.url, requests=planned(40), concurrency=4)
        result = await run_round_in_workers(spec, workers=2, on_record=records.append)
    assert result.cut_short is not None
    assert len(records) == 4


class Unpicklable(tuple[PlannedRequest, ...]):
    def __reduce__(self) -> str:
        raise TypeError("tied to this process")


async def test_requests_that_cannot_travel_are_refused_in_one_line() -> None:
    spec = spec_for("http://127.0.0.1:1", requests=Unpicklable(planned(4)), concurrency=2)
    with pytest.raises(WorkloadError, match=r"tied to this process.*--mooncake-workers 1"):
        await run_round_in_workers(spec, workers=2, on_record=lambda _record: None)


async def test_a_workload_that_cannot_be_encoded_is_told_as_in_one_process() -> None:
    spec = spec_for("http://127.0.0.1:1", requests=planned(4), concurrency=2, api="chat")
    with pytest.raises(WorkloadError, match="--mooncake-api completions"):
        await run_round_in_workers(spec, workers=2, on_record=lambda _record: None)


async def test_an_unexpected_fault_of_a_worker_is_one_line() -> None:
    spec = spec_for("http://127.0.0.1:1", requests=planned(4, engines=3), concurrency=2)
    with pytest.raises(MooncakeError, match="a load worker failed: IndexError"):
        await run_round_in_workers(spec, workers=2, on_record=lambda _record: None)


async def test_an_error_of_the_journal_ends_the_workers() -> None:
    def refuse(_record: RequestRecord) -> None:
        raise OSError("disk full")

    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.05)}) as server:
        spec = spec_for(server.url, requests=planned(60), concurrency=2)
        with pytest.raises(OSError, match="disk full"):
            await run_round_in_workers(spec, workers=2, on_record=refuse)
        assert len(server.received) < 60


async def test_a_worker_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    spec = spec_for("http://127.0.0.1:1", requests=planned(4), concurrency=2)
    with pytest.raises(MooncakeError, match="ended before its round did"):
        await run_round_in_workers(spec, workers=2, on_record=lambda _record: None)


async def test_a_worker_whose_parent_is_gone_ends() -> None:
    arrived: list[Received] = []
    both_arrived = asyncio.Event()

    def keep_waiting(received: Received) -> Reply:
        arrived.append(received)
        if len(arrived) == 2:
            both_arrived.set()
        return silent()

    async with FaultyServer({COMPLETIONS: keep_waiting}) as server:
        spec = spec_for(server.url, requests=planned(4), concurrency=2)
        with sharding.tickets(4) as pipe, pool._started(pool._order_for(spec, workers=1, worker=0), pipe) as child:
            hand = pool._WorkerHandle(child, ThreadPoolExecutor(1))
            await hand.expect_ready()
            assert child.stdin is not None
            pool._write(child.stdin, pickle.dumps(0))
            async with asyncio.timeout(20):
                await both_arrived.wait()
            child.stdin.close()
            code = await asyncio.to_thread(child.wait, 20)
            child.stdin = None
    assert code == 0


def test_every_ticket_is_drawn_once_whoever_draws() -> None:
    with sharding.tickets(20_000) as pipe:
        ours = itertools.islice(sharding.take_tickets(pipe), 3)
        assert list(ours) == [0, 1, 2]
        script = (
            "import sys; from pytest_mooncake.load.workers.sharding import take_tickets as t; "
            "print(sum(t(int(sys.argv[1]))))"
        )
        command = [sys.executable, "-c", script, str(pipe)]
        crew = [
            subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(pipe,), env=child_environment(), text=True)
            for _ in range(2)
        ]
        drawn = [int(process.communicate(timeout=60)[0]) for process in crew]
        assert sum(drawn) == sum(range(3, 20_000))
        assert list(sharding.take_tickets(pipe)) == []
        fd = pipe
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_more_requests_than_tickets_need_one_worker() -> None:
    with pytest.raises(ValueError, match="use one worker"), sharding.tickets(sharding.MOST_REQUESTS + 1):
        raise AssertionError("not reached")
