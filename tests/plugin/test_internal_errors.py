"""An error of the package itself ends pytest with 3, in one line, and is never a verdict."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_mooncake.analysis.regression.alarm import PastRun, compare_release
from pytest_mooncake.analysis.regression.release import finding_of
from pytest_mooncake.journal import read
from pytest_mooncake.plugin import session
from pytest_mooncake.records import Verdict
from pytest_mooncake.report import exit_codes
from pytest_mooncake.report.content import build
from pytest_mooncake.report.formats import markdown, terminal, write
from pytest_mooncake.run import outcome, protocol
from pytest_mooncake.run.runner import Outcome
from tests.plugin.conftest import SIMULATED, Run

SHORT = "acceptance/test_performance.py"
STAGES = {
    "judging": (outcome, "judge"),
    "building": (build, "build"),
    "rendering": (markdown, "shared"),
    "history": (session, "with_release"),
    "publishing": (session, "publish"),
    "summary": (terminal, "summary_lines"),
    "exit code": (exit_codes, "of_pytest"),
}
"""Modules that are loaded here, once: an inner run forgets those that it was the first to import."""
INSIDE_A_TEST = """
def test_calls_us(run):
    from pytest_mooncake.report.formats.html import in_script

    in_script({"no": object()})
"""


def cancelled(*_: object, **__: object) -> None:
    raise asyncio.CancelledError("by nobody")


def exiting(*_: object, **__: object) -> None:
    raise SystemExit(1)


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("division by zero")


def assert_no_verdict(result: pytest.RunResult, directory: Any) -> None:
    said = result.stdout.str()
    assert result.ret == 3, said
    assert said.count("ERROR: internal error of pytest-mooncake, no verdict: ") == 1
    assert "INTERNALERROR" not in said
    told = json.loads((directory / "report.json").read_bytes())
    assert told["verdict"] is None
    assert told["internal_error"]["report_to"]
    assert "Traceback (most recent call last)" in (directory / "internal-error.txt").read_text(encoding="utf-8")


def test_whatever_crashes_after_the_measurement_there_is_no_verdict_and_the_next_try_has_one(
    suite: Run, pytester: pytest.Pytester
) -> None:
    assert suite(*SIMULATED, "--mooncake-quick", "--mooncake-report=run", where=SHORT).ret == 0
    for stage, target in STAGES.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*target, broken)
            result = suite("--mooncake-replay=run", f"--mooncake-report=again/{stage}", where=SHORT)
        assert_no_verdict(result, pytester.path / "again" / stage)
    (pytester.path / "acceptance" / "test_own.py").write_text(INSIDE_A_TEST, encoding="utf-8")
    result = suite("--mooncake-replay=run", "--mooncake-report=again/test", where="acceptance/test_own.py")
    assert_no_verdict(result, pytester.path / "again" / "test")
    assert suite("--mooncake-replay=run", "--mooncake-report=fine", where=SHORT).ret == 0


@pytest.mark.parametrize("how", [broken, cancelled, pytest.param(exiting, marks=pytest.mark.full)])
def test_a_crash_while_measuring_keeps_what_was_measured(
    suite: Run, pytester: pytest.Pytester, how: Callable[..., None]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol.Experiment, "_gate", how)
        result = suite(*SIMULATED, "--mooncake-quick", "--mooncake-report=run")
    assert_no_verdict(result, pytester.path / "run")
    assert result.parseoutcomes().get("errors", 0) <= 1
    assert read(pytester.path / "run").crash is not None, "whoever judges the record again learns of it"
    told = json.loads((pytester.path / "run" / "report.json").read_bytes())
    assert told["summary"]["cold"]["requests"] == 6


def test_a_crash_before_anything_is_measured_is_one_line(
    suite: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where, name in ((session, "open_stack"), (session.MooncakeSession, "claim_ids"), (session, "report_directory")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, broken)
            result = suite(*SIMULATED, f"--mooncake-report={name}")
        if name != "report_directory":  # else there is nowhere to keep it but mooncake-report
            assert_no_verdict(result, pytester.path / name)
        assert result.ret == 3
        assert "INTERNALERROR" not in result.stdout.str()
    monkeypatch.setattr(session, "resolve", broken)
    result = suite(*SIMULATED)
    assert result.ret == 3
    assert "internal error of pytest-mooncake, no verdict: ZeroDivisionError" in result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_a_confirmed_regression_is_not_accepted_whatever_tests_were_selected(suite: Run) -> None:
    def regressed(_options: object, _here: object, judged: Outcome, **_: object) -> Outcome:
        run = PastRun(run_id="r", release="v", fingerprint="f", metrics={})
        found = replace(finding_of(compare_release(run, []), None), verdict=Verdict.FAIL, words="slower, confirmed")
        return replace(judged, report=replace(judged.report, release=found))

    assert suite(*SIMULATED, "--mooncake-quick", "--mooncake-report=run", where=SHORT).ret == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "with_release", regressed)
        result = suite("--mooncake-replay=run", "--mooncake-report=again", "-k", "length", where="acceptance")
    assert result.ret == 1
    assert result.parseoutcomes().get("failed", 0) == 0
    assert "with its release held against the past: FAIL" in result.stdout.str()


def test_a_run_whose_reports_find_no_room_is_said_to_be_measured(suite: Run, pytester: pytest.Pytester) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    assert suite(*SIMULATED, "--mooncake-quick", "--mooncake-report=run", where=SHORT).ret == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_write", full)
        result = suite("--mooncake-replay=run", "--mooncake-report=again", where=SHORT)
    assert result.ret == 4
    result.stdout.fnmatch_lines(
        ["ERROR: measured, but not reported *: *again: reports cannot be written to it (No space*"]
    )
    assert "nothing could be measured" not in result.stdout.str()
