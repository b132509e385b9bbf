"""Live progress on a terminal, plain lines elsewhere.

`say` prints a line that stays. `tick` shows what is going on right now: on a terminal it rewrites one line, in a log
(CI) it prints at most one line every `PLAIN_EVERY_S` seconds so that a silent job can be told from a dead one.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from typing import Protocol

PLAIN_EVERY_S = 15.0
LIVE_EVERY_S = 0.1


class Progress(Protocol):
    """Where a run says what it is doing. Safe to call from any thread."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def tick(self, text: str) -> None:
        """What is going on right now."""


class Silent:
    """Says nothing: `-q -q` and tests."""

    def say(self, line: str) -> None:
        """Drop the line."""

    def tick(self, text: str) -> None:
        """Drop the text."""


class Console:
    """Progress through `write`, which takes raw text and flushes it."""

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
        columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._write = write
        self._live = live
        self._clock = clock
        self._columns = columns
        self._shown = 0
        self._last_tick_s = float("-inf")
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """Print `line`, wiping the live line first."""
        with self._lock:
            self._write(f"{self._wipe()}{line}\n")

    def tick(self, text: str) -> None:
        """Show `text` as the live line, or now and then as a plain one."""
        with self._lock:
            every_s = LIVE_EVERY_S if self._live else PLAIN_EVERY_S
            now_s = self._clock()
            if now_s - self._last_tick_s < every_s:
                return
            self._last_tick_s = now_s
            if not self._live:
                self._write(f"  {text}\n")
                return
            shown = text[: max(10, self._columns() - 1)]
            self._write(f"{self._wipe()}{shown}")
            self._shown = len(shown)

    def _wipe(self) -> str:
        if not self._shown:
            return ""
        blank = f"\r{' ' * self._shown}\r"
        self._shown = 0
        return blank
