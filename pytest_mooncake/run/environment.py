"""What a run was made on: machine, interpreter, repository; and what its child processes get of the environment.

The record holds facts only: no secrets, no environment variables.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from pytest_mooncake import __version__
from pytest_mooncake.border.child_environment import OF_THE_SYSTEM

__all__ = ["describe"]

GIT_TIMEOUT_S = 5
OF_GIT = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"})


def describe(directory: Path) -> dict[str, str | int | None]:
    """The environment as flat facts for report and history; `directory` is where the suite runs (its git is asked)."""
    return {
        "pytest_mooncake": __version__,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "os": platform.platform(terse=True),
        "cpu": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "git_commit": _git(directory, "rev-parse", "--short=12", "HEAD"),
        "git_dirty": _git_dirty(directory),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _git(directory: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [git, "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
            env={name: value for name, value in os.environ.items() if name in OF_THE_SYSTEM | OF_GIT},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _git_dirty(directory: Path) -> str | None:
    changed = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return None if changed is None else ("yes" if changed else "no")
