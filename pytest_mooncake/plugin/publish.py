"""What happens to a report once it is written: other writers add theirs, a pipeline's summary gets its part.

Nothing here can fail a run: what goes wrong becomes a line for the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_mooncake.report.content.document import Report
    from pytest_mooncake.report.text.labels import Lang

OF_OTHERS = (Exception, SystemExit, pytest.fail.Exception, pytest.skip.Exception)
"""What a hook may end with that ends neither the run nor pytest; Ctrl-C and `pytest.exit` do."""
STEP_SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
ON_GITHUB_VARIABLE = "GITHUB_ACTIONS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Files that others wrote, and lines about what went wrong."""

    files: tuple[Path, ...] = ()
    complaints: tuple[str, ...] = ()


def publish(
    hook: Any, report: Report, directory: Path, files: Sequence[Path], *, environ: Mapping[str, str], lang: Lang
) -> Published:
    """Let other writers write, then tell everybody what is there.

    Args:
        hook: pytest's `config.hook` (or anything with the hooks of `pytest_mooncake.plugin.hookspecs`).
        report: the judged run.
        directory: where its reports are.
        files: the reports that are written already.
        environ: the environment; names the file of a step summary on GitHub.
        lang: language of the reports.
    """
    complaints: list[str] = []
    added: tuple[Path, ...] = ()
    try:
        added = _paths(hook.pytest_mooncake_write_report(report=report, directory=directory, lang=lang))
        hook.pytest_mooncake_report_written(report=report, directory=directory, files=(*files, *added))
    except OF_OTHERS as error:  # somebody else's code may raise anything and must not cost the run
        complaints.append(f"a report hook of another plugin failed: {type(error).__name__}: {error}")
    if environ.get(STEP_SUMMARY_VARIABLE):
        complaints += _step_summary(report, Path(environ[STEP_SUMMARY_VARIABLE]), lang)
    return Published(files=added, complaints=tuple(complaints))


def workflow_commands(report: Report, environ: Mapping[str, str], lang: Lang) -> tuple[str, ...]:
    """The workflow commands to print on GitHub, nothing elsewhere."""
    if environ.get(ON_GITHUB_VARIABLE) != "true":
        return ()
    from pytest_mooncake.report.formats.ci import annotation

    return (annotation(report, lang),)


def _paths(results: Sequence[Any]) -> tuple[Path, ...]:
    """What the writers returned, each a path or several."""
    found: list[Path] = []
    for result in results:
        found += [Path(result)] if isinstance(result, str | Path) else [Path(path) for path in result]
    return tuple(found)


def _step_summary(report: Report, path: Path, lang: Lang) -> list[str]:
    from pytest_mooncake.report.formats.write import append_step_summary

    try:
        append_step_summary(report, path, lang=lang)
    except OSError as error:
        return [f"{STEP_SUMMARY_VARIABLE}: {path} cannot be written ({error.strerror}); the step has no summary of it"]
    return []
