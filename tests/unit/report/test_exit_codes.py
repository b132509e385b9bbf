"""One report, one set of exit codes, whoever asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.analysis.regression.alarm import PastRun, compare_release
from pytest_mooncake.analysis.regression.release import ReleaseFinding, finding_of
from pytest_mooncake.analysis.regression.versus import Versus, VersusMetric
from pytest_mooncake.records import Crash, Verdict
from pytest_mooncake.report import exit_codes
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats import ci
from tests.support import runs


def released(verdict: Verdict | None) -> ReleaseFinding:
    run = PastRun(run_id="r", release="v", fingerprint="f", metrics={})
    return replace(finding_of(compare_release(run, []), None), verdict=verdict)


def slower() -> Versus:
    one = VersusMetric(metric="m", title="m", ratio=1.5, ci_ratio=(1.4, 1.6), standing="slower")
    return Versus(visits=3, confidence=0.9, metrics=(one,))


def quick(report: Report, *, unfinished: str | None = None) -> Report:
    judged = replace(report.judgement, details={**report.judgement.details, "unfinished": unfinished})
    return replace(report, plan={**report.plan, "quick": True}, judgement=judged)


@pytest.mark.parametrize(("verdict", "code"), [("PASS", 0), ("FAIL", 1), ("INCONCLUSIVE", 10), ("INVALID", 11)])
def test_a_verdict_has_its_own_code_from_commands_and_anything_but_a_pass_is_1_from_pytest(
    verdict: str, code: int
) -> None:
    report = runs.report(Verdict(verdict))
    assert exit_codes.of_command(report) == code
    assert exit_codes.of_command(report, fail_only=True) == int(verdict == "FAIL")
    assert exit_codes.of_pytest(report) == int(verdict != "PASS")


@pytest.mark.parametrize("release", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_a_release_that_is_worse_than_its_past_counts_for_both(release: Verdict) -> None:
    report = runs.report(release=released(release))
    assert report.verdict is Verdict.PASS
    assert exit_codes.of_pytest(report) == 1
    assert exit_codes.of_command(report) == exit_codes.CODES[release] == ci.verdict_json(report)["exit_code"]


def test_slower_in_turns_counts_for_both() -> None:
    report = runs.report(versus=slower())
    assert (exit_codes.of_pytest(report), exit_codes.of_command(report)) == (1, 10)


@pytest.mark.parametrize(("verdict", "code"), [("PASS", 0), ("FAIL", 1), ("INCONCLUSIVE", 0), ("INVALID", 0)])
def test_a_quick_run_exits_0_unless_the_product_is_at_fault(verdict: str, code: int) -> None:
    report = quick(runs.report(Verdict(verdict)))
    assert exit_codes.of_pytest(report) == code
    assert exit_codes.of_command(report) == exit_codes.CODES[Verdict(verdict)], "pipelines are told the verdict"


@pytest.mark.parametrize("unfinished", ["time_limit", "failed", "interrupted"])
def test_a_quick_run_that_did_not_end_by_itself_is_not_accepted(unfinished: str) -> None:
    assert exit_codes.of_pytest(quick(runs.report(Verdict.INCONCLUSIVE), unfinished=unfinished)) == 1


def test_a_quick_run_with_a_confirmed_regression_is_not_accepted() -> None:
    report = quick(runs.report(Verdict.INCONCLUSIVE, release=released(Verdict.FAIL)))
    assert exit_codes.of_pytest(report) == 1


def test_without_a_verdict_commands_exit_4() -> None:
    report = runs.report(crash=Crash(type="KeyError", message="x"))
    assert exit_codes.of_command(report) == exit_codes.of_command(report, fail_only=True) == 4


def test_the_reference_page_has_the_table_of_the_code() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("|")] == exit_codes.table().splitlines()


def test_the_readme_says_the_codes_that_pytest_exits_with() -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    for verdict in Verdict:
        row = next(line for line in readme.splitlines() if line.startswith(f"| **{verdict}**"))
        assert row.endswith(f"| {exit_codes.of_pytest(runs.report(verdict))} |")
