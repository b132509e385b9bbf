"""A disk that takes a part of a line, or nothing, costs what no longer fits and not what stands."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_mooncake.errors import JournalError
from pytest_mooncake.journal import EVENTS_FILE, PLAN_FILE, REQUESTS_FILE, Journal, append_event, read
from pytest_mooncake.plan.models import Plan
from tests.support.made_records import VIEW, passing, passing_plan, passing_rounds

Write = Callable[[int, memoryview], int]


class Disk:
    """Has room for so many bytes; takes at most `at_once` of them in one go."""

    def __init__(self, room: int, at_once: int = 1 << 30) -> None:
        self.room = room
        self.at_once = at_once

    def write(self, fd: int, data: memoryview) -> int:
        taken = min(len(data), self.room, self.at_once)
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= taken
        return write(fd, data[:taken])


write: Write = os.write


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return passing_plan(tmp_path)


def as_much_as_fits(directory: Path, plan: Plan) -> None:
    with Journal(directory, plan) as journal:
        journal.event("stack", view=VIEW)
        try:
            for measured in passing_rounds():
                for record in measured.requests:
                    journal.request(record)
                journal.round(measured)
        finally:
            journal.event("run_end", reason="failed")


def test_what_is_taken_in_parts_is_written_whole(tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", Disk(1 << 30, at_once=7).write)
    recorded = read(passing(tmp_path / "run", plan))
    assert recorded.damage == ()
    assert len(recorded.rounds) == len(passing_rounds())


@pytest.mark.parametrize("room", [14_000, 15_001, 16_000, 18_777])
def test_on_a_full_disk_the_run_ends_in_one_line_and_what_was_written_stands(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", Disk(room).write)
        with pytest.raises(JournalError, match=r"^disk full: .*\(No space left on device\); what was written") as full:
            as_much_as_fits(tmp_path / "run", plan)
    assert "\n" not in str(full.value)
    for name in (EVENTS_FILE, REQUESTS_FILE):
        assert (tmp_path / "run" / name).read_bytes().endswith(b"}\n"), "nothing is left of the line that did not fit"
    recorded = read(tmp_path / "run")
    assert recorded.damage == ()
    assert recorded.rounds
    assert recorded.unfinished in {"failed", "killed"}


def test_a_record_whose_plan_does_not_fit_leaves_nothing_that_looks_like_a_run(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", Disk(500).write)
    with pytest.raises(JournalError, match="disk full"):
        Journal(tmp_path / "run", plan)
    assert not (tmp_path / "run" / PLAN_FILE).exists()


def test_once_a_line_is_lost_no_later_one_is_written_as_if_nothing_were(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(1 << 20)
    monkeypatch.setattr(os, "write", disk.write)
    record = passing_rounds()[0].requests[0]
    with Journal(tmp_path / "run", plan) as journal:
        disk.room = 100
        for _ in range(2):
            with pytest.raises(JournalError, match="disk full"):
                journal.request(record)
            disk.room = 1 << 20
        with pytest.raises(JournalError, match="disk full"):
            journal.event("look", verdict="PASS")
        journal.event("run_end", reason="failed")
    assert read(tmp_path / "run").end == "failed"
    assert (tmp_path / "run" / REQUESTS_FILE).read_bytes() == b""


def test_an_event_that_does_not_fit_after_the_run_leaves_the_record_as_it_was(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = passing(tmp_path / "run", plan)
    before = (directory / EVENTS_FILE).read_bytes()
    monkeypatch.setattr(os, "write", Disk(20).write)
    with pytest.raises(JournalError, match="disk full"):
        append_event(directory, "history", release=None)
    assert (directory / EVENTS_FILE).read_bytes() == before


def test_an_interruption_between_a_write_and_its_being_counted_loses_no_line(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(fd: int, data: memoryview) -> int:
        write(fd, data)
        raise KeyboardInterrupt

    with Journal(tmp_path / "run", plan) as journal:
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.event("stack", view=VIEW)
        monkeypatch.setattr(os, "write", write)
        journal.event("run_end", reason="interrupted")
    recorded = read(tmp_path / "run")
    assert (recorded.damage, recorded.view, recorded.end) == ((), VIEW, "interrupted")


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The kernel itself takes a part of a line, then nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_short_write_of_the_kernels_is_noticed(tmp_path: Path, plan: Plan) -> None:
    with no_file_beyond(9_000), pytest.raises(JournalError, match=r"cannot be written \(File too large\)"):
        as_much_as_fits(tmp_path / "run", plan)
    recorded = read(tmp_path / "run")
    assert recorded.damage == ()
    assert recorded.rounds
