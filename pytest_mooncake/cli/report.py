"""`pytest-mooncake report`: the reports of a recorded run again, in another format or language. Sends nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_mooncake.errors import UsageError

if TYPE_CHECKING:
    from pytest_mooncake.report.content.document import Report
    from pytest_mooncake.report.text.labels import Lang

ALL = "all"
FORMATS = "md|html|json|junit|github|openmetrics|all"


def report(
    directory: Annotated[Path, typer.Argument(help="Directory of a recorded run.", metavar="DIR")],
    format: Annotated[
        str, typer.Option("--format", metavar=FORMATS, help="github: step summary, comment and annotation.")
    ] = "md",
    lang: Annotated[str | None, typer.Option("--lang", metavar="en|zh", help="Default: the run's own.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Directory to write to (default: standard output).", metavar="DIR")
    ] = None,
) -> None:
    """Report a recorded run again: the same record gives the same bytes."""
    from pytest_mooncake.journal import read
    from pytest_mooncake.report.formats.write import TEXTS
    from pytest_mooncake.report.text.labels import LANGUAGES
    from pytest_mooncake.run.endings.crash import about
    from pytest_mooncake.run.runner import reported

    _check("--format", format, (*TEXTS, ALL))
    if lang is not None:
        _check("--lang", lang, LANGUAGES)
    if format == ALL and output is None:
        raise UsageError("--format all writes several files: give --output DIR as well")
    with about(directory):
        recorded = read(directory)
        made, _ = reported(recorded)
        language = next((known for known in LANGUAGES if known == lang), recorded.plan.lang)
        if output is None:
            sys.stdout.write(TEXTS[format][0].make(made, language))
            return
        for path in _written(made, format, output, language):
            typer.echo(f"wrote {path}")


def _check(option: str, given: str, known: Iterable[str]) -> None:
    if given not in (names := tuple(known)):
        raise UsageError(f"{option} {given}: expected one of {', '.join(names)}")


def _written(made: Report, wanted: str, directory: Path, lang: Lang) -> tuple[Path, ...]:
    """Write the files of a format.

    Raises:
        UsageError: the directory cannot be written to, or holds other files of these names.
    """
    from pytest_mooncake.report.formats.write import TEXTS, refuse_foreign, write

    texts = [text for name, known in TEXTS.items() for text in known if wanted in {ALL, name}]
    refuse_foreign(directory, texts)
    try:
        return write(made, directory, texts, lang=lang)
    except OSError as error:
        raise UsageError(f"--output {directory}: cannot be written to ({error.strerror})") from None
