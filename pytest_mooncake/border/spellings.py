r"""Other ways of writing a text: escapes undone, separators left out; and where in the text each character stands.

A server rarely repeats a secret as it was sent: it stands in JSON (`\/`), HTML (`&amp;`), a URL (`%2F`), a `repr`, or
broken over lines. Instead of listing all these spellings of a secret, texts are read the way their reader would.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator

__all__ = ["Spelling", "readings"]

Replace = Callable[[re.Match[str]], str]
Piece = tuple[int, int, int, bool]
"""Where a piece begins in the new text, where in the old one, its length there, and whether it is the same in both."""

_MOST_LEVELS = 4
"""Escapes within escapes: a URL in JSON in a log line, and one more."""
_ESCAPE = re.compile(
    r"""\\u([0-9A-Fa-f]{4}) | \\u\{([0-9A-Fa-f]{1,6})\} | \\U([0-9A-Fa-f]{8}) | \\x([0-9A-Fa-f]{2})
      | %u([0-9A-Fa-f]{4}) | %([0-9A-Fa-f]{2}) | &\#[xX]([0-9A-Fa-f]{1,6});? | \\([0-7]{3}) | &\#([0-9]{1,7});?
      | (&[A-Za-z]{2,8};) | \\(.)""",
    re.VERBOSE | re.DOTALL,
)
_OCTAL, _DECIMAL, _NAMED, _LAST = 8, 9, 10, 11
"""Groups of the pattern; those before hold hexadecimal digits."""
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "0": "\0"}
_MOST_CODE = 0x10FFFF
_NOISE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|<[^<>]{0,60}>")
"""What terminals and browsers do not show: colours, links, tags."""
_NO_ALNUM = re.compile(r"[^A-Za-z0-9]+")
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/_-]+")
_HEX_PREFIX = re.compile(r"0[xX](?=[0-9A-Fa-f]{2})|[^A-Za-z0-9]+")
_NUMBERS = re.compile(r"(?:(?<![0-9])[0-9]{2,3}[\s,;]+){5}")
_NUMBER = re.compile(r"(?<![0-9])([0-9]{2,3})(?![0-9])[\s,;]*")
_URL_SAFE = str.maketrans("-_", "+/")


class Spelling:
    """A text in which some of `parent` was rewritten. `origin` leads back to the very first text."""

    def __init__(self, text: str, parent: Spelling | None, pattern: re.Pattern[str], replace: Replace) -> None:
        self.text = text
        self._parent = parent
        self._pattern = pattern
        self._replace = replace
        self._pieces: list[Piece] = []

    @classmethod
    def plain(cls, text: str) -> Spelling:
        """A text as it is."""
        return cls(text, None, _ESCAPE, _nothing)

    def rewritten(self, pattern: re.Pattern[str], replace: Replace) -> Spelling:
        """The text with every match of `pattern` replaced."""
        return Spelling(pattern.sub(replace, self.text), self, pattern, replace)

    def with_same_length(self, text: str) -> Spelling:
        """The same places with other characters: lower case, another alphabet."""
        self.text = text
        return self

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]`, which is not empty, comes from."""
        if self._parent is None:
            return start, end
        return self._parent.origin(self._place(start)[0], self._place(end - 1)[1])

    def _place(self, at: int) -> tuple[int, int]:
        """First and one past the last character of the parent that character `at` was made of."""
        if not self._pieces:
            assert self._parent is not None  # noqa: S101 - the first text is asked for no place
            self._pieces = list(_pieces(self._parent.text, self._pattern, self._replace))
        begin, origin, length, is_same = self._pieces[bisect_right(self._pieces, at, key=lambda piece: piece[0]) - 1]
        return (origin + at - begin, origin + at - begin + 1) if is_same else (origin, origin + length)


def _pieces(text: str, pattern: re.Pattern[str], replace: Replace) -> Iterator[Piece]:
    made = taken = 0
    for match in pattern.finditer(text):
        if match.start() > taken:
            yield made, taken, match.start() - taken, True
            made += match.start() - taken
        new = replace(match)
        if new:
            yield made, match.start(), len(match[0]), False
            made += len(new)
        taken = match.end()
    if taken < len(text):
        yield made, taken, len(text) - taken, True


def _nothing(_match: re.Match[str]) -> str:
    return ""


def _unescaped(match: re.Match[str]) -> str:
    kind = match.lastindex or _LAST
    said = match[kind]
    if kind == _NAMED:
        return html.unescape(said)
    if kind == _LAST:
        return _CONTROLS.get(said, said)
    code = int(said, 10 if kind == _DECIMAL else 8 if kind == _OCTAL else 16)
    return chr(code) if code <= _MOST_CODE else match[0]


def _character(match: re.Match[str]) -> str:
    code = int(match[1])
    return chr(code) if code < 256 else match[0]


def readings(text: str) -> Iterator[tuple[Spelling, tuple[Spelling, ...], Spelling]]:
    """Every way to read `text`: as it is and with one level of escapes after the other undone.

    Yields:
        The text as it is read, its letters and digits alone (lower case; without and with what is not shown), and
        what of it is base64 (in the standard alphabet).
    """
    level = Spelling.plain(text)
    if _NUMBERS.search(text):
        numbers = level.rewritten(_NUMBER, _character)
        yield numbers, _skeletons(numbers), _base64_of(numbers)
    for _ in range(_MOST_LEVELS):
        yield level, _skeletons(level), _base64_of(level)
        if _ESCAPE.search(level.text) is None:
            return
        level = level.rewritten(_ESCAPE, _unescaped)


def _skeletons(level: Spelling) -> tuple[Spelling, ...]:
    found = [_lower(level.rewritten(_NO_ALNUM, _nothing))]
    if "\x1b" in level.text or "<" in level.text:
        found.append(_lower(level.rewritten(_NOISE, _nothing).rewritten(_NO_ALNUM, _nothing)))
    if "0x" in level.text or "0X" in level.text:
        found.append(_lower(level.rewritten(_HEX_PREFIX, _nothing)))
    return tuple(found)


def _lower(skeleton: Spelling) -> Spelling:
    return skeleton.with_same_length(skeleton.text.lower())


def _base64_of(level: Spelling) -> Spelling:
    found = level.rewritten(_NO_BASE64, _nothing)
    return found.with_same_length(found.text.translate(_URL_SAFE))
