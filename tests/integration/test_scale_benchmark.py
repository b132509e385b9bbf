"""The benchmark of large records runs, on a small one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.verdicts import scale


def test_a_record_is_written_read_judged_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr("sys.argv", ["scale", "--requests", "420", "--chunks", "4"])
    scale.main()
    told = capsys.readouterr().out
    assert [name for name in ("summarised", "judged", "audited", "all three") if f"| {name} |" in told]
    assert re.search(r"From a record of \d+ MB \(4 chunks a request, 21 rounds\): read and summarised in", told)


def test_its_record_is_one_that_the_journal_reads(tmp_path: Path) -> None:
    scale.write_record(tmp_path, 420, 4)
    found = scale.from_record(tmp_path)
    assert set(found) == {"read", "judged", "read_cpu", "peak_mb"}
    assert found["peak_mb"] > 0
