"""Bodies of answers, unpacked a piece at a time and never beyond a limit: 4 MB of gzip may be 4 GB of zeros."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from pytest_mooncake.border.values import printable, whole_text

__all__ = ["Unpacking", "Unreadable"]

_PIECE_BYTES = 2**16
_PLAIN = ("", "identity")
_GZIP = ("gzip", "x-gzip")
_RAW_DEFLATE = -zlib.MAX_WBITS


class Unreadable(Exception):
    """A body that is too long or packed wrongly."""


class Unpacking:
    """Unpacks one body and counts its bytes, those that arrive and those that come out.

    Args:
        coding: what `Content-Encoding` says.
        most_bytes: limit of either count.
    """

    def __init__(self, coding: str, most_bytes: int) -> None:
        self._coding = coding.strip().lower()
        self._most = most_bytes
        self._arrived = self._unpacked = 0
        self._inflate: zlib._Decompress | None = None
        if self._coding not in (*_PLAIN, *_GZIP, "deflate"):
            shown = printable(whole_text(coding))[:40]
            raise Unreadable(f"packs its answer ({shown!r}), which was not asked for: is a proxy in between?")

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Return what comes out of the next bytes, packed ones 64 KiB at a time, up to the limit; then raise."""
        room = self._most - self._arrived
        self._arrived += len(data)
        if self._coding in _PLAIN:
            yield data[:room]
            self._check(self._arrived)
            return
        self._check(self._arrived)
        if self._inflate is None:
            self._inflate = zlib.decompressobj(self._window(data[0]))
        while True:
            piece = self._next(self._inflate, data)
            room = self._most - self._unpacked
            self._unpacked += len(piece)
            yield piece[:room]
            self._check(self._unpacked)
            data = self._inflate.unconsumed_tail
            if not data and len(piece) < _PIECE_BYTES:
                return

    def end(self) -> None:
        """Raise if more should have come."""
        if self._inflate is not None and not self._inflate.eof:
            raise Unreadable("breaks its packed answer off in the middle: is a proxy in between?")

    def _window(self, first: int) -> int:
        if self._coding in _GZIP:
            return 16 + zlib.MAX_WBITS
        return zlib.MAX_WBITS if first & 0x0F == 8 else _RAW_DEFLATE  # many servers leave the header of zlib out

    def _next(self, inflate: zlib._Decompress, data: bytes) -> bytes:
        try:
            piece = inflate.decompress(data, _PIECE_BYTES)
        except zlib.error:
            raise Unreadable(f"says that its answer is packed ({self._coding}), and it is not") from None
        if inflate.unused_data:
            raise Unreadable("goes on behind the end of its packed answer: is a proxy in between?")
        return piece

    def _check(self, count: int) -> None:
        if count > self._most:
            size = f"{self._most / 2**20:g} MiB"
            raise Unreadable(f"sends an answer larger than {size}, which is not read: is the address right?")
