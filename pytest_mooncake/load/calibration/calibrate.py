"""How wrong this client is, here and now: the same client against a server that knows the truth.

Run just before and just after a measurement, at its concurrency and chunk rate, on the machine as busy as it then is.
Nothing is subtracted from the figures; the error is printed beside them and judged (contract, "too coarse").

Errors are client minus truth. TTFT: the client's `first token - last byte sent` against the server's `first write -
last byte read`, so it holds the way over loopback and the server's wake-up too and errs on the safe side. ITL: the
client's gap between two chunks against the server's gap between the same two writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.load.health import rank_percentile
from pytest_mooncake.load.round import run_round
from pytest_mooncake.load.spec import RoundSpec
from pytest_mooncake.load.workers.child_environment import child_environment
from pytest_mooncake.load.workers.pool import run_round_in_workers
from pytest_mooncake.plan.models import Timeouts
from pytest_mooncake.records import ClientHealth, Engine, Kind, Phase, PlannedRequest, RequestRecord

__all__ = ["Calibration", "ScriptedServer", "calibrate", "compare", "scripted_server"]

_NS_PER_MS = 1e6
_WAIT_S = 10.0
_TTFT_MS = 20.0
_STREAM_S = 0.25
_GAP_MS = (2.0, 25.0)
_MOST_CHUNKS_PER_S = 12_000
"""What the scripted server writes without being the limit itself; a faster run is calibrated at this rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Error of the client against the truth, in ms. `bias_ms` is signed: positive means that it measures too long.

    `error_p99_ms` is the larger of the two 99th percentiles of the absolute error (TTFT, ITL).
    """

    bias_ms: float
    error_p99_ms: float
    ttft_error_p99_ms: float
    itl_bias_ms: float
    itl_error_p99_ms: float
    cpu_us_per_chunk: float | None
    requests: int
    chunks: int


@dataclass(slots=True, kw_only=True)
class ScriptedServer:
    """A running server; `truth` maps request ids to stamps (arrival of the request, then each write) after its end."""

    url: str
    truth: Mapping[str, Sequence[int]] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def scripted_server(*, ttft_ms: float, gap_ms: float, tokens: int) -> AsyncIterator[ScriptedServer]:
    """Start the server in a process of its own; its truth is there when the context has ended.

    Raises:
        MooncakeError: The process did not start, ended, or did not answer within 10 s.
    """
    command = [
        sys.executable,
        "-m",
        "pytest_mooncake.load.calibration.reference_server",
        str(ttft_ms),
        str(gap_ms),
        str(tokens),
    ]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=child_environment())  # noqa: S603, ASYNC220 - ours, ms
    except OSError as error:
        raise MooncakeError(f"the calibration server could not be started ({error.strerror})") from None
    try:
        server = ScriptedServer(url=f"http://127.0.0.1:{await _port_of(process)}")
        yield server
        server.truth = await _truth_of(process)
    finally:
        process.kill()
        await asyncio.to_thread(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Take leave of a process that was killed; a thread that was left waiting may still hold its pipes."""
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError, ValueError):
                pipe.close()


async def _truth_of(process: subprocess.Popen[bytes]) -> Mapping[str, Sequence[int]]:
    try:
        output, _ = await asyncio.to_thread(process.communicate, b"", _WAIT_S)
    except subprocess.TimeoutExpired:
        raise MooncakeError(f"the calibration server did not tell its truth within {_WAIT_S:g} s") from None
    return _truth_in(output, process.returncode)


def _truth_in(output: bytes, code: int) -> Mapping[str, Sequence[int]]:
    try:
        truth: Mapping[str, Sequence[int]] = orjson.loads(output)
    except orjson.JSONDecodeError:
        raise MooncakeError(
            f"the calibration server ended with code {code} after {len(output)} bytes of its truth; run it again"
        ) from None
    return truth


async def _port_of(process: subprocess.Popen[bytes]) -> int:
    if process.stdout is None:  # pragma: no cover - it was asked for
        raise MooncakeError("the calibration server has no output")
    try:
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), _WAIT_S)
        return int(line)
    except (TimeoutError, ValueError):
        raise MooncakeError(
            "the calibration server did not start within 10 s; "
            "run `python -m pytest_mooncake.load.calibration.reference_server 1 1 1` to see why"
        ) from None


