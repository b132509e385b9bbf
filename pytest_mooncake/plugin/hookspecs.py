"""Hooks that other plugins and `conftest.py` files may implement; loaded by every pytest, so this stays light."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_mooncake.report.content.document import Report


@pytest.hookspec
def pytest_mooncake_write_report(report: Report, directory: Path, lang: str) -> Path | Sequence[Path] | None:
    """Write a report of your own beside those of the run.

    Called once, after the run was judged and its own reports were written, and again when a run is replayed. What it
    raises is told in one line and changes neither verdict nor exit code.

    Args:
        report: the judged run; `report.to_json()` is what `report.json` holds.
        directory: the run's directory.
        lang: `en` or `zh`.

    Returns:
        What was written, to be listed with the other files; `None` for nothing.
    """


@pytest.hookspec
def pytest_mooncake_report_written(report: Report, directory: Path, files: Sequence[Path]) -> None:
    """Look at a run's reports once all of them are written: upload them, notify somebody.

    Args:
        report: the judged run.
        directory: the run's directory.
        files: every report file, those of other writers last.
    """
