"""Run a command and account for all it started: `python -m benchmarks.client.accounted OUT LIMIT_S COMMAND...`.

Processes that outlive their parent are adopted (`PR_SET_CHILD_SUBREAPER`), so that none escapes the account. CPU is
the kernel's for everything reaped; memory is the largest sum of resident sets seen, shared pages counted once a
process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Account", "account"]

_SUBREAPER = 36
_SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a command came to. `code` is its exit status; CPU of it and of all it started."""

    code: int
    cpu_s: float
    wall_s: float
    peak_bytes: int
    started_ns: int


def account(command: list[str], directory: Path, *, limit_s: float, environment: dict[str, str]) -> Account:
    """Run `command` in `directory` under this module; its output lies in `directory`/output.txt."""
    told = directory / "account.json"
    wrapper = [sys.executable, "-m", "benchmarks.client.accounted", str(told), str(limit_s), *command]
    root = str(Path(__file__).parents[2])
    with (directory / "output.txt").open("wb") as output:
        subprocess.run(
            wrapper,
            check=True,
            cwd=directory,
            env={**environment, "PYTHONPATH": root},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Account(**json.loads(told.read_bytes()))


def _watch(process: subprocess.Popen[bytes], limit_s: float, peak: list[int], ended: threading.Event) -> None:
    import psutil

    us, deadline = psutil.Process(), time.monotonic() + limit_s
    while not ended.wait(_SAMPLE_S):
        sizes = []
        for child in us.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                sizes.append(child.memory_info().rss)
        peak.append(sum(sizes))
        if time.monotonic() > deadline:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


def main(out: str, limit_s: str, *command: str) -> None:
    """Run, reap everything, write the account."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    began_ns, peak, ended, code = time.monotonic_ns(), [0], threading.Event(), 1
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    watcher = threading.Thread(target=_watch, args=(process, float(limit_s), peak, ended))
    watcher.start()
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            if pid == process.pid:
                code = os.waitstatus_to_exitcode(status)
    wall_s = (time.monotonic_ns() - began_ns) / 1e9
    ended.set()
    watcher.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime
    told = {"code": code, "cpu_s": cpu_s, "wall_s": wall_s, "peak_bytes": max(peak), "started_ns": began_ns}
    Path(out).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