class _Prompts(Sequence[PlannedRequest]):
    """The calibration's requests: one token in, `tokens` out."""

    def __init__(self, count: int, tokens: int) -> None:
        self._count = count
        self._tokens = tokens

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> PlannedRequest:  # type: ignore[override]  # a round never slices
        return PlannedRequest(index=index, prompt=(1,), prompt_tokens=1, output_tokens=self._tokens)


async def calibrate(
    *, concurrency: int, chunks_per_s: float | None = None, stamp_on_arrival: bool = True, workers: int = 1
) -> Calibration:
    """Measure the client's own error in about one second (process start included).

    Args:
        concurrency: Streams open at once, as in the run.
        chunks_per_s: Chunks per second over all streams, as in the run; `None` where nothing is known yet (25 ms gaps).
        stamp_on_arrival: As for `run_round`.
        workers: Processes that send, as in the run.

    Raises:
        MooncakeError: The scripted server did not start or stopped, or a request to it failed.
    """
    gap_ms = _gap_ms(concurrency, chunks_per_s)
    tokens = max(8, round(_STREAM_S * 1000 / gap_ms))
    records: list[RequestRecord] = []
    async with scripted_server(ttft_ms=_TTFT_MS, gap_ms=gap_ms, tokens=tokens) as server:
        spec = scripted_spec(server.url, concurrency=concurrency, requests=2 * concurrency, tokens=tokens)
        if workers > 1:
            result = await run_round_in_workers(spec, workers=workers, on_record=records.append)
        else:
            result = await run_round(spec, on_record=records.append, stamp_on_arrival=stamp_on_arrival)
    failed = next((record.error for record in records if record.error), None)
    if failed:
        raise MooncakeError(f"calibration failed: {failed}; the client cannot say how accurate it is on this machine")
    try:
        return compare(records, server.truth, result.health)
    except (LookupError, TypeError, ValueError, ZeroDivisionError):
        raise MooncakeError("the calibration server tells of other requests than were sent; run it again") from None


def _gap_ms(concurrency: int, chunks_per_s: float | None) -> float:
    if not chunks_per_s:
        return max(_GAP_MS[1], 1000 * concurrency / _MOST_CHUNKS_PER_S)
    wanted = 1000 * concurrency / min(chunks_per_s, _MOST_CHUNKS_PER_S)
    return min(max(wanted, _GAP_MS[0]), max(_GAP_MS[1], 1000 * concurrency / _MOST_CHUNKS_PER_S))


def scripted_spec(url: str, *, concurrency: int, requests: int, tokens: int) -> RoundSpec:
    """A closed-loop round against a scripted server."""
    return RoundSpec(
        round=0,
        kind=Kind.COLD,
        phase=Phase.WARM_UP,
        requests=_Prompts(requests, tokens),
        concurrency=concurrency,
        timeouts=Timeouts(first_token_s=5, between_chunks_s=5, request_s=10, run_s=20),
        engines=(Engine(url=url),),
        model="scripted",
    )


def compare(records: Sequence[RequestRecord], truth: Mapping[str, Sequence[int]], health: ClientHealth) -> Calibration:
    """Hold what the client measured against what the server wrote. `records` are complete: one chunk per token."""
    ttft_errors: list[float] = []
    itl_errors: list[float] = []
    for record in records:
        arrived, *written = truth[record.request_id]
        ttft_ns = record.chunk_ns[0] - (record.sent_ns or 0)
        ttft_errors.append((ttft_ns - (written[0] - arrived)) / _NS_PER_MS)
        gaps, true_gaps = _gaps(record.chunk_ns), _gaps(written)
        itl_errors += [(gap - true) / _NS_PER_MS for gap, true in zip(gaps, true_gaps, strict=True)]
    ttft_p99 = rank_percentile(map(abs, ttft_errors), 0.99) or 0.0
    itl_p99 = rank_percentile(map(abs, itl_errors), 0.99) or 0.0
    chunks, cpu_s = health.chunks, health.cpu_s
    return Calibration(
        bias_ms=sum(ttft_errors) / len(ttft_errors),
        error_p99_ms=max(ttft_p99, itl_p99),
        ttft_error_p99_ms=ttft_p99,
        itl_bias_ms=sum(itl_errors) / len(itl_errors) if itl_errors else 0.0,
        itl_error_p99_ms=itl_p99,
        cpu_us_per_chunk=cpu_s * 1e6 / chunks if cpu_s is not None and chunks else None,
        requests=len(records),
        chunks=chunks,
    )


def _gaps(stamps: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(stamps)]
