"""Live progress on a terminal, plain lines elsewhere.

`say` prints a line that stays. `tick` shows what is going on right now: on a terminal it rewrites one line, in a log
(CI) it prints at most one line every `PLAIN_EVERY_S` seconds so that a silent job can be told from a dead one.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pytest_mooncake.report.text.labels import Lang, catalogue
from pytest_mooncake.report.text.numbers import duration, quantity

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


WARNING = "WARNING: "
"""How a line begins that is said although little is to be said."""


class Quiet:
    """Says warnings alone: `-q`. What may concern somebody else's store is said before anything is sent to it."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def say(self, line: str) -> None:
        """Print a warning, drop any other line."""
        if line.startswith(WARNING):
            self._write(f"\n{line}\n")  # pytest -q has dots on the line

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundProgress:
    """A round under way. `name` is how people call it (`C0`, `W1`); `elapsed_s` counts from its start."""

    name: str
    kind: str
    done: int
    planned: int
    failed: int
    elapsed_s: float
    ttft_ms: float | None = None

    @property
    def rate_per_s(self) -> float | None:
        """Requests done per second, `None` before the first."""
        return self.done / self.elapsed_s if self.done and self.elapsed_s > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds until the rest is done at this rate, `None` before the first and after the last."""
        rate = self.rate_per_s
        return (self.planned - self.done) / rate if rate and self.done < self.planned else None


def progress_line(progress: RoundProgress, lang: Lang = "en") -> str:
    """One line: round, requests done, TTFT so far, rate, failures, time left; what is not known is left out.

    >>> progress_line(RoundProgress(name="W1", kind="warm", done=10, planned=30, failed=0, elapsed_s=5.0))
    'W1 warm  10/30 requests, 2.0 req/s, about 10 s left'
    """
    words = catalogue(lang)
    kind = words(f"word.{progress.kind}_short")
    parts = [words("progress.line", name=progress.name, kind=kind, done=progress.done, planned=progress.planned)]
    if progress.ttft_ms is not None:
        parts.append(words("progress.ttft", value=quantity(progress.ttft_ms)))
    if progress.rate_per_s is not None:
        parts.append(words("progress.rate", value=quantity(progress.rate_per_s)))
    if progress.failed:
        parts.append(words("progress.failed", n=progress.failed))
    if progress.left_s is not None:
        parts.append(words("progress.left", time=duration(progress.left_s)))
    return ", ".join(parts)
