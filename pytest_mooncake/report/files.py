"""Writes the reports of a run into its directory; the only module of this package that touches the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mooncake.report import ci, document, html, junit, markdown, openmetrics
from pytest_mooncake.report.document import Report
from pytest_mooncake.report.labels import Lang


@dataclass(frozen=True, slots=True)
class Text:
    """One report file: its name and how it is made."""

    name: str
    make: Callable[[Report, Lang], str]


JSON = Text("report.json", lambda report, _lang: document.as_text(report))
MARKDOWN = Text("report.md", markdown.render)
HTML = Text("report.html", html.render)
VERDICT = Text("verdict.json", lambda report, _lang: ci.verdict_text(report))
OPENMETRICS = Text("metrics.prom", lambda report, _lang: openmetrics.text(report))
COMMENT = Text("comment.md", ci.comment)
SUMMARY = Text("summary.md", ci.step_summary)
ANNOTATION = Text("annotation.txt", lambda report, lang: ci.annotation(report, lang) + "\n")
JUNIT = Text("junit.xml", junit.render)

OF_A_RUN = (JSON, MARKDOWN, HTML, VERDICT, OPENMETRICS, COMMENT)
"""What every run leaves behind; pytest itself writes JUnit (`--junitxml`), GitHub's runner collects the rest."""
TEXTS: Mapping[str, tuple[Text, ...]] = {
    "json": (JSON, VERDICT),
    "md": (MARKDOWN,),
    "html": (HTML,),
    "openmetrics": (OPENMETRICS,),
    "github": (SUMMARY, COMMENT, ANNOTATION),
    "junit": (JUNIT,),
}
"""The files of a format; the first of them stands for it where only one text can be given."""


def write_reports(report: Report, directory: Path, *, lang: Lang = "en") -> tuple[Path, ...]:
    """Write every report file of a run into `directory`; see `write`."""
    return write(report, directory, OF_A_RUN, lang=lang)


def write(report: Report, directory: Path, texts: Sequence[Text], *, lang: Lang = "en") -> tuple[Path, ...]:
    """Write report files into `directory`, replacing older ones; each appears whole or not at all.

    Returns:
        Their paths, in the given order.

    Raises:
        OSError: the directory cannot be made or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return tuple(_write(directory / text.name, text.make(report, lang)) for text in texts)


def append_step_summary(report: Report, path: Path, *, lang: Lang = "en") -> None:
    """Append the short report to the file that a GitHub step shows; what does not fit is cut.

    Raises:
        OSError: the file cannot be written.
    """
    held_bytes = path.stat().st_size if path.exists() else 0
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(ci.step_summary(report, lang, held_bytes=held_bytes))


def _write(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
    return path
