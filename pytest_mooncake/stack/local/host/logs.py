"""From a component's log to the few lines that say why it failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["port_taken", "useful_lines"]

LINES = 8
WIDTH = 240
_TAIL_BYTES = 256 * 1024
_PORT_TAKEN = re.compile(r"address already in use|errno 98\b|EADDRINUSE|failed to bind|bind.*port.*fail", re.IGNORECASE)
_USEFUL = re.compile(
    r"""^[EF]\d{4}\s            # glog: error, fatal
      | \b(ERROR|CRITICAL|FATAL)\b
      | ^\s*[\w.]*(Error|Exception|Interrupt)\b
      | error[:,]
      | \bterminate\ called|what\(\):|Segmentation\ fault|core\ dumped|Killed|out\ of\ memory
      | degraded\ mode
    """,
    re.VERBOSE,
)
_NOISE = re.compile(r"^\s*File \"|^\s*\^+\s*$|Traceback \(most recent|\x1b\[[0-9;]*m")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def tail(log: Path) -> list[str]:
    """The last lines of a log, colours removed; none when there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in (_COLOUR.sub("", line).rstrip() for line in text.splitlines()) if line]


_CAUSES = (
    (
        re.compile(r"Failed to create client after \d+ retries|Buffer registration failed: error=-600"),
        "likely cause: Mooncake's client could not join the store, so master address or port are wrong "
        "(mooncake_master_server_addr) or the master is down; LMCache calls its set-up successful all the same",
    ),
    (
        re.compile(r"No supported cpu connector found|degraded mode"),
        "likely cause: the connector runs in degraded mode (recompute): it serves with HTTP 200 and stores nothing",
    ),
)
"""Lines that name a cause and are long past when the component ends of it."""


def useful_lines(log: Path, count: int = LINES) -> tuple[str, ...]:
    """At most `count` lines: the last that look like errors, or the very last ones (fewer) where none does.

    Where an earlier line gives the cause away, it is said in front of them.
    """
    lines = tail(log)
    causes = tuple(cause for sign, cause in _CAUSES if any(sign.search(line) for line in lines))
    errors = _without_repetition(line for line in lines if _USEFUL.search(line) and not _NOISE.search(line))
    chosen = errors[-count:] or lines[-min(count, LINES // 2) :]
    return (*causes, *(_shorten(line) for line in chosen[-max(1, count - len(causes)) :]))


def port_taken(log: Path) -> str | None:
    """The line in which a component says that its port is in use, if it says so."""
    found = [line for line in tail(log) if _PORT_TAKEN.search(line)]
    return _shorten(found[-1]) if found else None


def _without_repetition(lines: Iterable[str]) -> list[str]:
    """Each message once, at the place where it came last."""
    last = {_message(line): line for line in lines}
    return list(last.values())


def _message(line: str) -> str:
    """A line without its numbers: time stamps, process ids, addresses."""
    return re.sub(r"[\d:.x]+", "#", line)


def _shorten(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
