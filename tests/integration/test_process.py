"""A supervised process ends with the block, with its owner and with its warden, whatever it does to get away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mooncake.errors import StackError
from pytest_mooncake.stack.namespace import enter, inside
from pytest_mooncake.stack.process import Command, birth, supervised

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
PATIENCE_S = 10.0

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root here")


def shell(script: str, tmp_path: Path, name: str = "sh") -> Command:
    return Command(name=name, argv=("/bin/sh", "-c", script), env=ENV, log=tmp_path / f"{name}.log", cwd=tmp_path)


def python(script: str, tmp_path: Path, name: str = "py") -> Command:
    argv = (sys.executable, "-c", script)
    return Command(name=name, argv=argv, env=ENV, log=tmp_path / f"{name}.log", cwd=tmp_path)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def all_gone(pids: tuple[int, ...]) -> bool:
    return all(birth(pid) is None for pid in pids)


def test_a_process_runs_under_its_name_and_its_exit_code_is_known(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        supervisor.start(shell("echo said something; exit 3", tmp_path))
        assert eventually(lambda: supervisor.exits() == {"sh": 3})
    assert (tmp_path / "sh.log").read_text() == "said something\n"


def test_a_process_killed_by_a_signal_reports_it_as_a_negative_code(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        pid = supervisor.start(shell("sleep 60", tmp_path))
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: supervisor.exits() == {"sh": -signal.SIGKILL})


def test_a_process_started_again_under_its_name_counts_as_running(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        supervisor.start(shell("exit 1", tmp_path))
        assert eventually(lambda: "sh" in supervisor.exits())
        supervisor.start(shell("sleep 60", tmp_path))
        assert supervisor.exits() == {}


def test_a_program_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        command = Command(name="engine", argv=("/no/such/program",), log=tmp_path / "log", cwd=tmp_path)
        with pytest.raises(StackError, match=r"engine cannot be started: .*No such file"):
            supervisor.start(command)


def test_leaving_the_block_ends_everything_even_what_ignores_sigterm_or_moved_away(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        supervisor.start(shell("trap '' TERM; sleep 60 & setsid sleep 60 & setsid setsid sleep 60 & wait", tmp_path))
        assert eventually(lambda: len(supervisor.processes()) >= 4)
        pids, run_dir = (*supervisor.processes(), supervisor.pid), supervisor.run_dir
        (run_dir / "left").write_text("behind")
    assert all_gone(pids)
    assert not run_dir.exists()


def test_a_process_whose_parent_has_died_is_still_found(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        supervisor.start(shell("setsid sleep 60 & sleep 0.5; exit 0", tmp_path))
        assert eventually(lambda: supervisor.exits() == {"sh": 0})
        (orphan,) = supervisor.processes()
    assert all_gone((orphan,))


def test_what_a_killed_process_leaves_behind_does_not_go_on_listening_for_it(tmp_path: Path) -> None:
    """As vLLM's engine core does, with the API server's socket: clients would be connected and never answered."""
    script = (
        "import os, socket, time\n"
        "held = socket.create_server(('127.0.0.1', 0))\n"
        "os.fork() or time.sleep(60)\n"
        "print(held.getsockname()[1], flush=True)\n"
        "time.sleep(60)\n"
    )
    with supervised(isolate=False) as supervisor:
        pid = supervisor.start(python(script, tmp_path))
        log = tmp_path / "py.log"
        assert eventually(lambda: log.exists() and log.read_text().endswith("\n"))
        port = int(log.read_text())
        assert len(supervisor.processes()) == 2
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: supervisor.exits() == {"py": -signal.SIGKILL} and not supervisor.processes())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_an_exception_in_the_block_ends_everything_too(tmp_path: Path) -> None:
    started: list[int] = []

    def interrupted() -> None:
        with supervised(isolate=False) as supervisor:
            started.extend((supervisor.start(shell("sleep 60", tmp_path)), supervisor.pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(started) == 2
    assert all_gone(tuple(started))


OWNER = """
import os, sys, time
from pathlib import Path
from pytest_mooncake.stack.process import Command, supervised
with supervised(isolate=False) as supervisor:
    log = Path(sys.argv[1])
    if sys.argv[2] == "fork" and os.fork() == 0:  # holds the command pipe open, as a pool of workers does
        time.sleep(60)
        os._exit(0)
    child = ("/bin/sh", "-c", "setsid sleep 60 & exec sleep 60")
    supervisor.start(Command(name="child", argv=child, env={"PATH": os.environ["PATH"]}, log=log, cwd=log.parent))
    while len(supervisor.processes()) < 2:
        time.sleep(0.02)
    print(*supervisor.processes(), supervisor.pid, supervisor.run_dir, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "fork"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_owner_killed_by_a_signal_leaves_no_process_and_no_file(
    number: signal.Signals, how: str, tmp_path: Path
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log"), how], stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert owner.stdout is not None
    try:
        *raw, run_dir = owner.stdout.readline().split()
        pids = tuple(int(pid) for pid in raw)
        assert len(pids) == 3
        assert not any(birth(pid) is None for pid in pids)
        owner.send_signal(number)
        owner.wait(PATIENCE_S)
        assert eventually(lambda: all_gone(pids))
        assert eventually(lambda: not Path(run_dir).exists())
    finally:
        os.killpg(owner.pid, signal.SIGKILL) if how == "fork" else owner.kill()
        owner.stdout.close()
        owner.wait(PATIENCE_S)


def test_a_killed_warden_takes_its_children_along_and_is_reported(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        pid = supervisor.start(shell("exec sleep 60", tmp_path))
        os.kill(supervisor.pid, signal.SIGKILL)
        assert eventually(lambda: all_gone((pid,)))
        with pytest.raises(StackError, match=r"warden .* is gone"):
            supervisor.exits()
    assert not supervisor.run_dir.exists()


def test_a_detached_stack_outlives_the_block_and_ends_by_sigterm(tmp_path: Path) -> None:
    with supervised(isolate=False) as supervisor:
        pid = supervisor.start(shell("exec sleep 60", tmp_path))
        supervisor.detach()
    assert birth(pid) is not None
    os.kill(supervisor.pid, signal.SIGTERM)
    assert eventually(lambda: all_gone((pid,)))
    assert eventually(lambda: not supervisor.run_dir.exists())
    os.waitpid(supervisor.pid, 0)


def test_shared_memory_that_a_process_left_behind_is_removed(tmp_path: Path) -> None:
    name = f"pytest-mooncake-test-{os.getpid()}"
    hold = (
        "import mmap, time\n"
        f"file = open('/dev/shm/{name}', 'w+b'); file.truncate(4096)\n"
        "kept = mmap.mmap(file.fileno(), 4096); print('mapped', flush=True); time.sleep(60)\n"
    )
    with supervised(isolate=False) as supervisor:
        pid = supervisor.start(python(hold, tmp_path))
        openmp = Path(f"/dev/shm/__KMP_REGISTERED_LIB_{pid}_0")
        openmp.touch()
        assert eventually(lambda: "mapped" in (tmp_path / "py.log").read_text())
    assert not Path(f"/dev/shm/{name}").exists()
    assert not openmp.exists()


def test_shared_memory_of_others_stays(tmp_path: Path) -> None:
    foreign = Path(f"/dev/shm/pytest-mooncake-foreign-{os.getpid()}")
    with supervised(isolate=False) as supervisor:
        foreign.touch()
        supervisor.start(shell("true", tmp_path))
    assert foreign.exists()
    foreign.unlink()


@as_root
def test_an_isolated_server_is_reached_from_inside_its_namespace_only(tmp_path: Path) -> None:
    serve = (
        "import socket, time\n"
        "server = socket.create_server(('127.0.0.1', 18123)); print('listening', flush=True); time.sleep(60)\n"
    )
    with supervised(isolate=True) as supervisor:
        if supervisor.netns is None:
            pytest.skip(f"no network namespace here: {supervisor.problem}")
        supervisor.start(python(serve, tmp_path))
        assert eventually(lambda: "listening" in (tmp_path / "py.log").read_text())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 18123))
        with inside(supervisor.netns):
            socket.create_connection(("127.0.0.1", 18123)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 18123))
        gone = supervisor.netns
    with pytest.raises(StackError, match=r"namespace is gone .*has it ended"):
        enter(gone)


@as_root
def test_something_that_is_no_namespace_cannot_be_entered(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be entered"):
        enter(str(tmp_path / "file"))


def test_without_isolation_there_is_no_namespace_and_entering_none_changes_nothing() -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    with supervised(isolate=False) as supervisor:
        assert supervisor.netns is None
        assert supervisor.problem is None
        enter(supervisor.netns)
        with inside(None):
            assert Path("/proc/thread-self/ns/net").readlink() == before


def test_a_warden_that_does_not_understand_says_so() -> None:
    with supervised(isolate=False) as supervisor:
        answer = supervisor._ask(op="dance")
    assert answer == {"error": "unknown command 'dance'"}


def test_birth_tells_a_process_from_its_successors_and_is_none_for_the_dead() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    first = birth(child.pid)
    assert first is not None
    assert first == birth(child.pid)
    assert first != birth(os.getpid())
    child.kill()
    assert eventually(lambda: birth(child.pid) is None)  # a zombie already
    child.wait()
    assert birth(child.pid) is None
