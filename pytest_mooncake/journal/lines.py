"""Lines of a record that tell whether they are as they were written: numbered, each with a checksum.

A line is a JSON object that ends with `"n"`, its number in the file from 1, and `"crc"`, the CRC-32 of all that stands
before it, begun with the run's id and the file's name. So a line that was altered, lost, repeated, moved, or taken
from another run is noticed. That is against accidents; who means to forge a line can compute its checksum as we do.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from pytest_mooncake.errors import JournalError

__all__ = [
    "LineFile",
    "Lines",
    "append_to",
    "create",
    "first_line",
    "is_checked",
    "line_of",
    "number_of",
    "seed_of",
    "unreadable",
    "unwritable",
    "write_whole",
]

MOST_BYTES = 64 * 1024 * 1024
"""A longer line is none that a run wrote."""
MOST_TOLD = 20
"""Places of damage that are named one by one."""
_CRC = b',"crc":"'
_TAIL = len(_CRC) + 8 + len(b'"}\n')
_FULL = {errno.ENOSPC, errno.EDQUOT}

ALTERED = "not as it was written (its checksum is wrong)"
MOVED = "repeated or moved"


def seed_of(run_id: str, name: str) -> int:
    """What the checksums of a file's lines begin with: the run that they belong to and the file."""
    return zlib.crc32(f"{run_id}/{name}\n".encode())


def line_of(body: bytes, number: int, seed: int) -> bytes:
    """A JSON object as a line of the record.

    Args:
        body: the object, as orjson writes it; not empty.
        number: of the line in its file, from 1.
        seed: see `seed_of`.
    """
    head = b'%b,"n":%d' % (body[:-1], number)
    return b'%b,"crc":"%08x"}\n' % (head, zlib.crc32(head, seed))


def number_of(line: bytes, seed: int) -> int | None:
    """The number of a line that is as it was written; `None` of any other."""
    at = len(line) - _TAIL
    if at < 0 or line[at:] != b'%b%08x"}\n' % (_CRC, zlib.crc32(line[:at], seed)):
        return None
    digits = line[line.rfind(b":", 0, at) + 1 : at]
    return int(digits) if digits.isdigit() else None


def _bears_checksum(line: bytes) -> bool:
    return line[-_TAIL:].startswith(_CRC) and line.endswith(b'"}\n')


def first_line(path: Path) -> bytes:
    """The first line of a file, as it is.

    Raises:
        JournalError: there is no such file, or it cannot be read.
    """
    with _opened(path) as file:
        return _line(file, path)


def is_checked(path: Path) -> bool:
    """Whether the first line of a file bears a checksum, right or wrong; those of the first versions bear none.

    Raises:
        JournalError: there is no such file, or it cannot be read.
    """
    return _bears_checksum(first_line(path))


def unwritable(path: Path, error: OSError) -> JournalError:
    """What the user is told when a file of the record cannot be written."""
    if error.errno in _FULL:
        return JournalError(
            f"disk full: {path} takes no more ({error.strerror}); what was written before it stands: "
            "make room and run again"
        )
    return JournalError(f"{path}: cannot be written ({error.strerror or error})")


def create(path: Path) -> int:
    """Create a file that nobody else has, for appending.

    Raises:
        OSError: it is there already, under this name or as a link, or cannot be made.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def write_whole(fd: int, content: bytes) -> None:
    """Write all of it: an operating system may take a part and say so only in what it returns.

    Raises:
        OSError: it cannot be written.
    """
    left = memoryview(content)
    while left:
        written = os.write(fd, left)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


class LineFile:
    """An append-only file of numbered lines; of a line that could not be written whole nothing is left.

    Args:
        path: of the file; must not exist.
        run_id: of the run that the lines belong to.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self._path = path
        self._seed = seed_of(run_id, path.name)
        self._fd = create(path)
        self._written = (0, 0)

    @property
    def lines(self) -> int:
        """How many lines it holds."""
        return self._written[1]

    def append(self, body: bytes) -> None:
        """Append one JSON object as a line.

        Raises:
            JournalError: it cannot be written, because the disk is full or otherwise.
        """
        size, lines = self._written
        line = line_of(body, lines + 1, self._seed)
        try:
            write_whole(self._fd, line)
            self._written = (size + len(line), lines + 1)
        except OSError as error:
            self._settle(len(line))
            raise unwritable(self._path, error) from None
        except BaseException:  # an interruption may come between the write and its being counted
            self._settle(len(line))
            raise

    def _settle(self, length: int) -> None:
        """Count the line where it is all there, take it back where a part is."""
        size, lines = self._written
        found = os.fstat(self._fd).st_size
        if found == size + length:
            self._written = (found, lines + 1)
        elif found > size:
            os.ftruncate(self._fd, size)  # needs no room

    def close(self) -> None:
        """Close it; once is enough, twice does no harm."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def append_to(path: Path, content: bytes) -> None:
    """Append to a file that is there, all of it or nothing.

    Raises:
        JournalError: it cannot be written.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        size = os.fstat(fd).st_size
        write_whole(fd, content)
    except OSError as error:
        os.ftruncate(fd, size)
        raise unwritable(path, error) from None
    finally:
        os.close(fd)


