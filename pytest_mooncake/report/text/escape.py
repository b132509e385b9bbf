"""Text that others wrote, made harmless: it may be shown, it may not format, link, mention or run anything."""

from __future__ import annotations

import html
import re
from itertools import pairwise

_URL = re.compile(r"(?:https?|mooncakestore)://[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]*[A-Za-z0-9/_=-]")
"""An address as it stands in a sentence, without the point or bracket that follows it."""
_MARKDOWN = re.compile(r"([\\`*_\[\]{}|~#!])")
MAX_CELL = 2_000
"""Characters of one foreign text in a report; more is cut, the records hold all of it."""


class Trusted(str):
    """Markdown that this package wrote itself; everything else is escaped when it is printed."""

    __slots__ = ()


def one_line(text: str) -> str:
    """`text` without line ends and control characters, at most `MAX_CELL` long."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= MAX_CELL else f"{flat[:MAX_CELL]}…"


def markdown(value: object) -> str:
    r"""`value` as Markdown that shows it literally on one line, inside a table cell too.

    >>> markdown("<b>|*x*|")
    '&lt;b&gt;\\|\\*x\\*\\|'
    >>> markdown("at http://127.0.0.1:8000 (vLLM)")
    'at `http://127.0.0.1:8000` (vLLM)'
    """
    if isinstance(value, Trusted):
        return value
    flat = one_line(str(value))
    ends = [0, *(end for found in _URL.finditer(flat) for end in found.span()), len(flat)]
    pieces = [flat[start:end] for start, end in pairwise(ends)]
    return "".join(_code(piece) if place % 2 else _literal(piece) for place, piece in enumerate(pieces))


def _code(url: str) -> str:
    """An address as a code span: it reads as it is and links nowhere. It holds no backtick and no pipe."""
    return f"`{url}`"


def _literal(text: str) -> str:
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(text, quote=False))
    return escaped.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")


def fence(text: str) -> str:
    """A code fence longer than any run of backticks in `text`."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)


def code_lines(text: str) -> str:
    """`text` for inside a code block: its own lines, without other control characters."""
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
