"""The warden: the one process that owns every process of a stack and outlives none of them.

It is run by path as a script (`python -I warden.py RUN_DIR PARENT_PID [--isolate]`), uses the standard library only and
takes one JSON command a line on stdin, answering each with one JSON line on stdout. What makes teardown certain:

* it watches its parent by pidfd, so a parent killed with SIGKILL is noticed at once, even where a forked child of the
  parent still holds the command pipe open;
* it is a child subreaper, so a process whose own parent dies becomes its child and cannot escape;
* when one of its direct children dies, what is left of that one's session is killed;
* its direct children get SIGKILL when it dies itself (`PR_SET_PDEATHSIG`; it starts them from its only thread, because
  that signal is tied to the thread that forked);
* it removes the run directory (sockets, temporary files) and the shared memory its processes left behind.

With `--isolate` it moves into a network namespace of its own first; whatever it starts then lives there.

Commands: `start` (name, argv, env, log, cwd), `exits`, `processes`, `detach` (outlive the parent), `stop`.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
GRACE_S = 3.0
"""How long processes may take over SIGTERM in an orderly stop; after a parent's death there is no grace."""
KILL_S = 5.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives, not a file of ours

_libc = ctypes.CDLL(None, use_errno=True)


def parents() -> dict[int, int]:
    """Map every process id to its parent's, zombies left out."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # the command in parentheses may itself hold spaces and parentheses
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            found[int(entry.name)] = int(ppid)
    return found


def descendants(root: int, parent_of: dict[int, int] | None = None) -> tuple[int, ...]:
    """All living processes below `root`, nearest first."""
    parent_of = parents() if parent_of is None else parent_of
    found: list[int] = []
    layer = {root}
    while layer:
        layer = {pid for pid, ppid in parent_of.items() if ppid in layer}
        found.extend(sorted(layer))
    return tuple(found)


def shared_memory_of(pids: Iterable[int]) -> set[str]:
    """Names under /dev/shm that these processes have mapped."""
    prefix = f"{SHARED_MEMORY}/"
    names: set[str] = set()
    for pid in pids:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            continue
        paths = (line.partition(prefix)[2] for line in maps.splitlines() if prefix in line)
        names.update(path.removesuffix(" (deleted)") for path in paths)
    return names


def orphaned_shared_memory(names: Iterable[str], pids: Iterable[int]) -> set[str]:
    """Of these names, those that libiomp5 made for one of the processes: it registers itself, then unmaps the file."""
    marks = {f"__KMP_REGISTERED_LIB_{pid}_" for pid in pids}
    return {name for name in names if any(name.startswith(mark) for mark in marks)}


def _shared_memory() -> set[str]:
    return {entry.name for entry in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()


def raise_loopback() -> None:
    """Bring `lo` up: a new network namespace starts with it down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


def isolate() -> str | None:
    """Move this process into a new network namespace; returns why that was not possible, or None."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(CLONE_NEWNET) != 0:
            return os.strerror(ctypes.get_errno())
        raise_loopback()
    except OSError as error:
        _libc.setns(own, CLONE_NEWNET)  # a namespace without loopback is of no use
        return f"loopback cannot be brought up: {error.strerror}"
    finally:
        os.close(own)
    return None


def die_with(parent: int) -> Callable[[], None]:
    """For a child between fork and exec: be killed when `parent` dies, also if it is dead already."""

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


class Warden:
    """Processes by name, what they ended with, and how all of them end."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.running: dict[int, str] = {}
        self.exited: dict[str, int] = {}
        self.started: set[int] = set()
        self.before = _shared_memory()
        self.detached = False
        self.ending = False

    def start(self, name: str, argv: list[str], env: dict[str, str], log: str, cwd: str) -> int:
        """Start one process in a session of its own, its output appended to `log`."""
        self.exited.pop(name, None)
        with Path(log).open("ab") as sink:
            process = subprocess.Popen(  # noqa: S603 - argv comes from the parent, no shell
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # safe: this process has one thread
            )
        process.returncode = 0  # we reap it ourselves: its destructor must not
        self.running[process.pid] = name
        self.started.add(process.pid)
        return process.pid

    def reap(self) -> None:
        """Collect every child that has ended, ours or adopted."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if name := self.running.pop(pid, None):
                self.exited[name] = os.waitstatus_to_exitcode(status)
                if not self.ending:
                    # what a dead engine leaves behind holds its listening socket: requests would wait there in vain
                    _signal([pid], signal.SIGKILL, os.killpg)

    def end(self, grace_s: float) -> None:
        """End all processes, then remove what they left."""
        self.ending = True
        pids = {*self.started, *descendants(os.getpid())}
        ours = shared_memory_of(pids)
        deadline = time.monotonic() + grace_s
        if grace_s > 0:
            _signal(self.running, signal.SIGTERM, os.killpg)
        while self.running and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.02)
        deadline = time.monotonic() + KILL_S
        while (left := descendants(os.getpid())) and time.monotonic() < deadline:
            _signal(left, signal.SIGKILL, os.kill)
            self.reap()
            time.sleep(0.01)
        self.reap()
        new = _shared_memory() - self.before
        for name in (ours & new) | orphaned_shared_memory(new, pids):
            (SHARED_MEMORY / name).unlink(missing_ok=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; what goes wrong is said in `error`."""
        op = command.pop("op", None)
        self.reap()
        if op == "start":
            try:
                return {"pid": self.start(**command)}
            except (OSError, subprocess.SubprocessError) as error:
                return {"error": str(error)}
        if op == "exits":
            return {"exits": self.exited}
        if op == "processes":
            return {"processes": descendants(os.getpid())}
        if op == "detach":
            self.detached = True
            return {}
        return {"error": f"unknown command {op!r}"}


