"""A header of the user's own, from an environment variable: a secret, so no message shows what the variable holds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_mooncake.errors import UsageError

__all__ = ["header_in"]

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]+)")
_OURS = {"content-length", "content-type", "host", "transfer-encoding", "connection"}


def header_in(variable: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The header `Name: value` that `variable` holds.

    Raises:
        UsageError: it is not set, holds no header, or one that belongs to the request itself.
    """
    flag = f"--mooncake-header-env {variable}"
    text = environ.get(variable, "").strip()
    if not text:
        raise UsageError(f"{flag}: this environment variable is not set; export it as 'Name: value'")
    found = _HEADER.fullmatch(text)
    if not found:
        raise UsageError(f"{flag}: what it holds is no header; export it as 'Name: value' on one line")
    name, value = found.groups()
    if name.lower() in _OURS:
        raise UsageError(f"{flag}: {name} belongs to the request itself and cannot be set")
    return {name: value.strip()}
