"""What suites, notebooks and other tools import; everything else in this package may move without notice.

Importing this module is cheap: it loads nothing but the standard library. What a name needs (numpy, pydantic, …) is
loaded when that name is first used.

    from pytest_mooncake.api import Verdict, judge, read_run, report

    run = read_run("mooncake-report/latest")
    print(run.judgement.verdict, run.warm.summary.ttft_ms.p90)
    report(run, "for-the-release-manager", lang="zh")
    assert judge("vendor.yaml", targets="default").verdict is not Verdict.INVALID
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_mooncake.errors import (
    EndpointError,
    HistoryError,
    JournalError,
    MooncakeError,
    PlanError,
    StackError,
    UsageError,
    WorkloadError,
)
from pytest_mooncake.records import (
    CORRECTNESS,
    AuditFinding,
    Claim,
    Engine,
    Evidence,
    Fault,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    KVGeometry,
    Phase,
    RequestRecord,
    Round,
    Rung,
    RunNotes,
    StackView,
    Status,
    Store,
    Trial,
    Verdict,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pytest_mooncake.analysis.audit.external_figures import Figures
    from pytest_mooncake.analysis.figures.summary import Spread, Summary
    from pytest_mooncake.analysis.regression.release import ReleaseFinding
    from pytest_mooncake.analysis.regression.versus import Versus
    from pytest_mooncake.journal import Recorded
    from pytest_mooncake.plan.models import Plan
    from pytest_mooncake.plan.sources.figures import FiguresFile
    from pytest_mooncake.report.content.document import Report
    from pytest_mooncake.report.text.labels import Lang
    from pytest_mooncake.run.outcome import Outcome, RoundsOf
    from pytest_mooncake.stack.preflight import LintFinding, Severity

__all__ = [
    "CORRECTNESS",
    "AuditFinding",
    "Claim",
    "EndpointError",
    "Engine",
    "Evidence",
    "Fault",
    "Gate",
    "GateStatus",
    "HistoryError",
    "JournalError",
    "Judgement",
    "KVGeometry",
    "Kind",
    "LintFinding",
    "MooncakeError",
    "Outcome",
    "Phase",
    "Plan",
    "PlanError",
    "Recorded",
    "ReleaseFinding",
    "Report",
    "RequestRecord",
    "Round",
    "RoundsOf",
    "RunNotes",
    "Rung",
    "Severity",
    "Spread",
    "StackError",
    "StackView",
    "Status",
    "Store",
    "Summary",
    "Trial",
    "UsageError",
    "Verdict",
    "Versus",
    "WorkloadError",
    "facts_line",
    "judge",
    "lint_stack",
    "misfit",
    "read_run",
    "report",
]

M = TypeVar("M", bound="BaseModel")
_LOADED_WHEN_USED = {
    "LintFinding": ("pytest_mooncake.stack.preflight", "LintFinding"),
    "Outcome": ("pytest_mooncake.run.outcome", "Outcome"),
    "Plan": ("pytest_mooncake.plan.models", "Plan"),
    "Recorded": ("pytest_mooncake.journal", "Recorded"),
    "ReleaseFinding": ("pytest_mooncake.analysis.regression.release", "ReleaseFinding"),
    "Report": ("pytest_mooncake.report.content.document", "Report"),
    "RoundsOf": ("pytest_mooncake.run.outcome", "RoundsOf"),
    "Severity": ("pytest_mooncake.stack.preflight", "Severity"),
    "Spread": ("pytest_mooncake.analysis.figures.summary", "Spread"),
    "Summary": ("pytest_mooncake.analysis.figures.summary", "Summary"),
    "Versus": ("pytest_mooncake.analysis.regression.versus", "Versus"),
}
"""Types whose modules load more than the standard library: the same as under `TYPE_CHECKING`, for PEP 562."""


if not TYPE_CHECKING:  # a type checker that saw `__getattr__` would believe that every name is there

    def __getattr__(name: str) -> Any:
        """Load a type when it is first used.

        Raises:
            AttributeError: there is no such name.
        """
        if name not in _LOADED_WHEN_USED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, its_name = _LOADED_WHEN_USED[name]
        value = globals()[name] = getattr(importlib.import_module(module), its_name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def read_run(directory: Path | str) -> Outcome:
    """Read a recorded run and judge it again; nothing is written and nothing is sent.

    Args:
        directory: of the run (`plan.json`, `events.jsonl`, `requests.jsonl`), written by this version or an older one.

    Returns:
        What the run came to, as the fixture `mooncake_run` gives it; `files` is empty.

    Raises:
        JournalError: there is no record, it cannot be read, or no round of it was finished.
    """
    from pytest_mooncake.journal import read
    from pytest_mooncake.run.outcome import judged

    return judged(read(Path(directory)))


def judge(
    figures: Path | str | Mapping[str, object],
    *,
    targets: Path | str = "default",
    economics: Path | str | None = None,
    base: Path | None = None,
) -> Report:
    """Judge figures that were measured elsewhere; nothing is written and nothing is sent.

    One pair of figures carries no spread, so it is INCONCLUSIVE at best; a broken law of the audit makes it INVALID.

    Args:
        figures: path of a YAML file or CSV table, or the same as a mapping ([Figures to judge](figures.md)).
        targets: NAME or path of the claims.
        economics: NAME or path of the costs; `None`: no business case.
        base: where names and paths of targets and costs are looked up first; `None`: the current directory.

    Raises:
        PlanError: something cannot be read or holds what does not belong (one line a finding).
        UsageError: there is no such file or name.
    """
    from pytest_mooncake.analysis.claims.point_estimates import judge_figures
    from pytest_mooncake.plan.models import EconomicsPlan, TargetsPlan
    from pytest_mooncake.report.content.build_from_figures import build

    here = base or Path.cwd()
    name, given, held = _read_figures(figures, here)
    claims = _named("targets", targets, here, TargetsPlan)
    return build(
        held,
        judge_figures(held, claims),
        name=name,
        targets=claims.claims,
        economics=None if economics is None else _named("economics", economics, here, EconomicsPlan),
        label=given.description or None,
        date=given.date,
    )


def _read_figures(figures: Path | str | Mapping[str, object], here: Path) -> tuple[str, FiguresFile, Figures]:
    """What figures are called, what was given, and the figures themselves."""
    from pytest_mooncake.analysis.audit.external_figures import figures_from_mapping
    from pytest_mooncake.plan.sources.figures import figures_in, read_figures

    if isinstance(figures, Mapping):
        path, (given, mapping) = Path("figures"), figures_in(figures, here)
    else:
        path = Path(figures)
        given, mapping = read_figures(path, here)
    try:
        return path.stem, given, figures_from_mapping(mapping)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def _named(kind: Literal["targets", "economics"], value: Path | str, here: Path, model: type[M]) -> M:
    from pytest_mooncake.plan.sources.lookup import find
    from pytest_mooncake.plan.sources.yaml_loader import load

    path = find(kind, str(value), here, option=kind)
    return load(path, model, name=path.stem)


def report(run: Outcome | Report, directory: Path | str, *, lang: Lang | None = None) -> tuple[Path, ...]:
    """Write the reports of a run, or of judged figures, into a directory: the same run gives the same bytes.

    Args:
        run: what `read_run`, `judge` or the fixture `mooncake_run` gave.
        directory: is made where it is not there; reports of ours that lie there are written over.
        lang: `en` or `zh`; `None`: as the run was told to.

    Returns:
        The files: `report.json`, `report.md`, `report.html`, `verdict.json`, `metrics.prom`, `comment.md`.

    Raises:
        UsageError: the directory cannot be written to, holds other files of these names or the record of another run,
            or there is no such language.
    """
    from pytest_mooncake.journal import PLAN_FILE
    from pytest_mooncake.report.formats.write import refuse_foreign, write_reports
    from pytest_mooncake.report.text.labels import LANGUAGES
    from pytest_mooncake.run.outcome import Outcome

    made, own = (run.report, run.recorded.directory) if isinstance(run, Outcome) else (run, None)
    wanted = lang or made.plan.get("lang", "en")
    if wanted not in LANGUAGES:
        raise UsageError(f"lang {wanted}: expected one of {', '.join(LANGUAGES)}")
    there = Path(directory)
    if (there / PLAN_FILE).exists() and (own is None or there.resolve() != own.resolve()):
        raise UsageError(f"{there}: this directory holds the record of another run; name another one")
    refuse_foreign(there)
    return write_reports(made, there, lang=wanted)


def lint_stack(plan: Plan, stack: StackView, environ: Mapping[str, str] | None = None) -> tuple[LintFinding, ...]:
    """Lint a running stack against what a run is going to do, errors first; it is asked by GETs and nothing else.

    Args:
        plan: what will be run.
        stack: that runs.
        environ: where the API key is, by the name that the plan gives; `None`: the environment of this process.
    """
    from pytest_mooncake.run.preflight import inspect

    return inspect(plan, stack, os.environ if environ is None else environ)


def misfit(plan: Plan, stack: StackView) -> str | None:
    """Why a request of the workload does not fit the model's context; `None` where all do, or nobody tells."""
    from pytest_mooncake.run.plan_check import misfit as why

    return why(plan, stack)


def facts_line(claim: Claim) -> str:
    """The figures of a claim in one line, `metric=…, verdict=…, ratio=…`, for the text of a failed test."""
    from pytest_mooncake.report.formats.ci import facts_line as line

    return line(claim)
