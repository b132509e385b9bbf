"""Writes the reports of a run into its directory; the only module of this package that touches the disk."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mooncake.errors import ReportError, UsageError
from pytest_mooncake.report.content import document
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats import ci, html, junit, markdown, openmetrics
from pytest_mooncake.report.text.labels import Lang


@dataclass(frozen=True, slots=True)
class Text:
    """One report file: its name, what stands near its beginning and in no other tool's file, and how it is made."""

    name: str
    mark: str
    make: Callable[[Report, Lang], str]


JSON = Text("report.json", '"schema": "pytest-mooncake/report/', lambda report, _lang: document.as_text(report))
MARKDOWN = Text("report.md", "# Mooncake KV Cache", markdown.render)
HTML = Text("report.html", "Mooncake KV Cache", html.render)
VERDICT = Text("verdict.json", '"schema": "pytest-mooncake/verdict/', lambda report, _lang: ci.verdict_text(report))
OPENMETRICS = Text("metrics.prom", "# TYPE mooncake_verdict", lambda report, _lang: openmetrics.text(report))
COMMENT = Text("comment.md", ci.COMMENT_MARK, ci.comment)
SUMMARY = Text("summary.md", "## pytest-mooncake:", ci.step_summary)
ANNOTATION = Text("annotation.txt", "title=pytest-mooncake", lambda report, lang: ci.annotation(report, lang) + "\n")
JUNIT = Text("junit.xml", '<testsuites name="pytest-mooncake"', junit.render)

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
_HEAD_BYTES = 4096


def write_reports(report: Report, directory: Path, *, lang: Lang = "en") -> tuple[Path, ...]:
    """Write every report file of a run into `directory`; see `write`.

    Raises:
        ReportError: the directory cannot be made or written to, or the disk is full.
    """
    try:
        return write(report, directory, OF_A_RUN, lang=lang)
    except OSError as error:
        raise ReportError(f"{directory}: reports cannot be written to it ({error.strerror or error})") from None


def write(report: Report, directory: Path, texts: Sequence[Text], *, lang: Lang = "en") -> tuple[Path, ...]:
    """Write report files into `directory`, replacing older ones; each appears whole or not at all.

    Returns:
        Their paths, in the given order.

    Raises:
        OSError: the directory cannot be made or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return tuple(_write(directory / text.name, text.make(report, lang)) for text in texts)


def refuse_foreign(directory: Path, texts: Sequence[Text] = OF_A_RUN) -> None:
    """Refuse a directory in which a file that would be written over is no report of ours.

    Raises:
        UsageError: there is one; it is named.
    """
    for text in texts:
        path = directory / text.name
        if os.path.lexists(path) and not is_ours(path, text):
            raise UsageError(f"{path} is there already and no report of pytest-mooncake: name another directory")


def is_ours(path: Path, text: Text) -> bool:
    """Whether a file is this report, of whatever run; a link to one is not."""
    try:
        with path.open("rb") as file:
            return not path.is_symlink() and text.mark.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def append_step_summary(report: Report, path: Path, *, lang: Lang = "en") -> None:
    """Append the short report to the file that a GitHub step shows; what does not fit is cut.

    Raises:
        OSError: the file cannot be written.
    """
    held_bytes = path.stat().st_size if path.exists() else 0
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(ci.step_summary(report, lang, held_bytes=held_bytes))


def _write(path: Path, text: str) -> Path:
    """Write a file under a name that nobody knows beforehand, then give it its own in one step."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return path
