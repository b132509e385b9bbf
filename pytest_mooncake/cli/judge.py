"""`pytest-mooncake judge`: figures from elsewhere held against each other and against targets. Sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from pytest_mooncake.cli.saying import say
from pytest_mooncake.errors import PlanError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pytest_mooncake.analysis.audit.external_figures import Figures
    from pytest_mooncake.report.content.document import Report
    from pytest_mooncake.report.text.labels import Lang

M = TypeVar("M", bound="BaseModel")


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
    from pytest_mooncake.report import exit_codes
    from pytest_mooncake.report.formats.terminal import summary_lines
    from pytest_mooncake.report.formats.write import write_reports
    from pytest_mooncake.run.endings.crash import about

    language = _lang(lang)
    here = Path.cwd()
    directory = _unused(report or here / "mooncake-report" / f"judged-{figures.stem}")
    with about(directory, run_id=figures.stem):
        made = judged_report(figures, here, targets=targets, economics=economics)
        files = write_reports(made, directory, lang=language)
        say(summary_lines(made, files=files, lang=language))
        raise typer.Exit(exit_codes.of_command(made))


def judged_report(
    path: Path, invocation_dir: Path, *, targets: str = "default", economics: str | None = None
) -> Report:
    """Judge a file of figures.

    Args:
        path: YAML file or CSV table.
        invocation_dir: where names of targets, economics and hardware sheets are looked up first.
        targets: NAME or path of the claims.
        economics: NAME or path of the costs; `None`: no business case.

    Raises:
        PlanError: a file cannot be read or holds what does not belong (one line a finding, with file and line).
        UsageError: there is no such file or name.
    """
    from pytest_mooncake.analysis.claims.point_estimates import judge_figures
    from pytest_mooncake.plan.models import EconomicsPlan, TargetsPlan
    from pytest_mooncake.plan.sources.figures import read_figures
    from pytest_mooncake.report.content.build_from_figures import build

    given, mapping = read_figures(path, invocation_dir)
    figures = _figures(path, mapping)
    claims = _named("targets", targets, invocation_dir, TargetsPlan)
    return build(
        figures,
        judge_figures(figures, claims),
        name=path.stem,
        targets=claims.claims,
        economics=None if economics is None else _named("economics", economics, invocation_dir, EconomicsPlan),
        label=given.description or None,
        date=given.date,
    )


def _figures(path: Path, mapping: dict[str, Any]) -> Figures:
    from pytest_mooncake.analysis.audit.external_figures import figures_from_mapping

    try:
        return figures_from_mapping(mapping)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def _named(kind: Literal["targets", "economics"], value: str, invocation_dir: Path, model: type[M]) -> M:
    from pytest_mooncake.plan.sources.lookup import find
    from pytest_mooncake.plan.sources.yaml_loader import load

    path = find(kind, value, invocation_dir, option=f"--{kind}")
    return load(path, model, name=path.stem)


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
