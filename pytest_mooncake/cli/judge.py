"""`pytest-mooncake judge`: figures from elsewhere held against each other and against targets. Sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_mooncake.cli.saying import say
from pytest_mooncake.errors import UsageError

if TYPE_CHECKING:
    from pytest_mooncake.report.text.labels import Lang


def judge(
    figures: Annotated[
        Path, typer.Argument(help="YAML file or CSV table of cold and warm figures.", metavar="FIGURES")
    ],
    economics: Annotated[
        str | None, typer.Option("--economics", metavar="NAME|PATH", help="Costs for the business case.")
    ] = None,
    targets: Annotated[
        str, typer.Option("--targets", metavar="NAME|PATH", help="Claims that the figures are held against.")
    ] = "default",
    lang: Annotated[str, typer.Option("--lang", metavar="en|zh", help="Language of summary and reports.")] = "en",
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Where the reports go (default: mooncake-report/judged-FIGURES)."),
    ] = None,
) -> None:
    """Judge figures from elsewhere: 0 PASS, 1 FAIL, 10 INCONCLUSIVE, 11 INVALID.

    One pair of figures carries no spread, so it is INCONCLUSIVE at best; a broken law of the audit makes it INVALID.
    """
    from pytest_mooncake.api import judge as judge_figures
    from pytest_mooncake.plan.sources.lookup import find
    from pytest_mooncake.report import exit_codes
    from pytest_mooncake.report.formats.terminal import summary_lines
    from pytest_mooncake.report.formats.write import write_reports
    from pytest_mooncake.run.endings.crash import about

    language, here = _lang(lang), Path.cwd()
    directory = _unused(report or here / "mooncake-report" / f"judged-{figures.stem}")
    with about(directory, run_id=figures.stem):
        made = judge_figures(
            figures,
            targets=find("targets", targets, here, option="--targets"),
            economics=None if economics is None else find("economics", economics, here, option="--economics"),
            base=here,
        )
        files = write_reports(made, directory, lang=language)
        say(summary_lines(made, files=files, lang=language))
        raise typer.Exit(exit_codes.of_command(made))


def _lang(text: str) -> Lang:
    from pytest_mooncake.report.text.labels import LANGUAGES

    found = next((known for known in LANGUAGES if known == text), None)
    if found is None:
        raise UsageError(f"--lang {text}: expected one of {', '.join(LANGUAGES)}")
    return found


def _unused(directory: Path) -> Path:
    """Reports of given figures never stand among the files of a run, nor in the place of somebody else's."""
    from pytest_mooncake.journal import PLAN_FILE
    from pytest_mooncake.report.formats.write import refuse_foreign

    if (directory / PLAN_FILE).exists():
        raise UsageError(f"--report {directory}: this directory already holds a run; name another one")
    refuse_foreign(directory)
    return directory
