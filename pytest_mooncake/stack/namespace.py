"""Enter the network namespace of a stack: whoever talks to an isolated stack does so from a thread inside it.

A network namespace belongs to a thread, not to a process: the measuring thread can live in the stack's namespace while
the rest of pytest stays outside. Threads and processes started from a thread inside are inside as well.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_mooncake.errors import StackError

__all__ = ["enter", "inside"]

_CLONE_NEWNET = 0x40000000
_OWN = Path("/proc/thread-self/ns/net")


def enter(path: str | None) -> None:
    """Move the calling thread, for good, into the network namespace at `path`; None means stay.

    Args:
        path: `StackView.details["netns"]`, e.g. `/proc/4711/ns/net`.

    Raises:
        StackError: The namespace is gone (its stack has ended) or may not be entered.
    """
    if path is None:
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StackError(f"{path}: the stack's network namespace is gone ({error.strerror}); has it ended?") from None
    try:
        _set(fd, path)
    finally:
        os.close(fd)


@contextmanager
def inside(path: str | None) -> Iterator[None]:
    """Be in the namespace at `path` for the length of a `with` block (this thread only); None changes nothing."""
    if path is None:
        yield
        return
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(path)
        yield
    finally:
        _set(own, str(_OWN))
        os.close(own)


def _set(fd: int, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise StackError(f"{path}: the stack's network namespace cannot be entered ({reason})")
