"""Writes the reports of a run into its directory; the only module of this package that touches the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pytest_mooncake.report import ci, document, html, markdown, openmetrics
from pytest_mooncake.report.document import Report
from pytest_mooncake.report.labels import Lang

WRITERS: tuple[tuple[str, Callable[[Report, Lang], str]], ...] = (
    ("report.json", lambda report, _lang: document.as_text(report)),
    ("report.md", markdown.render),
    ("report.html", html.render),
    ("verdict.json", lambda report, _lang: ci.verdict_text(report)),
    ("metrics.prom", lambda report, _lang: openmetrics.text(report)),
)


def write_reports(report: Report, directory: Path, *, lang: Lang = "en") -> tuple[Path, ...]:
    """Write every report file into `directory`, replacing older ones; each appears whole or not at all.

    Returns:
        Their paths, `report.json` first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return tuple(_write(directory / name, make(report, lang)) for name, make in WRITERS)


def _write(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
    return path
