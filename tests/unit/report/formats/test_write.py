"""Report files appear whole or not at all, and never in the place of somebody else's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mooncake.errors import ReportError, UsageError
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats.write import (
    JSON,
    MARKDOWN,
    OF_A_RUN,
    TEXTS,
    Text,
    is_ours,
    refuse_foreign,
    write,
    write_reports,
)
from pytest_mooncake.report.text.labels import LANGUAGES
from tests.support import runs

Texts = [text for texts in TEXTS.values() for text in texts]


@pytest.fixture(scope="module")
def report() -> Report:
    return runs.report()


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("text", Texts, ids=lambda text: text.name)
def test_every_report_is_known_as_ours_and_may_be_written_again(
    tmp_path: Path, report: Report, text: Text, lang: str
) -> None:
    (path,) = write(report, tmp_path, (text,), lang=lang)  # type: ignore[arg-type]
    assert is_ours(path, text)
    refuse_foreign(tmp_path, (text,))
    assert write(report, tmp_path, (text,), lang=lang) == (path,)  # type: ignore[arg-type]
    assert [one.name for one in tmp_path.iterdir()] == [text.name]


def to_a_file(path: Path) -> None:
    path.write_text("my notes on pytest-mooncake\n")


def to_a_link(path: Path) -> None:
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [to_a_file, to_a_link, Path.mkdir])
def test_a_file_of_somebody_elses_is_named_and_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "report.md")
    with pytest.raises(UsageError, match=r"report\.md is there already and no report of pytest-mooncake"):
        refuse_foreign(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["report.md"]


def test_other_files_are_no_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine\n")
    refuse_foreign(tmp_path)
    refuse_foreign(tmp_path / "absent")


def test_a_file_that_cannot_be_written_whole_leaves_the_older_one(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(report, tmp_path, (JSON, MARKDOWN))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(report, tmp_path, OF_A_RUN, lang="zh")
    with pytest.raises(ReportError, match=r"reports cannot be written to it \(No space left on device\)"):
        write_reports(report, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interruption_leaves_no_half_of_a_file(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_self: Path, _target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(report, tmp_path, OF_A_RUN)
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_not_written_through_a_link(tmp_path: Path, report: Report) -> None:
    (tmp_path / "precious").write_text("mine\n")
    (tmp_path / "report.md").symlink_to("precious")
    (path,) = write(report, tmp_path, (MARKDOWN,))
    assert not path.is_symlink()
    assert (tmp_path / "precious").read_text() == "mine\n"


def test_a_report_may_be_read_by_whom_the_umask_lets(tmp_path: Path, report: Report) -> None:
    before = os.umask(0o027)
    try:
        (path,) = write(report, tmp_path, (JSON,))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
