"""The warden's own reasoning: who descends from whom, whose shared memory is whose, what a command means.

What it does to real processes is tested in `tests/integration/test_process.py`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import StackError
from pytest_mooncake.stack import process, warden
from pytest_mooncake.stack.warden import Warden, descendants, orphaned_shared_memory, parents, shared_memory_of


@st.composite
def trees(draw: st.DrawFn) -> dict[int, int]:
    """Process tables: every process's parent has a smaller id, 1 is nobody's child."""
    size = draw(st.integers(1, 30))
    return {pid: draw(st.integers(1, pid - 1)) for pid in range(2, size + 2)}


@given(trees(), st.integers(1, 32))
def test_descendants_are_exactly_those_whose_ancestry_leads_to_the_root(parent_of: dict[int, int], root: int) -> None:
    def leads_to_root(pid: int) -> bool:
        while pid in parent_of:
            pid = parent_of[pid]
            if pid == root:
                return True
        return False

    found = descendants(root, parent_of)
    assert set(found) == {pid for pid in parent_of if leads_to_root(pid)}
    assert len(found) == len(set(found))


def test_this_process_is_found_below_its_parent_in_the_real_table() -> None:
    assert parents()[os.getpid()] == os.getppid()
    assert os.getpid() in descendants(os.getppid())


def test_a_command_with_spaces_and_parentheses_in_its_name_is_no_obstacle(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to(sys.executable)
    child = subprocess.Popen([str(odd), "-I", "-c", "import time; time.sleep(60)"])
    try:
        assert parents()[child.pid] == os.getpid()
    finally:
        child.kill()
        child.wait()


def test_shared_memory_is_attributed_to_openmp_of_exactly_these_processes() -> None:
    names = ["__KMP_REGISTERED_LIB_12_0", "__KMP_REGISTERED_LIB_123_0", "psm_12", "other"]
    assert orphaned_shared_memory(names, [12]) == {"__KMP_REGISTERED_LIB_12_0"}
    assert orphaned_shared_memory(names, []) == set()


def test_a_process_that_is_gone_has_mapped_nothing() -> None:
    assert shared_memory_of([2**22 + 1]) == set()


def test_commands_that_cannot_be_carried_out_are_answered_with_the_reason(tmp_path: Path) -> None:
    owner = Warden(tmp_path)
    start = {"op": "start", "name": "x", "argv": ["/no/such"], "env": {}, "log": str(tmp_path / "l"), "cwd": "/"}
    assert "No such file" in owner.obey(start)["error"]
    assert owner.obey({"op": "sing"}) == {"error": "unknown command 'sing'"}
    assert owner.obey({"op": "exits"}) == {"exits": {}}


def test_stop_and_a_closed_pipe_end_it_but_a_detached_one_only_ends_by_signal(tmp_path: Path) -> None:
    owner = Warden(tmp_path)
    assert warden._serve(owner, [b'{"op": "stop"}'], False) == warden.GRACE_S
    assert warden._serve(owner, [], True) == 0.0
    assert warden._serve(owner, [], False) is None
    owner.detached = True
    assert warden._serve(owner, [], True) is None


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20), max_size=6), st.data())
def test_lines_come_out_whole_however_they_were_cut(lines: list[str], data: st.DataObject) -> None:
    raw = "".join(f"{line}\n" for line in lines).encode()
    cut = data.draw(st.integers(0, len(raw)))
    read_end, write_end = os.pipe()
    kept, got = bytearray(), []
    for piece in (raw[:cut], raw[cut:]):
        if piece:
            os.write(write_end, piece)
            got += warden._lines(read_end, kept)[0]
    os.close(write_end)
    assert warden._lines(read_end, kept) == ([], True)
    os.close(read_end)
    assert [line.decode() for line in got] == lines


def test_a_namespace_that_is_not_permitted_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def unshare(_: int) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    monkeypatch.setattr(warden, "_libc", SimpleNamespace(unshare=unshare))
    assert warden.isolate() == "Operation not permitted"


def test_a_namespace_without_loopback_is_left_again(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[int] = []

    def loopback() -> None:
        raise OSError(errno.ENODEV, "No such device")

    libc = SimpleNamespace(unshare=lambda _: 0, setns=lambda fd, kind: entered.append(kind))
    monkeypatch.setattr(warden, "_libc", libc)
    monkeypatch.setattr(warden, "raise_loopback", loopback)
    assert warden.isolate() == "loopback cannot be brought up: No such device"
    assert entered == [warden.CLONE_NEWNET]


def test_where_processes_cannot_be_watched_the_closed_pipe_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unsupported)
    assert warden._watch_process(os.getpid()) is None


def test_a_warden_whose_owner_died_before_it_could_watch_removes_the_directory_and_goes(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    warden.main([str(run_dir), str(os.getpid())])  # our parent is not ourselves
    assert not run_dir.exists()


def test_a_warden_that_does_not_answer_is_an_error_not_a_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_ANSWER_S", 0.05)
    with subprocess.Popen(["/bin/sleep", "60"], stdout=subprocess.PIPE, bufsize=0) as mute:
        with pytest.raises(StackError, match=r"warden .* does not answer"):
            process._answer(mute)
        mute.kill()


def test_a_warden_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_END_S", 0.05)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    pipe = subprocess.PIPE
    deaf = subprocess.Popen(["/bin/sleep", "60"], stdin=pipe, stdout=pipe, bufsize=0)
    supervisor = process.Supervisor(deaf, run_dir, None, None)
    supervisor.stop()
    assert deaf.returncode == -9
    assert not run_dir.exists()
    supervisor.stop()  # once is enough, twice does no harm


def test_an_answer_that_arrives_in_pieces_is_put_together() -> None:
    script = "printf '{\"pid\"'; sleep 0.05; echo ': 7}'"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, bufsize=0) as slow:
        assert process._answer(slow) == json.loads('{"pid": 7}')