class Lines:
    """The lines of a file that stand, one at a time; what does not is told in `damage`, once they are read.

    Args:
        path: of the file.
        seed: of its checksums; `None` for a record without any.
    """

    def __init__(self, path: Path, seed: int | None) -> None:
        self.path = path
        self.last = 0
        """Number of the last line, whatever became of it."""
        self.is_torn = False
        """Whether the last line has no end: the run was killed, or the disk was full, while it was written."""
        self._seed = seed
        self._sure = 0
        self._found: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of every line that stands.

        Raises:
            JournalError: there is no such file, or it cannot be read.
        """
        with _opened(self.path) as file:
            for line in iter(partial(_line, file, self.path), b""):
                if not line.endswith(b"\n"):
                    self.is_torn = True
                    return
                number = self._of_unchecked(line) if self._seed is None else self._of_checked(line, self._seed)
                if number is not None:
                    yield number, line

    def _of_unchecked(self, line: bytes) -> int | None:
        self.last += 1
        if not _bears_checksum(line):
            return self.last
        self.broken(self.last, "it bears a checksum, in a record that has none")
        return None

    def _of_checked(self, line: bytes, seed: int) -> int | None:
        """The number of a line that stands; the place of any other is noted."""
        number = number_of(line, seed)
        if number is None:
            self.last += 1  # as far as can be told
            self.broken(self.last, ALTERED)
            return None
        if number <= self._sure:
            self.broken(number, MOVED)
            return None
        if number > self.last + 1:
            self.missing(number - 1)
        self._sure = self.last = number
        return number

    def broken(self, number: int, why: str) -> None:
        """Note that a line is not what it should be."""
        self._found.append((number, why))

    def missing(self, end: int) -> None:
        """Note that the lines after the last one up to `end` are not there."""
        start = self.last + 1
        self._found.append((start, "missing" if start == end else f"missing, as are all up to {end}"))
        self.last = end

    @property
    def is_damaged(self) -> bool:
        """Whether a place was found so far at which the file is not as it was written."""
        return bool(self._found)

    @property
    def damage(self) -> tuple[str, ...]:
        """One sentence for each place at which the file is not as it was written."""
        places: list[list[Any]] = []
        for number, why in self._found:
            if places and places[-1][2] == why and number == places[-1][1] + 1:
                places[-1][1] = number
            else:
                places.append([number, number, why])
        said = [f"{self.path.name}:{first}{f'-{last}' * (first != last)}: {why}" for first, last, why in places]
        more = len(said) - MOST_TOLD
        return (*said[:MOST_TOLD], *((f"{self.path.name}: {more} more places",) if more > 0 else ()))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file of the record, for reading."""
    try:
        if not path.is_file():
            raise JournalError(f"{path} is missing: the run's record is incomplete and cannot be judged")
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from None
    with file:
        yield file


def unreadable(path: Path, error: OSError) -> JournalError:
    """What the user is told when a file of the record cannot be read."""
    return JournalError(f"{path}: cannot be read ({error.strerror or error})")


def _line(file: BinaryIO, path: Path) -> bytes:
    """The next line, nothing at the end; of one that is too long to be ours the end alone, which no checksum fits."""
    try:
        line = file.readline(MOST_BYTES)
        while len(line) == MOST_BYTES and not line.endswith(b"\n"):
            line = file.readline(MOST_BYTES)
    except OSError as error:
        raise unreadable(path, error) from None
    return line
