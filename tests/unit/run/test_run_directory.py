"""A run's files go into a directory of its own; what somebody else put anywhere stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_mooncake.errors import StackError, UsageError
from pytest_mooncake.journal import Journal
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.run.run_directory import refuse_occupied, report_directory
from pytest_mooncake.stack.local import assembly, provision_local
from pytest_mooncake.stack.log_dir import own_log_dir
from tests.support.made_records import passing_plan


def held(place: Path) -> dict[str, str | None]:
    """Everything below a directory: files with their text, links with where they lead."""
    return {
        str(path.relative_to(place)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(place.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def made(place: Path, *files: str) -> Path:
    for name in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("mine\n")
    return place


@pytest.mark.parametrize(
    "files",
    [
        ("notes.txt",),
        (".hidden",),
        ("logs/production.log",),
        ("logs/master.log", "logs/production.log"),
        ("logs/deep/master.log",),
        ("logs",),
        ("report.json",),
        ("other/master.log",),
    ],
)
def test_a_directory_that_holds_something_else_is_refused_and_left_alone(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    made(tmp_path, *files)
    before = held(tmp_path)
    with pytest.raises(UsageError, match="which no run put there; name a new or an empty directory") as refused:
        refuse_occupied(tmp_path)
    assert "\n" not in str(refused.value)
    assert held(tmp_path) == before


@pytest.mark.parametrize("name", ["plan.json", "events.jsonl", "requests.jsonl"])
def test_a_directory_that_holds_a_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="already holds a run"):
        refuse_occupied(made(tmp_path, name))
    with pytest.raises(UsageError, match="already holds a run"):
        Journal(tmp_path, passing_plan(tmp_path))
    assert held(tmp_path) == {name: "mine\n"}


@pytest.mark.parametrize(
    "files",
    [
        (),
        ("logs/master.log", "logs/node-0.log", "logs/vllm-11.log", "logs/tool-build-model.log"),
        (
            "logs/simulated.log",
            "logs-2/simulated.log",
            "logs/start-2/simulated.log",
            "logs/without-connector/master.log",
        ),
    ],
)
def test_an_empty_one_and_one_with_the_logs_of_a_start_that_failed_may_be_used(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    refuse_occupied(made(tmp_path, *files))
    refuse_occupied(tmp_path / "to" / "be" / "made")
    assert not (tmp_path / "to").exists(), "looking makes nothing"


def test_what_is_no_directory_is_refused_whatever_it_is(tmp_path: Path) -> None:
    made(tmp_path, "file")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "dangling", "loop", "file/below"):
        with pytest.raises(UsageError, match="no directory; name another one"):
            refuse_occupied(tmp_path / name)


def test_a_link_to_a_directory_is_looked_at_as_the_directory(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    made(tmp_path, "full/notes.txt")
    for name in ("empty", "full"):
        (tmp_path / f"to-{name}").symlink_to(name)
    refuse_occupied(tmp_path / "to-empty")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        refuse_occupied(tmp_path / "to-full")


def test_a_directory_that_cannot_be_written_to_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    for path in (tmp_path, tmp_path / "new"):
        with pytest.raises(UsageError, match="cannot be written to; name another directory"):
            refuse_occupied(path)
    with pytest.raises(UsageError, match="mooncake-report cannot be written to; name another directory"):
        report_directory(None, "run", tmp_path)


def test_a_replay_may_replace_the_reports_of_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    made(tmp_path, "report.md")
    with pytest.raises(UsageError, match=r"report\.md"):
        refuse_occupied(tmp_path, replay=True)
    (tmp_path / "report.json").write_text('{"schema": "pytest-mooncake/report/1"}')
    refuse_occupied(tmp_path, replay=True)
    with pytest.raises(UsageError, match=r"holds 'report\.json' and 1 more"):
        refuse_occupied(tmp_path)


def test_logs_of_others_stay_when_a_stack_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def fail(_plan: object, _supervisor: object, _watch: object, log_dir: Path) -> None:
        asked.append(log_dir)
        raise StackError("far enough")

    monkeypatch.setattr(assembly, "_prepare", fail)
    logs = made(tmp_path, "logs/production.log", "logs/master.log") / "logs"
    before = held(tmp_path)
    plan = StackPlan(name="local", kind="local")
    for number in (2, 3):
        with pytest.raises(StackError, match="far enough"):
            provision_local(plan, log_dir=logs, progress=lambda _: None).__enter__()
        assert asked[-1] == tmp_path / f"logs-{number}"
    assert before.items() <= held(tmp_path).items()


def test_every_start_has_a_log_directory_of_its_own(tmp_path: Path) -> None:
    assert own_log_dir(tmp_path / "run" / "logs") == tmp_path / "run" / "logs"
    assert own_log_dir(tmp_path / "run" / "logs") == tmp_path / "run" / "logs", "an empty one is taken"
    made(tmp_path, "run/logs/master.log")
    (tmp_path / "run" / "logs-2").symlink_to("nowhere")
    assert own_log_dir(tmp_path / "run" / "logs") == tmp_path / "run" / "logs-3"


def test_where_no_logs_can_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"file/logs: no logs can be written there \(Not a directory\)"):
        own_log_dir(made(tmp_path, "file") / "file" / "logs")


def test_the_newest_run_is_linked_to(tmp_path: Path) -> None:
    latest = tmp_path / "mooncake-report" / "latest"
    for run in ("first", "second"):
        assert report_directory(None, run, tmp_path) == latest.with_name(run)
        assert latest.readlink() == Path(run)
    assert [path.name for path in latest.parent.iterdir()] == ["latest"]


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_something_of_the_users_own_that_is_called_latest_stays(tmp_path: Path, kind: str) -> None:
    latest = made(tmp_path, "elsewhere/mine") / "mooncake-report" / "latest"
    if kind == "file":
        made(latest.parent, "latest")
    elif kind == "directory":
        made(latest, "notes.txt")
    else:
        latest.parent.mkdir()
        latest.symlink_to("../elsewhere")
    before = held(tmp_path)
    assert report_directory(None, "run", tmp_path) == latest.with_name("run")
    assert held(tmp_path) == before


def test_a_file_in_the_place_of_the_reports_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mooncake-report: reports cannot be written there \(File exists\)"):
        report_directory(None, "run", made(tmp_path, "mooncake-report"))
    assert report_directory("mine", "run", tmp_path) == tmp_path / "mine"
