"""Why a request failed, each in one line that is safe to print, and the checks a finished stream must pass."""

from __future__ import annotations

import re
import unicodedata

from pytest_mooncake.border.redaction import Redactor

__all__ = ["count_fault", "describe", "foreign_line", "one_line"]

_LIMIT = 200
_MOST_FOREIGN = 4096
"""More of a text than is ever shown of it, and little enough to be looked through at once."""
_SPACES = re.compile(r"\s+")


def one_line(text: object, limit: int = _LIMIT) -> str:
    r"""Make foreign text safe for a terminal and a report: one line, no control characters, at most `limit` long.

    >>> one_line(b"no such\n\x1b[31mmodel\x1b[0m")
    'no such [31mmodel [0m'
    """
    raw = text[: limit * 8] if isinstance(text, bytes | str) else str(text)[: limit * 8]
    decoded = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    visible = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in decoded)
    line = _SPACES.sub(" ", visible).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def foreign_line(text: object, redactor: Redactor, limit: int = _LIMIT) -> str:
    """What a server said, without the secrets that it repeats, in one line.

    Redacted before anything is cut off or made into a space: a part of a secret would not be found any more.
    """
    raw = text if isinstance(text, bytes | str) else str(text)
    decoded = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return one_line(redactor.redacted(decoded[:_MOST_FOREIGN]), limit)


def describe(error: BaseException, *, sent: bool, output: bool, redactor: Redactor | None = None) -> str:
    """Say in one line how the connection failed, and how far the request had come by then."""
    moment = "in the middle of the stream" if output else "before the first token" if sent else "before it was sent"
    text = foreign_line(error, redactor or Redactor())
    return f"connection failed {moment}: {type(error).__name__}" + (f": {text}" if text else "")


def count_fault(
    *, prompt_planned: int | None, prompt: int | None, output_planned: int, output: int | None
) -> str | None:
    """Compare the server's usage with what was planned; `None` when it agrees.

    `prompt_planned` is `None` where neither token ids nor a tokenizer exist: then the prompt is not checked.

    >>> count_fault(prompt_planned=8, prompt=9, output_planned=4, output=4)
    'the server counted 9 prompt tokens, planned were 8'
    """
    if output is None:
        return "the stream ended without usage: the server counted no tokens"
    if prompt_planned is not None and prompt is None:
        return f"the server's usage does not count prompt tokens, planned were {prompt_planned}"
    if prompt_planned is not None and prompt != prompt_planned:
        return f"the server counted {prompt} prompt tokens, planned were {prompt_planned}"
    if output != output_planned:
        return f"the server produced {output} output tokens, asked for were {output_planned}"
    return None
