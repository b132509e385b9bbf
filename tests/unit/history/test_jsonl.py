"""A history travels as a file: whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import HistoryError, UsageError
from pytest_mooncake.history import jsonl
from pytest_mooncake.history.jsonl import Content, content_of, export_lines, import_file, read_content
from pytest_mooncake.history.store import History, open_history
from tests.support.made_runs import ACCEPTED, FOUND, made_run

CONTENT = Content(runs=(made_run(), made_run("run-2", label=None)), findings=(FOUND,), anchors=(ACCEPTED,))
LINES = tuple(export_lines(CONTENT))


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with open_history("sqlite:///h.sqlite", base=tmp_path) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(LINES))
    return path


def test_what_is_written_reads_back() -> None:
    assert read_content(LINES, "f") == CONTENT


def test_an_import_holds_all_of_the_export_and_may_be_repeated(history: History, file: Path) -> None:
    assert import_file(history, file) == (CONTENT, 4)
    assert import_file(history, file) == (CONTENT, 0)
    assert content_of(history) == CONTENT


def test_the_export_of_a_label_holds_only_what_rests_on_its_runs(history: History, file: Path) -> None:
    import_file(history, file)
    assert content_of(history, "v1") == Content(runs=(made_run(),), findings=(FOUND,), anchors=(ACCEPTED,))
    assert content_of(history, "v9") == Content()


@given(st.integers(0, len(b"".join(LINES)) - 1))
def test_a_file_that_was_cut_short_anywhere_is_refused(length: int) -> None:
    with pytest.raises(UsageError, match="nothing was imported"):
        read_content(b"".join(LINES)[:length].splitlines(keepends=True), "f")


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_other_file_is_refused_in_one_line(lines: list[bytes]) -> None:
    with pytest.raises(UsageError) as caught:
        read_content([line + b"\n" for line in lines], "f")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"run": {"id": 3}}\n', "run: id: Input should be a valid string"),
        (b'{"other": {}}\n', "expected one of run, finding, anchor, found 'other'"),
        (b"[1]\n", "expected one of run"),
        (b"{\n", "not a line of JSON"),
    ],
)
def test_a_record_that_is_none_is_named_with_its_line(line: bytes, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_content([*LINES[:2], line, *LINES[3:]], "f")
    assert str(caught.value).startswith("f:3: ")
    assert words in str(caught.value)


def test_an_export_of_another_version_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected an export of a history .*, found 'pytest-mooncake/history/9'"):
        read_content([b'{"schema": "pytest-mooncake/history/9", "records": 0}\n'], "f")


def test_a_run_that_is_there_with_other_content_stops_all_of_the_import(history: History, file: Path) -> None:
    history.add(made_run("run-2", label="another"))
    with pytest.raises(HistoryError, match="run-2"):
        import_file(history, file)
    assert [run.id for run in history.runs()] == ["run-2"]
    assert (history.findings(), history.anchors()) == ((), ())


def test_a_file_that_is_not_there_is_said(history: History, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.jsonl: cannot be read \(No such file or directory\)"):
        import_file(history, tmp_path / "nowhere.jsonl")


def test_a_file_that_has_no_end_is_refused(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MOST_BYTES", 2**20)
    with pytest.raises(UsageError, match="zero: larger than 1 MiB, which no export is; nothing was imported"):
        import_file(history, Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe:1: not a line of JSON; nothing was imported"):
        import_file(history, tmp_path / "pipe")
