"""Whoever closes the pipe, or gives a full disk for it, does not turn an accepted run into a refused one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.made_records import passing

ROOT = Path(__file__).resolve().parents[2]
CALL = "from pytest_mooncake.cli.app import main; main()"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return passing(tmp_path / "run")


def called(out: int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CALL, *arguments]
    return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)


def unheard(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A command whose reader has gone already."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        return called(writes, *arguments)
    finally:
        os.close(writes)


def test_a_verdict_that_nobody_reads_keeps_its_exit_code(record: Path) -> None:
    done = unheard("verdict", str(record))
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_report_that_nobody_reads_is_no_refusal(record: Path) -> None:
    done = unheard("report", str(record), "--format", "html")
    assert (done.returncode, done.stderr) == (4, b"")


def test_a_verdict_for_which_there_is_no_room_keeps_its_exit_code_and_its_record(record: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = called(full.fileno(), "verdict", str(record))
    assert done.returncode == 0
    assert done.stderr == b"WARNING: standard output cannot be written (No space left on device)\n"
    assert not (record / "internal-error.txt").exists(), "a full disk is no error of this package"
