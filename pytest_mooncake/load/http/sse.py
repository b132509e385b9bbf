"""Server-sent events out of raw bytes, each with the arrival time of the read that completed it.

The reader never waits for this parser: a connection keeps the bytes of a response together with one *mark* per read
(`(at_ns, total_bytes)`: when it arrived and how many body bytes there were then), and the parser maps every event's
last byte back to the read that brought it. So parsing may happen at any later time without moving a timestamp, and
any way of cutting the same bytes into reads gives the same events.

Source: WHATWG HTML, "Server-sent events", 9.2.6 (parsing and interpreting an event stream).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

__all__ = ["Event", "Mark", "SSEParser"]

Mark = tuple[int, int]
"""Arrival of one read: `(at_ns, total_bytes)`, the second counting all body bytes up to and including this read."""

Event = tuple[int, bytes]
"""One event: `(at_ns, data)`, when its last byte arrived and its `data` lines joined by newlines."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_DATA, _END = b"data: ", b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SSEParser:
    r"""Incremental parser of one response body.

    Args:
        marks: The arrivals of this body's reads, in order. The list may grow while parsing goes on, but must cover
            all bytes that were fed.

    >>> parser = SSEParser([(10, 9), (20, 17)])
    >>> parser.feed(b"data: 1\n") + parser.feed(b"\ndata: 2") + parser.finish()
    [(10, b'1'), (20, b'2')]
    """

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._marks = marks
        self._mark = 0
        self._tail = b""
        self._tail_at = 0
        """Offset in the body of the first byte of `_tail`, which always begins an event."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the event that is not complete yet."""
        return len(self._tail)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the body and return the events which they complete, oldest first."""
        buffer = self._tail + data if self._tail else data
        events: list[Event] = []
        if _is_plain(buffer):
            self._append_plain(events, buffer)
            return events
        blocks = _split(buffer) if b"\r" in buffer else buffer.split(b"\n\n")
        self._tail = blocks.pop()
        separator = 0 if b"\r" in buffer else 2
        for block in blocks:
            begin = self._tail_at
            self._tail_at = end = begin + len(block) + separator
            self._append(events, block, begin, end)
        return events

    def _append_plain(self, events: list[Event], buffer: bytes) -> None:
        """Cut what nearly every stream is, a line of data an event, at a third of the price."""
        values = buffer[len(_DATA) : -len(_END)].split(_END + _DATA)
        self._tail = b""
        marks, mark, end, extra = self._marks, self._mark, self._tail_at, len(_DATA) + len(_END)
        at_ns, covered = marks[mark]
        for value in values:
            end += len(value) + extra
            while covered < end:
                mark += 1
                at_ns, covered = marks[mark]
            if value:
                events.append((at_ns, value))
        self._mark, self._tail_at = mark, end

    def finish(self) -> list[Event]:
        """Return what a body without a final blank line left behind: at most one event.

        The standard drops it. Servers that omit the last blank line exist, and a cut event shows itself as broken
        JSON, so the reader above decides.
        """
        events: list[Event] = []
        end = self._tail_at + len(self._tail)
        self._append(events, self._tail, self._tail_at, end)
        self._tail_at = end
        self._tail = b""
        return events

    def _append(self, events: list[Event], block: bytes, begin: int, end: int) -> None:
        if begin == 0 and block.startswith(_BYTE_ORDER_MARK):
            block = block[3:]
        data = _data_of(block)
        if data:
            events.append((self._arrival(end), data))

    def _arrival(self, end: int) -> int:
        """Arrival of the read that brought the byte before offset `end`. Offsets only grow, so a pointer suffices."""
        marks = self._marks
        while marks[self._mark][1] < end:
            self._mark += 1
        return marks[self._mark][0]


def _is_plain(buffer: bytes) -> bool:
    """Whether all of it is complete events of one `data: ` line each, with lines that end in LF."""
    if not (buffer.startswith(_DATA) and buffer.endswith(_END)) or b"\r" in buffer:
        return False
    return buffer.count(b"\n") == 2 * (buffer.count(_END + _DATA) + 1)


def _split(buffer: bytes) -> list[bytes]:
    """Cut after every blank line, where lines may end in CR; the last piece is not complete.

    A CR at the very end may be half of a CRLF: only the next byte can tell, so no line ends there yet.
    """
    sure = buffer[:-1] if buffer.endswith(b"\r") else buffer
    cuts = [0, *(match.end() for match in _BLANK_LINE.finditer(sure)), len(buffer)]
    return [buffer[begin:end] for begin, end in itertools.pairwise(cuts)]


def _data_of(block: bytes) -> bytes:
    """Join the `data` lines of one event; empty when there is none (comments, `event:`, `retry:` only)."""
    values = [_value(line) for line in _LINE_END.split(block) if line.startswith(b"data:")]
    return b"\n".join(values)


def _value(line: bytes) -> bytes:
    return line[6:] if line.startswith(b"data: ") else line[5:]
