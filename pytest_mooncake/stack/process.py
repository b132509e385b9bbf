"""Supervised processes: started, watched and ended through a warden that outlives neither them nor us.

`supervised()` starts the warden (see `warden.py`) and hands out a `Supervisor`. Whatever is started through it is gone
when the block ends, and also when this process is killed in the middle of it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mooncake.border.child_environment import inherited
from pytest_mooncake.errors import StackError

__all__ = ["Command", "Supervisor", "birth", "supervised"]

_WARDEN = Path(__file__).with_name("warden.py")
_ANSWER_S = 10.0
_END_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One process to start. Its output is appended to `log`; `env` is its whole environment."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")


def birth(pid: int) -> str | None:
    """What tells a process from a later one with the same id: boot and start time; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, started_ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{started_ticks}"


class Supervisor:
    """Processes by name, owned by one warden.

    Args:
        warden: The running warden, with pipes.
        run_dir: A directory of its own for sockets and temporary files; removed when the warden ends.
        netns: Path of its network namespace, None where it has none of its own.
        problem: Why it has none although it was to have one.
    """

    def __init__(self, warden: subprocess.Popen[bytes], run_dir: Path, netns: str | None, problem: str | None) -> None:
        self._warden = warden
        self._lock = threading.Lock()
        self._detached = False
        self.run_dir = run_dir
        self.netns = netns
        self.problem = problem

    @property
    def pid(self) -> int:
        """The warden's process id: ending it ends the stack."""
        return self._warden.pid

    def start(self, command: Command) -> int:
        """Start a process and return its id.

        Raises:
            StackError: It cannot be started (no such file, no permission) or the warden is gone.
        """
        answer = self._ask(
            op="start",
            name=command.name,
            argv=list(command.argv),
            env=dict(command.env),
            log=str(command.log),
            cwd=str(command.cwd),
        )
        if problem := answer.get("error"):
            raise StackError(f"{command.name} cannot be started: {problem}")
        return int(answer["pid"])

    def exits(self) -> dict[str, int]:
        """Processes that have ended, by name; a negative code is the signal that ended one."""
        return dict(self._ask(op="exits")["exits"])

    def processes(self) -> tuple[int, ...]:
        """Ids of everything alive under the warden, whoever started it."""
        return tuple(self._ask(op="processes")["processes"])

    def detach(self) -> None:
        """Let the stack outlive this process; from here on only SIGTERM to `pid` ends it."""
        self._ask(op="detach")
        self._detached = True
        self._close_pipes()
        self._warden.returncode = 0  # nobody here will wait for it: keep its destructor from complaining

    def stop(self) -> None:
        """End everything and wait until it has ended; does nothing once detached or stopped."""
        if self._detached or self._warden.stdin is None or self._warden.stdin.closed:
            return
        with suppress(StackError):  # it died: the kernel has killed its children
            self._send({"op": "stop"})
        self._close_pipes()
        self._await_end()

    def _await_end(self) -> None:
        try:
            self._warden.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._warden.kill()  # PR_SET_PDEATHSIG takes its children along
            self._warden.wait()
        shutil.rmtree(self.run_dir, ignore_errors=True)  # the warden has done so, unless it was killed

    def _close_pipes(self) -> None:
        for pipe in (self._warden.stdin, self._warden.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, **command: Any) -> dict[str, Any]:
        with self._lock:
            self._send(command)
            return _answer(self._warden)

    def _send(self, command: Mapping[str, Any]) -> None:
        assert self._warden.stdin is not None  # noqa: S101 - opened by `supervised`
        try:
            self._warden.stdin.write(json.dumps(command).encode() + b"\n")
        except (OSError, ValueError):
            raise StackError(f"the stack's warden (process {self.pid}) is gone, and the stack with it") from None


def _answer(warden: subprocess.Popen[bytes]) -> dict[str, Any]:
    """One line from the warden; the bound is generous, it answers within milliseconds."""
    assert warden.stdout is not None  # noqa: S101 - opened by `supervised`
    deadline, kept = time.monotonic() + _ANSWER_S, b""
    while not kept.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([warden.stdout], [], [], left_s)[0]:
            raise StackError(f"the stack's warden (process {warden.pid}) does not answer")
        data = os.read(warden.stdout.fileno(), 65536)
        if not data:
            raise StackError(f"the stack's warden (process {warden.pid}) is gone, and the stack with it")
        kept += data
    answer: dict[str, Any] = json.loads(kept)
    return answer


@contextmanager
def supervised(*, isolate: bool) -> Iterator[Supervisor]:
    """Start a warden; leaving the block ends all that it owns, unless it was detached.

    Args:
        isolate: Give it a network namespace of its own where that is permitted (`Supervisor.problem` says why not).
    """
    run_dir = Path(tempfile.mkdtemp(prefix="pytest-mooncake-"))
    warden = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-I", str(_WARDEN), str(run_dir), str(os.getpid()), *(["--isolate"] if isolate else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
        env=inherited(),  # each of its children gets an environment of its own
    )
    supervisor = Supervisor(warden, run_dir, None, None)
    try:
        hello = _answer(warden)
        supervisor.netns = f"/proc/{warden.pid}/ns/net" if hello["isolated"] else None
        supervisor.problem = hello["problem"]
        yield supervisor
    finally:
        supervisor.stop()
