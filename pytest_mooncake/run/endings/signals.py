"""Signals that end a run: Ctrl-C, SIGTERM (Kubernetes, CI) and SIGHUP (a terminal that goes away).

While a run is measured the first of them ends it as Ctrl-C does. What must not be cut short (judging, reports, the
history) is `held`: a signal that comes meanwhile ends the run right after it. Once a run is ending, further signals
change nothing: whoever asks twice gets the report too. SIGTERM and SIGHUP, and a second Ctrl-C, start a clock: when it
runs out the process ends as it is, because Kubernetes kills 30 s after SIGTERM and would not let it say why. Files
appear whole or not at all, and processes that were started here end with their parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from pytest_mooncake.errors import ExitCode

__all__ = ["LIMIT_S", "handled", "held"]

LIMIT_S = 18.0
"""From the first SIGTERM to the end of the process, at most."""
ENDING = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
_LAST_WORDS = b"\npytest-mooncake: not done within the time that is left after a signal; what was measured is kept\n"

Handler = Callable[[int, FrameType | None], object] | int | None


class _Watch:
    """What came so far, and whether it has to wait."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._clock: threading.Timer | None = None
        self._came = 0
        self._raised = False
        self._waits = False
        self.holding = 0

    def came(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal, in the main thread.

        Raises:
            KeyboardInterrupt: it is the first, and nothing is held.
        """
        self._came += 1
        if number != signal.SIGINT or self._came > 1:
            self._start_clock()
        if self.holding:
            self._waits = True
        else:
            self._interrupt()

    def released(self) -> None:
        """Go on with a signal that had to wait.

        Raises:
            KeyboardInterrupt: there is one, and the run is not ending already.
        """
        if self._waits and not self.holding:
            self._interrupt()

    def _interrupt(self) -> None:
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _start_clock(self) -> None:
        if self._clock is None:
            self._clock = threading.Timer(LIMIT_S, self._end)
            self._clock.daemon = True
            self._clock.start()

    def over(self) -> None:
        """Stop the clock: what there was to end has ended."""
        if self._clock is not None:
            self._clock.cancel()


_watch: _Watch | None = None


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handle the signals; within another such block, and outside the main thread, nothing is changed.

    A signal that the process ignores (`nohup`, a shell's background job) stays ignored.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _watch = watch = _Watch(_end_now)
    before = _set({number: watch.came for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN})
    try:
        yield
    finally:
        _set(before)
        watch.over()
        _watch = None


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let what is inside be finished before a signal ends the run.

    Raises:
        KeyboardInterrupt: a signal came meanwhile, and the run is not ending already.
    """
    watch = _watch
    if watch is None:
        yield
        return
    watch.holding += 1
    try:
        yield
    finally:
        watch.holding -= 1
    watch.released()


def _set(handlers: Mapping[signal.Signals, Handler]) -> dict[signal.Signals, Handler]:
    """Set handlers; returns those that were set before. One that was not set from Python is left alone."""
    before: dict[signal.Signals, Handler] = {}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not None:
            before[number] = signal.signal(number, handler)
    return before


def _end_now() -> None:
    with contextlib.suppress(OSError):
        os.write(2, _LAST_WORDS)
    os._exit(ExitCode.INTERRUPTED)
