"""The command line around the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_mooncake import __version__
from pytest_mooncake.cli import app
from pytest_mooncake.cli.scaffold import PIPELINES
from pytest_mooncake.errors import StackError, UsageError
from pytest_mooncake.records import Engine, StackView, Store
from pytest_mooncake.stack import persistent

VIEW = StackView(
    name="local",
    provisioned=True,
    engines=(Engine(url="http://127.0.0.1:8000"),),
    model="tiny",
    store=Store(master_url="http://127.0.0.1:9003"),
    components={"master": "mooncake_master"},
)
runner = CliRunner()


def test_the_version_is_told() -> None:
    assert runner.invoke(app.app, ["--version"]).output.strip() == f"pytest-mooncake {__version__}"


def test_every_command_says_what_it_does() -> None:
    for command in ([], ["stack"], ["init"], ["verdict"]):
        result = runner.invoke(app.app, [*command, "--help"])
        assert result.exit_code == 0
        assert len(result.output) > 100


def test_init_writes_the_suite_and_says_what_to_do_next(tmp_path: Path) -> None:
    result = runner.invoke(app.app, ["init", str(tmp_path)])
    assert result.exit_code == 0
    assert (tmp_path / "acceptance" / "test_performance.py").is_file()
    assert (tmp_path / "fixtures" / "stacks" / "local.yaml").is_file()
    assert (tmp_path / "conftest.py").is_file()
    assert result.output.splitlines()[-1].startswith("next: pytest acceptance/")


def test_init_overwrites_nothing_unless_told(tmp_path: Path) -> None:
    mine = tmp_path / "conftest.py"
    mine.write_text("mine", encoding="utf-8")
    result = runner.invoke(app.app, ["init", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert mine.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "acceptance").exists()
    assert runner.invoke(app.app, ["init", "--force", str(tmp_path)]).exit_code == 0
    assert mine.read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize("name", PIPELINES)
def test_init_writes_the_gate_of_a_pipeline_and_nothing_else(tmp_path: Path, name: str) -> None:
    result = runner.invoke(app.app, ["init", str(tmp_path), "--pipeline", name])
    (written,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert result.output == f"wrote {written}\n"
    assert "pytest-mooncake verdict" in written.read_text(encoding="utf-8")
    again = runner.invoke(app.app, ["init", str(tmp_path), "--pipeline", name])
    assert "is there already" in str(again.exception)


def test_init_knows_which_pipelines_there_are(tmp_path: Path) -> None:
    result = runner.invoke(app.app, ["init", str(tmp_path), "--pipeline", "gitlub"])
    assert isinstance(result.exception, UsageError)
    assert "gitlub: expected one of github, gitlab" in str(result.exception)


def test_a_kept_stack_is_started_shown_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[StackView] = []

    def up(plan: object, progress: object) -> StackView:
        running.append(VIEW)
        return VIEW

    monkeypatch.setattr(persistent, "up", up)
    monkeypatch.setattr(persistent, "status", lambda: running[0] if running else None)
    monkeypatch.setattr(persistent, "down", lambda: bool(running and running.pop()))
    assert runner.invoke(app.app, ["stack", "status"]).exit_code == 1
    started = runner.invoke(app.app, ["stack", "up"])
    assert "--mooncake-url http://127.0.0.1:8000 --mooncake-master http://127.0.0.1:9003" in started.output
    assert runner.invoke(app.app, ["stack", "status"]).exit_code == 0
    assert "stopped" in runner.invoke(app.app, ["stack", "down"]).output
    assert "no stack was running" in runner.invoke(app.app, ["stack", "down"]).output


def test_only_a_local_stack_can_be_kept() -> None:
    result = runner.invoke(app.app, ["stack", "up", "--stack", "simulated"])
    assert isinstance(result.exception, UsageError)
    assert "only a local stack can be kept" in str(result.exception)


def test_a_users_mistake_is_one_line_and_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise StackError("vllm-0 ended with exit code 1 while starting", ("ValueError: no such model",))

    monkeypatch.setattr(app, "app", broken)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 4
    expected = "ERROR: vllm-0 ended with exit code 1 while starting\n    ValueError: no such model\n"
    assert capsys.readouterr().err == expected
