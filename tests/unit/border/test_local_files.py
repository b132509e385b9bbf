"""No file that a user names keeps anybody waiting."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pytest_mooncake.border.local_files import open_binary


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_that_nobody_writes_to_is_empty(pipe: Path) -> None:
    with open_binary(pipe) as file:
        assert file.read() == b""


def test_a_writer_that_is_there_is_waited_for() -> None:
    reads, writes = os.pipe()

    def write() -> None:
        os.write(writes, b"kind: simulated\n")
        os.close(writes)

    timer = threading.Timer(0.05, write)
    timer.start()
    try:
        with open_binary(Path(f"/dev/fd/{reads}")) as file:
            assert file.read() == b"kind: simulated\n"
    finally:
        timer.join()
        os.close(reads)


def test_what_cannot_be_opened_is_said_as_the_system_says_it(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_binary(tmp_path)
