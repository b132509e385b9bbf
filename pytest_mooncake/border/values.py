"""Values from outside: JSON and numbers that can be counted with, written down and read back, or one line why not.

Python reads JSON that is none (`NaN`, `1e400`), texts that no file can hold (half a surrogate pair) and nesting that
breaks whoever walks it later. Behind `parse_json` there are only finite numbers, whole characters and shallow values;
the typed readers then say what of a value that we need is not what it has to be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pytest_mooncake.errors import BorderError

if TYPE_CHECKING:
    import orjson

__all__ = [
    "MOST_COUNT",
    "MOST_DEPTH",
    "MOST_JSON_BYTES",
    "MOST_NUMBER",
    "NotJson",
    "finite",
    "parse_json",
    "printable",
    "shown",
    "text_of",
    "whole_number_of",
    "whole_text",
]

MOST_JSON_BYTES = 4 * 2**20
"""A list of thousands of models or the tokens of a long text; parsed, it takes about 100 MB at the very worst."""
MOST_DEPTH = 64
"""Model lists and completions nest less than 10 deep; walking 64 needs no care anywhere behind."""
MOST_COUNT = 2**31 - 1
"""Tokens of a context, an id of a vocabulary: what fits 32 bits, as it has to in the columns."""
MOST_NUMBER = 2.0**64
"""The largest a 64-bit counter can show. Sums and differences of such numbers stay finite."""
MOST_NAME_CHARS = 4096
"""A model's name may be the path of its directory, which Linux bounds to this."""
_SHOWN_CHARS = 40
_REMEDY = "is this the server that is meant, and the right version of it?"
_NAME = re.compile(r"[A-Za-z_]{1,40}")
"""What a field is called, which must be found: it may be part of a secret (`choices-key-1`)."""
_NO_NUMBER = re.compile(r"-?(NaN|Infinity)")

Redact = Callable[[str], str]


class NotJson(BorderError):
    """Text that is not JSON at all: a web page, an empty answer, a document that breaks off."""


def printable(text: object) -> str:
    """Return `text` on one line with every character that could move a cursor or colour a terminal escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def whole_text(text: str) -> str:
    r"""Return `text` with what is no character (half a surrogate pair) replaced, so that it can be written.

    >>> whole_text("a\ud800b")
    'a\ufffdb'
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def finite(value: float) -> float | None:
    """Return a number that can be counted with, None for NaN, an infinity and what no counter of 64 bits can show.

    >>> finite(3.0), finite(float("inf")), finite(1e300)
    (3.0, None, None)
    """
    return value if math.isfinite(value) and abs(value) <= MOST_NUMBER else None


def parse_json(
    text: str | bytes,
    where: str,
    *,
    most_bytes: int = MOST_JSON_BYTES,
    most_depth: int = MOST_DEPTH,
    redact: Redact | None = None,
) -> Any:
    """Return the JSON in `text`: finite numbers, whole characters, at most `most_depth` deep.

    Args:
        text: what a server or a file says.
        where: its address, which begins the line of an error.
        most_bytes: longer texts are refused (characters, where it is a `str`).
        most_depth: deeper nesting is refused.
        redact: takes secrets out of every text in it, escapes undone.

    Raises:
        NotJson: it is no JSON.
        BorderError: it is too large, nested too deeply, or holds a number or text that cannot be taken in.
    """
    import orjson

    if len(text) > most_bytes:
        raise BorderError(f"{where} sends more than {most_bytes / 2**20:g} MiB of JSON: {_REMEDY}")
    try:
        value = orjson.loads(text.removeprefix("\ufeff") if isinstance(text, str) else text)
    except orjson.JSONDecodeError as error:
        raise _refusal(error, where, most_depth) from None
    if redact is None and _brackets(text) <= most_depth:
        return value
    holder = [value]
    if not _is_shallow(holder, most_depth + 1, redact):
        raise BorderError(_too_deep(where, most_depth))
    return holder[0]


def _brackets(text: str | bytes) -> int:
    return text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")


def _refusal(error: orjson.JSONDecodeError, where: str, most_depth: int) -> BorderError:
    if "depth" in error.msg or "recursion" in error.msg:
        return BorderError(_too_deep(where, most_depth))
    if "surrogate" in error.msg:
        return BorderError(f"{where} sends half a character (a lone surrogate), which nothing can write: {_REMEDY}")
    if "infinity" in error.msg:
        return BorderError(f"{where} sends a number that is too large to be one: {_REMEDY}")
    around = error.doc[max(0, error.pos - 1) : error.pos + 10]
    if found := _NO_NUMBER.search(around):
        return BorderError(f"{where} sends {found.group()}, which is no number: {_REMEDY}")
    return NotJson(f"{where} does not send JSON ({printable(error.msg)}): {_REMEDY}")


def _too_deep(where: str, most_depth: int) -> str:
    return f"{where} sends JSON that nests more than {most_depth} deep: {_REMEDY}"


def _is_shallow(root: list[Any], most_depth: int, redact: Redact | None) -> bool:
    """Walk level by level, without recursion; texts are redacted in place."""
    level: list[Any] = [root]
    for _ in range(most_depth):
        below: list[Any] = []
        for one in level:
            if redact is not None:
                _redact_in(one, redact)
            values: Iterable[Any] = one.values() if isinstance(one, dict) else one
            below += [value for value in values if isinstance(value, (dict, list))]
        if not below:
            return True
        level = below
    return False


def _redact_in(one: Any, redact: Redact) -> None:
    if isinstance(one, list):
        one[:] = [redact(value) if isinstance(value, str) else value for value in one]
        return
    kept = {
        key if _NAME.fullmatch(key) else redact(key): redact(value) if isinstance(value, str) else value
        for key, value in one.items()
    }
    one.clear()
    one.update(kept)


def shown(value: object) -> str:
    """Return what a value is, short enough for a line and without walking into it.

    >>> shown("x" * 99), shown([[]]), shown(True), shown(None)
    ("'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'", 'a list', 'true', 'null')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "…"
        return repr(printable(cut))
    if isinstance(value, (int, float)):
        return f"{value:g}" if abs(value) >= 10**15 else str(value)
    return "a list" if isinstance(value, list) else "an object"


def text_of(value: object, where: str, what: str, *, most_chars: int = MOST_NAME_CHARS) -> str:
    """Return `value`, which has to be a text that is not blank and holds no control characters.

    Raises:
        BorderError: it is none.
    """
    if not isinstance(value, str):
        raise BorderError(f"{where}: {what} is {shown(value)}, expected a text: {_REMEDY}")
    if not value.strip():
        raise BorderError(f"{where}: {what} is empty, expected a text: {_REMEDY}")
    if len(value) > most_chars:
        raise BorderError(f"{where}: {what} has {len(value):,} characters, expected at most {most_chars:,}: {_REMEDY}")
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise BorderError(f"{where}: {what} is {shown(value)}, expected a text without control characters: {_REMEDY}")
    return value


def whole_number_of(value: object, where: str, what: str, *, least: int = 1, most: int = MOST_COUNT) -> int:
    """Return `value`, which has to be a whole number from `least` to `most`.

    Raises:
        BorderError: it is none.

    >>> whole_number_of(32768, "http://host/v1/models", "max_model_len")
    32768
    """
    if type(value) is int and least <= value <= most:
        return value
    raise BorderError(
        f"{where}: {what} is {shown(value)}, expected a whole number from {least:,} to {most:,}: {_REMEDY}"
    )
