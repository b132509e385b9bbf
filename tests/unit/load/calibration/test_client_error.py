"""When the client's own error is measured, at which load, and where it ends up."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.load.calibration.calibrate import Calibration
from pytest_mooncake.load.calibration.client_error import LATE_STAMPS, MOST_STREAMS, ClientErrorMeter, most_in_flight
from pytest_mooncake.load.spec import RoundResult
from pytest_mooncake.records import ClientHealth, Kind, Phase, RequestRecord

FOUND = Calibration(
    bias_ms=0.4,
    error_p99_ms=1.5,
    ttft_error_p99_ms=1.5,
    itl_bias_ms=0.01,
    itl_error_p99_ms=0.3,
    cpu_us_per_chunk=20.0,
    requests=8,
    chunks=80,
)


def record(sent_ns: int | None, done_ns: int | None) -> RequestRecord:
    return RequestRecord(
        round=0,
        kind=Kind.COLD,
        phase=Phase.LEFT_OUT,
        index=0,
        prompt_tokens_planned=1,
        output_tokens_planned=1,
        intended_ns=0,
        sent_ns=sent_ns,
        done_ns=done_ns,
    )


class Scripted:
    """A calibration that costs nothing, and the journal."""

    def __init__(self, error: str | None = None) -> None:
        self.error = error
        self.loads: list[Mapping[str, Any]] = []
        self.events: list[Mapping[str, Any]] = []

    async def calibrate(self, **load: Any) -> Calibration:
        self.loads.append(load)
        if self.error:
            raise MooncakeError(self.error)
        return FOUND

    def note(self, event: str, **values: object) -> None:
        self.events.append({"event": event, **values})


def sent(chunks: int = 100, seconds: float = 2.0) -> RoundResult:
    return RoundResult(started_ns=0, ended_ns=round(seconds * 1e9), health=ClientHealth(chunks=chunks))


def test_requests_open_at_once_are_counted_from_their_stamps() -> None:
    assert most_in_flight(()) == 1
    assert most_in_flight([record(None, None)]) == 1
    assert most_in_flight([record(0, 10), record(5, 15), record(10, 20)]) == 2


async def test_it_calibrates_before_and_after_the_chain_at_the_load_of_the_left_out_round() -> None:
    world = Scripted()
    own = ClientErrorMeter(world.note, measure=world.calibrate)
    await own.before(Phase.LEFT_OUT, concurrency=4)
    assert own.seen(sent(), ()).health.bias_ms is None
    for _ in range(3):
        await own.before(Phase.CHAIN, concurrency=4)
    measured = own.seen(sent(), ()).health
    assert (measured.bias_ms, measured.itl_bias_ms, measured.error_p99_ms) == (0.4, 0.01, 1.5)
    await own.after()
    await own.after()
    assert world.loads == [{"concurrency": 4, "chunks_per_s": 50.0, "workers": 1}] * 2
    assert [(e["when"], e["bias_ms"], e["error"]) for e in world.events] == [
        ("before", 0.4, None),
        ("after", 0.4, None),
    ]


async def test_without_a_cap_the_streams_are_those_that_were_open() -> None:
    world = Scripted()
    own = ClientErrorMeter(world.note, workers=2, measure=world.calibrate)
    await own.before(Phase.LEFT_OUT, concurrency=None)
    own.seen(sent(), [record(0, 9), record(1, 9), record(2, 9)])
    await own.before(Phase.CHAIN, concurrency=None)
    own.seen(sent(), [record(i, 10_000) for i in range(MOST_STREAMS + 5)])
    await own.after()
    assert [load["concurrency"] for load in world.loads] == [3, MOST_STREAMS]
    assert world.loads[0]["workers"] == 2


async def test_a_run_that_never_reached_its_chain_is_not_calibrated() -> None:
    world = Scripted()
    own = ClientErrorMeter(world.note, measure=world.calibrate)
    await own.before(Phase.LEFT_OUT, concurrency=4)
    await own.after()
    assert world.events == []


async def test_a_calibration_that_fails_is_said_and_leaves_no_figure() -> None:
    world = Scripted(error="the calibration server did not start")
    own = ClientErrorMeter(world.note, measure=world.calibrate)
    await own.before(Phase.CHAIN, concurrency=4)
    assert own.seen(sent(), ()).health.bias_ms is None
    assert world.events[0]["error"] == "the calibration server did not start"
    assert world.events[1]["notes"] == ("the client's own error is unknown: the calibration server did not start",)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (subprocess.TimeoutExpired("server", 10), "TimeoutExpired: Command 'server' timed out after 10 seconds"),
        (ExceptionGroup("workers", [MooncakeError("a load worker ended"), OSError()]), "a load worker ended"),
        (
            OSError(11, "Resource temporarily unavailable"),
            "BlockingIOError: [Errno 11] Resource temporarily unavailable",
        ),
        (KeyError("r0"), "KeyError: 'r0'"),
        (TimeoutError(), "its calibration did not end within 60 s"),
    ],
)
async def test_however_a_calibration_fails_the_run_goes_on(raised: Exception, told: str) -> None:
    async def fails(**_: Any) -> Calibration:
        raise raised

    world = Scripted()
    own = ClientErrorMeter(world.note, measure=fails)
    await own.before(Phase.CHAIN, concurrency=4)
    await own.after()
    assert [event["error"] for event in world.events if event["event"] == "calibration"] == [told, told]


async def test_an_interruption_is_no_failure_of_the_calibration() -> None:
    async def interrupted(**_: Any) -> Calibration:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await ClientErrorMeter(Scripted().note, measure=interrupted).before(Phase.CHAIN, concurrency=4)


async def test_a_calibration_that_fails_after_the_chain_leaves_the_one_before() -> None:
    world = Scripted()
    own = ClientErrorMeter(world.note, measure=world.calibrate)
    await own.before(Phase.CHAIN, concurrency=4)
    world.error = "no"
    await own.after()
    assert own.seen(sent(), ()).health.bias_ms == 0.4
    assert world.events[-1]["notes"] == ("the client's own error was measured before the chain of rounds only: no",)


async def test_late_stamps_are_told() -> None:
    world = Scripted()
    own = ClientErrorMeter(world.note, measure=world.calibrate)
    own.seen(sent(), ())
    assert world.events == []
    own.seen(replace(sent(), stamping="read"), ())
    assert world.events == [{"event": "client", "notes": (LATE_STAMPS,)}]


@pytest.mark.parametrize("result", [sent(chunks=0), sent(seconds=0)])
async def test_a_round_without_chunks_tells_no_rate(result: RoundResult) -> None:
    world = Scripted()
    own = ClientErrorMeter(world.note, measure=world.calibrate)
    own.seen(result, ())
    await own.before(Phase.CHAIN, concurrency=1)
    assert world.loads[0]["chunks_per_s"] is None
