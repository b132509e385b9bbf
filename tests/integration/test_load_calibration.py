"""The client against known truth: its definitions, and the error it reports of itself."""

from __future__ import annotations

import itertools
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.load.calibration import calibrate as calibrate_module
from pytest_mooncake.load.calibration.calibrate import Calibration, calibrate, compare, scripted_server, scripted_spec
from pytest_mooncake.load.calibration.client_error import ClientErrorMeter
from pytest_mooncake.load.event_loop import run_in_thread
from pytest_mooncake.load.workers.child_environment import child_environment
from pytest_mooncake.records import ClientHealth, Kind, Phase, RequestRecord
from pytest_mooncake.stack.namespace import enter
from pytest_mooncake.stack.process import supervised
from tests.support.measured_rounds import measure

MS = 1_000_000


def gaps(stamps: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(stamps)]


async def test_ttft_itl_and_tpot_are_those_of_the_server() -> None:
    async with scripted_server(ttft_ms=80, gap_ms=20, tokens=12) as server:
        records, _ = await measure(scripted_spec(server.url, concurrency=2, requests=4, tokens=12))
    ttft_ratios, tpot_ratios, gap_errors = [], [], []
    for record in records:
        assert record.error is None
        arrived, *written = server.truth[record.request_id]
        assert record.sent_ns is not None
        assert record.first_token_ns is not None
        assert record.last_token_ns is not None
        ttft_ratios.append((record.first_token_ns - record.sent_ns) / (written[0] - arrived))
        tpot = (record.last_token_ns - record.first_token_ns) / (12 - record.chunk_tokens[0])
        tpot_ratios.append(tpot / ((written[-1] - written[0]) / 11))
        errors = [abs(gap - true) for gap, true in zip(gaps(record.chunk_ns), gaps(written), strict=True)]
        gap_errors.append(sum(errors) / (written[-1] - written[0]))
    # Medians: a busy machine may stop the client, or the server, for longer than a whole request.
    assert 0.7 < statistics.median(ttft_ratios) < 1.4
    assert 0.8 < statistics.median(tpot_ratios) < 1.25
    assert statistics.median(gap_errors) < 0.5


async def test_stamps_of_both_sides_share_one_clock() -> None:
    async with scripted_server(ttft_ms=30, gap_ms=5, tokens=4) as server:
        records, _ = await measure(scripted_spec(server.url, concurrency=1, requests=2, tokens=4))
    for record in records:
        _, *written = server.truth[record.request_id]
        assert all(seen > wrote for seen, wrote in zip(record.chunk_ns, written, strict=True))


async def test_calibration_says_how_wrong_the_client_is() -> None:
    found = await calibrate(concurrency=3, chunks_per_s=150)
    assert found.requests == 6
    assert found.chunks > 6 * 7
    assert found.error_p99_ms == max(found.ttft_error_p99_ms, found.itl_error_p99_ms)
    assert abs(found.bias_ms) <= found.ttft_error_p99_ms
    assert abs(found.itl_bias_ms) <= found.itl_error_p99_ms
    assert found.cpu_us_per_chunk is not None
    assert found.cpu_us_per_chunk > 0


@pytest.mark.parametrize(
    ("concurrency", "chunks_per_s", "gap_ms"),
    [(4, None, 25.0), (4, 400, 10.0), (4, 1e6, 2.0), (4, 1.0, 25.0), (600, None, 50.0), (600, 1e6, 50.0)],
)
def test_the_chunk_rate_is_that_of_the_run_as_far_as_the_server_can(
    concurrency: int, chunks_per_s: float | None, gap_ms: float
) -> None:
    assert calibrate_module._gap_ms(concurrency, chunks_per_s) == pytest.approx(gap_ms)


