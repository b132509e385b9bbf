"""Files that a user names, opened so that none of them keeps us waiting: a pipe that nobody writes to is empty."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_binary"]


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading; of a pipe, what its writer still writes is waited for, a writer is not.

    Raises:
        OSError: it cannot be opened.
        ValueError: its name can be none.
    """
    return open(path, "rb", opener=_opened_at_once)


def _opened_at_once(name: str, flags: int) -> int:
    fd = os.open(name, flags | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    return fd
