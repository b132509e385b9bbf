"""What happens to a report once it is written, and that none of it can cost the run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_mooncake.plugin.publish import Published, publish, workflow_commands
from pytest_mooncake.records import Verdict
from pytest_mooncake.report.formats.ci import SUMMARY_BYTES
from tests.support import runs

REPORT = runs.report()


def hook(write: Any = lambda **_: [], written: Any = lambda **_: []) -> Any:
    return SimpleNamespace(pytest_mooncake_write_report=write, pytest_mooncake_report_written=written)


def published(used: Any, tmp_path: Path, **environ: str) -> Published:
    return publish(used, REPORT, tmp_path, (tmp_path / "report.md",), environ=environ, lang="en")


def test_files_of_other_writers_are_listed_whether_one_or_several(tmp_path: Path) -> None:
    one, two, three = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    seen: list[tuple[Path, ...]] = []

    found = published(hook(lambda **_: [one, [two, str(three)]], lambda files, **_: seen.append(files)), tmp_path)

    assert found == Published(files=(one, two, three))
    assert seen == [(tmp_path / "report.md", one, two, three)]


def test_a_writer_that_raises_costs_a_line_and_nothing_else(tmp_path: Path) -> None:
    def write(**_: object) -> list[Path]:
        raise RuntimeError("disk on fire")

    found = published(hook(write), tmp_path)

    assert found.files == ()
    assert found.complaints == ("a report hook of another plugin failed: RuntimeError: disk on fire",)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (SystemExit(1), "SystemExit: 1"),
        (pytest.fail.Exception("no"), "Failed: no"),
        (pytest.skip.Exception("no"), "Skip"),
    ],
)
def test_a_writer_that_ends_the_process_or_the_test_costs_a_line_too(
    tmp_path: Path, ending: BaseException, said: str
) -> None:
    def write(**_: object) -> list[Path]:
        raise ending

    (complaint,) = published(hook(write), tmp_path).complaints
    assert complaint.startswith(f"a report hook of another plugin failed: {said}")


def test_the_step_summary_is_appended(tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    summary.write_text("somebody else's\n", encoding="utf-8")

    found = published(hook(), tmp_path, GITHUB_STEP_SUMMARY=str(summary))

    assert found.complaints == ()
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("somebody else's\n## pytest-mooncake: PASS\n")
    assert "| TTFT (mean) | 1202 ms | 402 ms | -67% |" in text


@pytest.mark.parametrize("held_bytes", [SUMMARY_BYTES - 500, SUMMARY_BYTES - 4, SUMMARY_BYTES])
def test_a_step_summary_that_is_nearly_full_is_not_overfilled(tmp_path: Path, held_bytes: int) -> None:
    summary = tmp_path / "summary"
    summary.write_bytes(b"x" * held_bytes)

    published(hook(), tmp_path, GITHUB_STEP_SUMMARY=str(summary))

    assert held_bytes <= summary.stat().st_size <= max(held_bytes, SUMMARY_BYTES - 1)


def test_a_summary_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    found = published(hook(), tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "no" / "such"))

    assert len(found.complaints) == 1
    assert "GITHUB_STEP_SUMMARY" in found.complaints[0]


def test_one_annotation_is_printed_on_github_and_none_elsewhere() -> None:
    failed = runs.report(Verdict.FAIL)

    (line,) = workflow_commands(failed, {"GITHUB_ACTIONS": "true"}, "en")
    assert line.startswith("::error title=pytest-mooncake%3A FAIL::")
    assert workflow_commands(failed, {}, "en") == ()