def _signal(pids: Iterable[int], number: int, send: Callable[[int, int], None]) -> None:
    for pid in pids:
        try:
            send(pid, number)
        except ProcessLookupError:
            continue


def _wake_on_signals() -> int:
    """A descriptor that becomes readable whenever a signal arrived; SIGTERM asks for an orderly end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return read_end


def _lines(fd: int, kept: bytearray) -> tuple[list[bytes], bool]:
    """Whole lines that have arrived on `fd`, and whether its other end is closed."""
    data = os.read(fd, 65536)
    kept += data
    *lines, rest = bytes(kept).split(b"\n")
    kept[:] = rest
    return lines, not data


def watch(warden: Warden, parent_fd: int | None) -> float:
    """Serve commands until told or forced to end; returns the grace that its processes are to get."""
    wake, kept = _wake_on_signals(), bytearray()
    poll = select.poll()
    watched = {0, wake} if parent_fd is None else {0, wake, parent_fd}
    for fd in watched:
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        warden.reap()
        if wake in ready and signal.SIGTERM in os.read(wake, 4096):
            return GRACE_S
        if parent_fd in ready:
            return 0.0
        if 0 in ready and (grace_s := _serve(warden, *_lines(0, kept))) is not None:
            return grace_s
        for fd in watched - {wake} if warden.detached else ():
            poll.unregister(fd)
            watched.discard(fd)


def _serve(warden: Warden, lines: Iterable[bytes], closed: bool) -> float | None:
    """Answer commands; a number when the warden is to end, and with how much grace."""
    for line in lines:
        command = json.loads(line)
        if command.get("op") == "stop":
            return GRACE_S
        _reply(warden.obey(command))
    return 0.0 if closed and not warden.detached else None


def _reply(answer: dict[str, Any]) -> None:
    try:
        os.write(1, json.dumps(answer).encode() + b"\n")
    except BrokenPipeError:
        return


def _watch_process(pid: int) -> int | None:
    """A descriptor that becomes readable when the process dies; None before Linux 5.3 (the closed pipe has to do)."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def main(argv: list[str]) -> None:
    """Run until the stack has ended; `argv` is RUN_DIR PARENT_PID [--isolate]."""
    run_dir, parent = Path(argv[0]), int(argv[1])
    parent_fd = _watch_process(parent)
    if os.getppid() != parent:  # died before we could watch
        shutil.rmtree(run_dir, ignore_errors=True)
        return
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    warden = Warden(run_dir)
    asked = "--isolate" in argv
    problem = isolate() if asked else None
    _reply({"ready": True, "isolated": asked and problem is None, "problem": problem})
    grace_s = 0.0
    try:
        grace_s = watch(warden, parent_fd)
    finally:
        warden.end(grace_s)


if __name__ == "__main__":
    main(sys.argv[1:])
