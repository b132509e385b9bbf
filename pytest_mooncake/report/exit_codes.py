"""From a report to exit codes: the one place that pytest, the commands and the files for pipelines ask.

`Report.gate` is the verdict on which a pipeline acts: the run's own, made no better by its release's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_mooncake.errors import ExitCode
from pytest_mooncake.records import Verdict

if TYPE_CHECKING:
    from pytest_mooncake.report.content.document import Report

__all__ = ["CODES", "NO_VERDICT", "TABLE", "of_command", "of_pytest", "table"]

CODES: Mapping[Verdict, ExitCode] = MappingProxyType(
    {
        Verdict.PASS: ExitCode.OK,
        Verdict.FAIL: ExitCode.FAIL,
        Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        Verdict.INVALID: ExitCode.INVALID,
    }
)
NO_VERDICT = ExitCode.NOTHING_MEASURED
"""An error of this package itself is no verdict."""

_OF_A_VERDICT = {code: verdict.value for verdict, code in CODES.items()}
_USAGE = {ExitCode.INTERRUPTED: "usage"}
TABLE: Mapping[str, Mapping[ExitCode, str]] = MappingProxyType(
    {
        "`pytest acceptance/`": {
            ExitCode.OK: "accepted, or a quick run without a fault",
            ExitCode.FAIL: "the verdict is not PASS, a release is not as good as its past, or a test failed",
            ExitCode.INTERRUPTED: "interrupted: what was measured is kept and reported",
            ExitCode.INTERNAL_ERROR: "internal error",
            ExitCode.NOTHING_MEASURED: "nothing could be measured",
        },
        "`pytest-mooncake verdict DIR`": {
            **_OF_A_VERDICT,
            **_USAGE,
            ExitCode.NOTHING_MEASURED: "nothing to judge, internal error",
        },
        "`pytest-mooncake verdict DIR --fail-only`": {
            ExitCode.OK: "PASS, INCONCLUSIVE, INVALID",
            ExitCode.FAIL: "FAIL",
            **_USAGE,
            ExitCode.NOTHING_MEASURED: "nothing to judge, internal error",
        },
        "`pytest-mooncake judge FILE`": {
            **_OF_A_VERDICT,
            **_USAGE,
            ExitCode.NOTHING_MEASURED: "the file cannot be read, internal error",
        },
        "other commands": {
            ExitCode.OK: "done",
            ExitCode.FAIL: "`doctor`: errors; `stack status`: none runs",
            **_USAGE,
            ExitCode.NOTHING_MEASURED: "could not be done, internal error",
        },
    }
)
"""What each code means, by what exits with it: the table of `docs/reference/exit-codes.md`."""


def table() -> str:
    """`TABLE` in Markdown; a test holds the reference page to it."""
    head = ["command", *(f"{code}" for code in ExitCode)]
    rows = [[command, *(meanings.get(code, "–") for code in ExitCode)] for command, meanings in TABLE.items()]
    first, *others = (f"| {' | '.join(row)} |\n" for row in (head, *rows))
    return first + f"|{'---|' * len(head)}\n" + "".join(others)


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
