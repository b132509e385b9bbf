"""How an error of this package itself is told: in one line, and in `report.json`."""

from __future__ import annotations

from pytest_mooncake.records import Crash
from pytest_mooncake.report.text import escape
from pytest_mooncake.report.text.labels import catalogue

__all__ = ["TRACEBACK", "internal_error_json", "sentence"]

TRACEBACK = "internal-error.txt"
"""The file that holds the traceback, in the directory of the run."""


def sentence(crash: Crash) -> str:
    """What happened, in one line, as reports and terminals say it in English."""
    return f"internal error of pytest-mooncake, no verdict: {escape.one_line(f'{crash.type}: {crash.message}')}"


def internal_error_json(crash: Crash | None) -> dict[str, str] | None:
    """`internal_error` of `report.json` and `verdict.json`."""
    if crash is None:
        return None
    words = catalogue("en")
    return {"type": crash.type, "message": crash.message, "report_to": words("crash.report_to", file=TRACEBACK)}
