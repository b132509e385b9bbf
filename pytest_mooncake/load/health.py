"""What the client knows of its own condition during a round: loop lag, CPU, send delays, and when it was the limit.

`SATURATED_*` are the contract's constants (`docs/reference`, "Client validity"). Loop lag is reported and joined to
the requests it touched, never judged: on a small machine the engine starves everybody.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from pytest_mooncake.load.spec import LagSample
from pytest_mooncake.records import ClientHealth, RequestRecord

__all__ = [
    "TAINT_NS",
    "HealthSampler",
    "rank_percentile",
    "send_delay_ns",
    "tainted_requests",
]


TAINT_NS = 2_000_000
"""A token that arrived while the loop was later than this is marked: its stamp may be that much too late."""

_TICK_S = 0.01
_TICKS_PER_CPU_SAMPLE = 10
_WINDOW_NS = 1_000_000_000
_NS_PER_MS = 1e6


def rank_percentile(values: Iterable[float], share: float) -> float | None:
    """Smallest value with at least `share` (0-1) of all values at or below it; `None` without values.

    >>> rank_percentile([4, 1, 3, 2], 0.5)
    2
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


class HealthSampler:
    """Samples loop lag (every 10 ms) and the loop thread's CPU time (every 0.1 s) from inside the loop.

    Args:
        clock: Wall time in ns, monotonic.
        cpu_clock: CPU time in ns of the thread that runs the loop.
    """

    def __init__(
        self, *, clock: Callable[[], int] = time.perf_counter_ns, cpu_clock: Callable[[], int] = time.thread_time_ns
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._lag_at = array("q")
        self._lag = array("q")
        self._cpu_at = array("q")
        self._cpu = array("q")
        self._due_ns = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._sample_cpu()
        self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        """End, and take the last CPU sample."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._sample_cpu()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_ns = self._clock() + round(_TICK_S * 1e9)
        self._handle = loop.call_later(_TICK_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        self._lag_at.append(now)
        self._lag.append(max(0, now - self._due_ns))
        if len(self._lag) % _TICKS_PER_CPU_SAMPLE == 0:
            self._sample_cpu()
        self._schedule(loop)

    def _sample_cpu(self) -> None:
        self._cpu_at.append(self._clock())
        self._cpu.append(self._cpu_clock())

    def lags(self, *, above_ns: int = TAINT_NS) -> tuple[LagSample, ...]:
        """Samples above `above_ns`, in order of time."""
        pairs = zip(self._lag_at, self._lag, strict=True)
        return tuple(LagSample(at_ns=at, lag_ns=lag) for at, lag in pairs if lag > above_ns)

    def health(self, records: Sequence[RequestRecord]) -> ClientHealth:
        """Sum up the round; `records` are those of this client only."""
        delays = [delay / _NS_PER_MS for record in records if (delay := send_delay_ns(record)) is not None]
        lags = [lag / _NS_PER_MS for lag in self._lag]
        return ClientHealth(
            loop_lag_p50_ms=rank_percentile(lags, 0.5),
            loop_lag_p99_ms=rank_percentile(lags, 0.99),
            loop_lag_max_ms=max(lags, default=None),
            send_delay_mean_ms=sum(delays) / len(delays) if delays else None,
            send_delay_p99_ms=rank_percentile(delays, 0.99),
            send_delay_max_ms=max(delays, default=None),
            cpu_s=(self._cpu[-1] - self._cpu[0]) / 1e9 if self._cpu else None,
            cpu_peak_share=peak_share(self._cpu_at, self._cpu),
            chunks=sum(len(record.chunk_ns) for record in records),
        )


def peak_share(at_ns: Sequence[int], cpu_ns: Sequence[int]) -> float | None:
    """Largest CPU share of one core over any second; `None` for a round shorter than one.

    `at_ns` and `cpu_ns` are cumulative samples in order; windows end at a sample and begin at the last sample that is
    at least a second older.

    >>> peak_share([0, 500_000_000, 1_000_000_000, 1_500_000_000], [0, 100_000_000, 600_000_000, 1_000_000_000])
    0.9
    """
    peak: float | None = None
    begin = 0
    for end in range(len(at_ns)):
        while begin + 1 < end and at_ns[end] - at_ns[begin + 1] >= _WINDOW_NS:
            begin += 1
        span = at_ns[end] - at_ns[begin]
        if span >= _WINDOW_NS:
            share = (cpu_ns[end] - cpu_ns[begin]) / span
            peak = share if peak is None else max(peak, share)
    return peak


def send_delay_ns(record: RequestRecord) -> int | None:
    """From the free slot (closed loop, capped open loop) or the intended time (open loop) to the actual send."""
    if record.sent_ns is None:
        return None
    return record.sent_ns - (record.intended_ns if record.ready_ns is None else record.ready_ns)


def tainted_requests(records: Iterable[RequestRecord], lags: Sequence[LagSample]) -> tuple[int, ...]:
    """Indexes of requests of which some token was stamped while the loop lagged, ascending.

    A lag sample at `at_ns` says that the loop did not come round in `[at_ns - lag_ns, at_ns]`; bytes of that time were
    stamped at its end. `lags` in order of time, as `HealthSampler.lags` gives them.
    """
    ends = [lag.at_ns for lag in lags]

    def is_touched(chunk_ns: Sequence[int]) -> bool:
        if not chunk_ns:
            return False
        for place in range(bisect_left(ends, chunk_ns[0]), len(lags)):
            began_ns = lags[place].at_ns - lags[place].lag_ns
            if began_ns > chunk_ns[-1]:
                return False
            # A window a bisection, not a chunk: there are far fewer of them.
            first = bisect_left(chunk_ns, began_ns)
            if first < len(chunk_ns) and chunk_ns[first] <= ends[place]:
                return True
        return False

    return tuple(sorted(record.index for record in records if is_touched(record.chunk_ns)))
