"""How live progress reads: pure functions from what is known now to one line."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.report.labels import Lang, catalogue
from pytest_mooncake.report.numbers import duration, quantity


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
