"""Sources of counters: what they are called, and what the error of a scrape says of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


MASTER = "master"


TIMED_OUT = "no answer within"
"""How the error of a scrape starts whose source was too slow: slow is not dead, evidence tells the two apart."""


_GONE = ("refuses the connection", "connection refused", "connect call failed")


def is_gone(error: str) -> bool:
    """Whether the error of a scrape says that nothing listens there any more; whatever answers, wrongly too, is alive.

    >>> is_gone("http://e/metrics: HTTP 503 instead of metrics"), is_gone("http://e/metrics: connection refused")
    (False, True)
    """
    return any(words in error.lower() for words in _GONE)
