"""A directory of its own for the logs of a stack: what lies there already stays, whoever put it there."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_mooncake.errors import StackError

__all__ = ["holds_only_logs", "own_log_dir"]

MOST_TRIES = 1000
_DIRECTORY = re.compile(r"logs(-\d+)?|(start-\d+|without-connector)(-\d+)?")
_LOG = re.compile(r"(master|simulated|node-\d+|vllm-\d+|tool-[a-z-]+)\.log")


def own_log_dir(wanted: Path) -> Path:
    """Make the directory that is wanted, or take it where it is empty; else one beside it with a number.

    Raises:
        StackError: none can be made.
    """
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if not any(wanted.iterdir()):
            return wanted
        for number in range(2, MOST_TRIES):
            beside = wanted.with_name(f"{wanted.name}-{number}")
            try:
                beside.mkdir()
            except FileExistsError:
                continue
            return beside
    except OSError as error:
        raise StackError(f"{wanted}: no logs can be written there ({error.strerror or error})") from None
    raise StackError(f"{wanted}: holds logs of {MOST_TRIES} starts; remove some of them")


def holds_only_logs(path: Path) -> bool:
    """Whether this is a directory that a stack's start left behind: logs of our components, nothing else."""
    if path.is_symlink() or not path.is_dir() or not _DIRECTORY.fullmatch(path.name):
        return False
    return all(_is_log(one) or holds_only_logs(one) for one in path.iterdir())


def _is_log(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and _LOG.fullmatch(path.name) is not None
