"""One run of a history as trends show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

__all__ = ["TrendRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRun:
    """One run of the page; `rounds` holds a metric's figure of each of the run's rounds (absent: not measured)."""

    run_id: str
    release: str
    started_at: datetime
    verdict: str
    metrics: Mapping[str, float]
    rounds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    found: tuple[str, ...] = ()