def record(index: int, sent_ns: int, chunk_ns: tuple[int, ...]) -> RequestRecord:
    return RequestRecord(
        round=0,
        kind=Kind.COLD,
        phase=Phase.WARM_UP,
        index=index,
        request_id=f"r{index}",
        prompt_tokens_planned=1,
        output_tokens_planned=len(chunk_ns),
        intended_ns=0,
        sent_ns=sent_ns,
        chunk_ns=chunk_ns,
    )


def test_errors_are_client_minus_truth() -> None:
    records = [record(0, 0, (12 * MS, 22 * MS, 33 * MS)), record(1, 100 * MS, (114 * MS, 124 * MS, 134 * MS))]
    truth = {"r0": [1 * MS, 11 * MS, 21 * MS, 31 * MS], "r1": [100 * MS, 110 * MS, 120 * MS, 130 * MS]}
    found = compare(records, truth, ClientHealth(cpu_s=6e-4, chunks=6))
    assert found.bias_ms == pytest.approx((2 + 4) / 2)
    assert found.ttft_error_p99_ms == pytest.approx(4)
    assert found.itl_bias_ms == pytest.approx(1 / 4)
    assert found.itl_error_p99_ms == pytest.approx(1)
    assert found.cpu_us_per_chunk == pytest.approx(100)


def test_single_chunks_have_no_gaps_to_be_wrong_about() -> None:
    found = compare([record(0, 0, (MS,))], {"r0": [0, MS]}, ClientHealth())
    assert found.itl_bias_ms == found.itl_error_p99_ms == 0
    assert found.cpu_us_per_chunk is None


async def test_a_server_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(MooncakeError, match="did not start within 10 s"):
        await calibrate(concurrency=1)


async def test_a_calibration_that_fails_is_an_error_not_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_long(url: str, **sizes: int) -> object:
        spec = scripted_spec(url, **sizes)
        return replace(spec, timeouts=spec.timeouts.model_copy(update={"first_token_s": 0.001}))

    monkeypatch.setattr(calibrate_module, "scripted_spec", too_long)
    with pytest.raises(MooncakeError, match="calibration failed: no output within"):
        await calibrate(concurrency=1)


async def test_a_server_that_is_stopped_is_an_error_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose engine takes every core stops it for as long as it likes."""
    started: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    async def measure(**_: object) -> Calibration:
        async with scripted_server(ttft_ms=1, gap_ms=1, tokens=2):
            started[0].send_signal(signal.SIGSTOP)
        raise AssertionError("it told its truth although it was stopped")

    monkeypatch.setattr(subprocess, "Popen", Kept)
    monkeypatch.setattr(calibrate_module, "_WAIT_S", 0.2)
    told: list[tuple[str, dict[str, Any]]] = []
    own = ClientErrorMeter(lambda event, **values: told.append((event, values)), measure=measure)
    await own.before(Phase.CHAIN, concurrency=1)

    assert told[0][1]["error"] == "the calibration server did not tell its truth within 0.2 s"
    assert started[0].returncode == -signal.SIGKILL


async def test_a_server_that_cannot_be_started_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(MooncakeError, match=r"could not be started \(No such file or directory\)"):
        await calibrate(concurrency=1)


def test_the_server_ends_when_its_input_is_closed() -> None:
    command = [sys.executable, "-m", "pytest_mooncake.load.calibration.reference_server", "1", "1", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=child_environment()) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        before = time.monotonic()
        output, _ = process.communicate(b"", timeout=20)
        assert process.returncode == 0
        assert output == b"{}"
        assert time.monotonic() - before < 20


def test_the_client_calibrates_itself_inside_the_network_namespace_of_a_stack() -> None:
    """Only loopback is there, and the scripted server, started from inside, is inside as well."""
    with supervised(isolate=True) as supervisor:
        if supervisor.netns is None:
            pytest.skip(f"no network namespace here: {supervisor.problem}")
        enter_it = partial(enter, supervisor.netns)
        found = run_in_thread(lambda: calibrate(concurrency=2), on_thread_start=enter_it)
    assert found.requests == 4
    assert found.error_p99_ms > 0
