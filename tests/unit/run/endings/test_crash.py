"""An error of this package itself: kept with what was measured, told in one line, never a verdict."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import orjson
import pytest
import typer

from pytest_mooncake.analysis import judge
from pytest_mooncake.cli import app
from pytest_mooncake.errors import EndpointError, UsageError
from pytest_mooncake.history.prior_runs import LATEST
from pytest_mooncake.journal import append_event, read
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.report.formats import html_environment, no_verdict
from pytest_mooncake.report.formats.write import OF_A_RUN
from pytest_mooncake.run.endings.crash import CommandCrash, about, is_ours, keep
from pytest_mooncake.run.outcome import conclude
from tests.support.judged_chains import Script, record

NAMES = {text.name for text in OF_A_RUN}


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return resolve(Options(stack="simulated", evidence="timing"), tmp_path)


@pytest.fixture
def directory(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(judge, "round_evidence", Script().round_evidence)
    record(plan, tmp_path)
    append_event(tmp_path / LATEST, "environment", environment={"started_at": "2026-01-01T00:00:00+00:00"})
    return tmp_path / LATEST


def test_what_was_measured_is_reported_without_a_verdict(directory: Path, plan: Plan) -> None:
    line = keep(raised(KeyError("p50")), directory, run_id=plan.run_id, plan=plan)
    told = json.loads((directory / "report.json").read_bytes())
    verdict = json.loads((directory / "verdict.json").read_bytes())
    assert (told["verdict"], told["run"], len(told["trials"])) == (None, plan.run_id, 4)
    assert told["internal_error"]["type"] == "KeyError"
    assert (verdict["verdict"], verdict["exit_code"]) == (None, 4)
    assert "KeyError: 'p50'" in line
    assert "\n" not in line
    assert str(directory / no_verdict.TRACEBACK) in line
    assert "Traceback (most recent call last)" in (directory / no_verdict.TRACEBACK).read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_file_says_a_verdict_that_there_is_not(directory: Path, plan: Plan, lang: str) -> None:
    conclude(read(directory), directory)
    told = plan.model_copy(update={"lang": lang})
    keep(raised(KeyError("p50")), directory, run_id=plan.run_id, plan=told)
    for name in NAMES - {"report.json"}:
        text = (directory / name).read_text(encoding="utf-8")
        assert not {"PASS", "FAIL", "INCONCLUSIVE", "INVALID", "通过"} & set(text.replace('"', " ").split()), name


@pytest.mark.parametrize("stage", ["judging", "rendering", "writing"])
def test_where_the_report_is_what_crashes_the_error_alone_is_reported(
    directory: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from pytest_mooncake.report.content import document
    from pytest_mooncake.report.formats import write

    def broken(*_: object, **__: object) -> str:
        raise RuntimeError(stage)

    where = {
        "judging": (judge, "audit_rounds"),
        "rendering": (document, "as_text"),
        "writing": (write, "write_reports"),
    }
    monkeypatch.setattr(*where[stage], broken)
    (directory / "report.html").write_text("PASS", encoding="utf-8")
    keep(raised(RuntimeError(stage)), directory, run_id=plan.run_id, plan=plan)
    told = json.loads((directory / "report.json").read_bytes())
    assert (told["verdict"], told["internal_error"]["message"]) == (None, stage)
    assert told["plan"]["run_id"] == plan.run_id
    assert "PASS" not in (directory / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in directory.iterdir()} >= NAMES
    assert not list(directory.glob(".*")), "no file half written"


def test_a_report_that_cannot_be_replaced_does_not_stay_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.md").write_text("PASS", encoding="utf-8")

    def broken(*_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr(no_verdict, "markdown", broken)
    keep(raised(RuntimeError("x")), tmp_path, run_id="r")
    assert not (tmp_path / "report.md").exists()


def test_hostile_words_of_an_error_break_neither_files_nor_the_line(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\n::error::x\x1b[31m \ud800"
    line = keep(raised(ValueError(hostile)), tmp_path, run_id="r")
    assert line.isprintable()
    assert "<script>" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "verdict.json").read_bytes())["verdict"] is None


def test_without_a_directory_the_traceback_lies_where_reports_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"mooncake-report/{no_verdict.TRACEBACK}" in keep(raised(KeyError("a")), None)
    assert [path.name for path in (tmp_path / "mooncake-report").iterdir()] == [no_verdict.TRACEBACK]


def test_a_place_that_is_a_file_is_no_second_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "mooncake-report" in keep(raised(KeyError("a")), tmp_path / "file", run_id="r")


def test_ends_of_commands_pass_and_everything_else_is_a_crash(tmp_path: Path) -> None:
    for error in (UsageError("u"), typer.Exit(10), typer.Abort(), typer.BadParameter("b"), BrokenPipeError(32, "pipe")):
        with pytest.raises(type(error)), about(tmp_path):
            raise error
    with pytest.raises(CommandCrash) as caught, about(tmp_path):
        raise ValueError("v")
    assert (caught.value.directory, caught.value.run_id) == (tmp_path, None)


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pytest-mooncake", *arguments])
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize("command", ["verdict", "report", "history add"])
def test_a_command_that_crashes_exits_4_with_one_line_and_leaves_reports_alone(
    command: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(directory)
    monkeypatch.setattr("pytest_mooncake.run.outcome.judge", broken)
    (directory / "report.json").write_text("{}", encoding="utf-8")
    assert called(monkeypatch, *command.split(), str(directory)) == 4
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "ERROR: internal error of pytest-mooncake, no verdict: ZeroDivisionError" in said.err
    assert "Traceback" not in said.out + said.err
    assert (directory / no_verdict.TRACEBACK).is_file()
    assert (directory / "report.json").read_text(encoding="utf-8") == "{}"


def test_judge_that_crashes_leaves_a_report_without_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "vendor.yaml"
    figures.write_text("requests: 3\nconcurrency: 1\n", encoding="utf-8")
    monkeypatch.setattr("pytest_mooncake.plan.sources.figures.read_figures", broken)
    assert called(monkeypatch, "judge", str(figures), "--report", str(tmp_path / "out")) == 4
    assert capsys.readouterr().err.count("\n") == 1
    told = orjson.loads((tmp_path / "out" / "report.json").read_bytes())
    assert (told["verdict"], told["run"], told["internal_error"]["type"]) == (None, "vendor", "ZeroDivisionError")


def test_a_command_about_no_directory_that_crashes_exits_4_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytest_mooncake.stack.persistent.status", broken)
    assert called(monkeypatch, "stack", "status") == 4
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_errors_of_tests_are_not_taken_for_ours() -> None:
    assert not is_ours(raised(KeyError("in a test")))
    assert not is_ours(raised(EndpointError("a message")))
    with pytest.raises(TypeError) as caught:
        html_environment.in_script({"a": object()})
    assert is_ours(caught.value)
