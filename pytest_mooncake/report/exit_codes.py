"""From a report to exit codes: the one place that pytest, the commands and the files for pipelines ask.

`Report.gate` is the verdict on which a pipeline acts: the run's own, made no better by its release's.
"""

from __future__ import annotations

from pytest_mooncake.records import Verdict
from pytest_mooncake.report.content.document import Report

__all__ = ["CODES", "NO_VERDICT", "of_command", "of_pytest"]

CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 10, Verdict.INVALID: 11}
NO_VERDICT = 4
"""An error of this package itself is no verdict."""


def of_command(report: Report, *, fail_only: bool = False) -> int:
    """What `verdict` and `judge` exit with; `fail_only` lets everything pass that is no FAIL."""
    if report.crash is not None:
        return NO_VERDICT
    code = CODES[report.gate]
    return int(report.gate is Verdict.FAIL) if fail_only else code


def of_pytest(report: Report) -> int:
    """What pytest exits with, whatever tests were selected: 0 accepted, else 1.

    A quick run is for trying things out: once it has ended by itself only a FAIL keeps it from 0.
    """
    if report.plan.get("quick") and not report.judgement.details.get("unfinished"):
        return int(report.gate is Verdict.FAIL)
    return int(report.gate is not Verdict.PASS)
