"""The client's own error in a run: calibrated just before and just after its chain of rounds, at its load.

The load is that of the rounds sent so far, the left-out one to begin with. A calibration that fails, whatever the
reason, is said and makes nothing invalid: the figures then stand without an error beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace

from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.load.calibration.calibrate import Calibration, calibrate
from pytest_mooncake.load.http.failures import one_line
from pytest_mooncake.load.spec import RoundResult
from pytest_mooncake.records import Phase, RequestRecord

__all__ = ["LATE_STAMPS", "ClientErrorMeter", "most_in_flight"]

LATE_STAMPS = (
    "arrivals were stamped when the client's task got them, later under load, for want of aiohttp internals that it "
    "knows: the calibrated error holds it; use a version of aiohttp that this release was tested with"
)
MOST_S = 60.0
"""A calibration takes about a second; on a machine that starves its processes it is given up."""
MOST_STREAMS = 512
"""Streams that are calibrated with at most: more would cost seconds and say the same."""


def most_in_flight(records: Sequence[RequestRecord]) -> int:
    """Requests that were open at once, at most (1 where none was sent)."""
    steps: list[tuple[int, int]] = []
    for record in records:
        if record.sent_ns is not None and record.done_ns is not None:
            steps += [(record.sent_ns, 1), (record.done_ns, -1)]
    open_now = most = 0
    for _, step in sorted(steps):
        open_now += step
        most = max(most, open_now)
    return max(most, 1)


def _reason(error: Exception) -> str:
    """Why a calibration failed, in one line; of several workers that failed, the first."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return f"its calibration did not end within {MOST_S:g} s"
    return one_line(error) if isinstance(error, MooncakeError) else f"{type(error).__name__}: {one_line(error)}"


class ClientErrorMeter:
    """Calibrates before the first round of the chain and after the last, and puts the error into the rounds between.

    Args:
        note: takes an event for the journal, its name and values.
        workers: processes that a round is sent from.
        measure: `calibration.calibrate`, or what stands for it.
    """

    def __init__(
        self, note: Callable[..., None], *, workers: int = 1, measure: Callable[..., Awaitable[Calibration]] = calibrate
    ) -> None:
        self._note = note
        self._workers = workers
        self._measure = measure
        self._streams = 1
        self._chunks_per_s: float | None = None
        self._tried = False
        self._after_chain = False
        self._found: Calibration | None = None

    async def before(self, phase: Phase, *, concurrency: int | None) -> None:
        """Calibrate, once, when a round of the chain is about to be sent."""
        self._streams = max(self._streams, concurrency or 1)
        if phase is Phase.CHAIN and not self._tried:
            self._tried = True
            self._found = await self._calibrate("before")

    async def after(self) -> None:
        """Calibrate, once, when the chain is over; nothing where none was begun."""
        if self._tried and not self._after_chain:
            self._after_chain = True
            await self._calibrate("after")

    async def _calibrate(self, when: str) -> Calibration | None:
        streams = min(self._streams, MOST_STREAMS)
        load = {"concurrency": streams, "chunks_per_s": self._chunks_per_s}
        try:
            found = await asyncio.wait_for(self._measure(**load, workers=self._workers), MOST_S)
        except Exception as error:  # its servers and workers are processes, which end and stop in many ways
            why = _reason(error)
            self._note("calibration", when=when, **load, error=why)
            known = "was measured before the chain of rounds only" if self._found is not None else "is unknown"
            self._note("client", notes=(f"the client's own error {known}: {why}",))
            return None
        self._note("calibration", when=when, **load, error=None, **asdict(found))
        return found

    def seen(self, result: RoundResult, records: Sequence[RequestRecord]) -> RoundResult:
        """Take a round's load into the next calibration, and put the error found so far beside what it measured."""
        if result.stamping == "read":
            self._note("client", notes=(LATE_STAMPS,))
        seconds = (result.ended_ns - result.started_ns) / 1e9
        if seconds > 0 and result.health.chunks:
            self._chunks_per_s = max(self._chunks_per_s or 0.0, result.health.chunks / seconds)
        self._streams = max(self._streams, most_in_flight(records))
        if self._found is None:
            return result
        found = self._found
        return replace(
            result,
            health=replace(
                result.health,
                bias_ms=found.bias_ms,
                itl_bias_ms=found.itl_bias_ms,
                error_p99_ms=found.error_p99_ms,
            ),
        )
