"""The journal: the only thing written while measuring, and all that judging and reporting read."""

from __future__ import annotations

from pytest_mooncake.journal.reading import (
    CRASH,
    CRASHED,
    DECIDED,
    EVENTS_FILE,
    FAILED,
    HISTORY,
    INTERRUPTED,
    KILLED,
    PLAN_FILE,
    REQUESTS_FILE,
    TIME_LIMIT,
    Recorded,
    read,
)
from pytest_mooncake.journal.values import view_of
from pytest_mooncake.journal.writer import Journal, append_event, refuse_used

__all__ = [
    "CRASH",
    "CRASHED",
    "DECIDED",
    "EVENTS_FILE",
    "FAILED",
    "HISTORY",
    "INTERRUPTED",
    "KILLED",
    "PLAN_FILE",
    "REQUESTS_FILE",
    "TIME_LIMIT",
    "Journal",
    "Recorded",
    "append_event",
    "read",
    "refuse_used",
    "view_of",
]
