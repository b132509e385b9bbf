"""What a run was made on: machine, interpreter, repository; and what its child processes get of the environment.

The record holds facts only: no secrets, no environment variables.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pytest_mooncake import __version__

__all__ = ["describe", "inherited"]

GIT_TIMEOUT_S = 5
OF_THE_SYSTEM = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC"),
        *("TZ", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE", "SSL_CERT_DIR", "MALLOC_ARENA_MAX"),
    }
)
"""What any process may need to find its parts and to speak the user's language."""
OF_PYTHON = frozenset(
    {
        *("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONUNBUFFERED"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONSAFEPATH"),
        *("PYTHONWARNINGS", "PYTHONFAULTHANDLER", "PYTHONMALLOC", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHON_GIL"),
        *("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE", "COVERAGE_RCFILE"),
        *("COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE"),
    }
)
"""What one of our own Python processes takes over, a coverage measurement of it included."""
OF_GIT = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"})
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CRED|AUTH|HEADER|COOKIE", re.IGNORECASE)


def inherited(*prefixes: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child process of ours gets of the environment: what it needs, and no secret of whoever started us.

    Keys and headers of endpoints reach those children that send them through a pipe.

    Args:
        prefixes: of further variables that this child reads, such as `MC_`; never those named like a secret.
        environ: the environment; that of this process unless given.

    >>> inherited("MC_", environ={"PATH": "/bin", "MC_LOG_LEVEL": "1", "MC_TOKEN": "x", "HF_TOKEN": "y", "KEY": "z"})
    {'PATH': '/bin', 'MC_LOG_LEVEL': '1'}
    """
    given = os.environ if environ is None else environ
    return {
        name: value
        for name, value in given.items()
        if name in OF_THE_SYSTEM | OF_PYTHON or (name.startswith(prefixes) and not _SECRET.search(name))
    }


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
