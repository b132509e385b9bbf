"""Whether looks at one address saw one process: tells restarts from replicas, and both from what cannot be known.

A process is known by its start time and by its labels; its own counters only rise, and no series of it vanishes. Behind
one address there may be several: a service, a gateway, a router. A start time that is *earlier* than the one before,
or that lies before an earlier look, was not begun in between: somebody else answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from pytest_mooncake.analysis.evidence.counters.exposition import split_series
from pytest_mooncake.analysis.evidence.counters.names import TABLE
from pytest_mooncake.records import Scrape

__all__ = ["Change", "change_of", "processes_seen", "same_process"]

ROUNDED_S = 1.0
"""Start times that differ by no more are written by one process: some derive them anew from a corrected clock."""

_COUNTER_NAMES = frozenset(
    term.name for quantity in TABLE.values() if not quantity.gauge for terms in quantity.alternatives for term in terms
)
_WHOSE = frozenset(
    {"container", "dp_rank", "engine", "host", "hostname", "instance", "model_name", "namespace", "node", "pod"}
    | {"rank", "replica", "server", "worker_id"}
)
"""Labels that say which process counted; the others say what it counted."""


class Change(StrEnum):
    """What became of a source between two looks. Nothing is concluded from its counters unless it is `NONE`."""

    NONE = "none"
    RESTARTED = "restarted"
    UNTOLD = "untold"
    """It restarted or another process answered; which of both cannot be told."""


def change_of(before: Scrape, after: Scrape, *, identified: bool = False) -> Change:
    """Compare two looks at a source, neither of which failed.

    Args:
        before: the earlier look.
        after: the later look.
        identified: only one process can answer there, for we started it: then every change is a restart.
    """
    fell, later = _fell(before, after), _is_later(before.started_s, after.started_s)
    if identified:
        return Change.RESTARTED if fell or later else Change.NONE
    if _has_started_as(before, after, within_s=ROUNDED_S) and not fell and not _vanished(before, after):
        return Change.NONE
    return Change.RESTARTED if fell and later and _began_between(before, after) else Change.UNTOLD


def _is_later(before_s: float | None, after_s: float | None) -> bool:
    return before_s is not None and after_s is not None and after_s > before_s + ROUNDED_S


def _began_between(before: Scrape, after: Scrape) -> bool:
    """Whether the process began after the earlier look and is labelled as the one before: its successor."""
    if before.at_s is None or after.started_s is None:
        return False
    return after.started_s > before.at_s and _labels(after) <= _labels(before)


def _has_started_as(one: Scrape, other: Scrape, *, within_s: float) -> bool:
    if one.started_s is None or other.started_s is None:
        return one.started_s is other.started_s
    return abs(one.started_s - other.started_s) <= within_s


def _fell(before: Scrape, after: Scrape) -> bool:
    return any(
        after.samples.get(series, value) < value for series, value in before.samples.items() if _is_counter(series)
    )


def _vanished(before: Scrape, after: Scrape) -> bool:
    return any(series not in after.samples for series in before.samples if _is_counter(series))


def _is_counter(series: str) -> bool:
    # LMCache's series come from other processes, late and through files: their falling proves nothing.
    return series.partition("{")[0] in _COUNTER_NAMES and not series.startswith("lmcache")


def _labels(look: Scrape) -> frozenset[tuple[str, str]]:
    counters = (split_series(series)[1] for series in look.samples if _is_counter(series))
    return frozenset(label for labels in counters for label in labels if label[0] in _WHOSE)


def processes_seen(*batches: Sequence[Scrape]) -> int:
    """Return how many processes answered at least; looks that failed tell nothing.

    Args:
        batches: looks at one address, soon after each other, so that nothing restarts in between. Batches are in order
            of time; looks of one batch were taken together, in no order.
    """
    answered = [[look for look in batch if look.error is None] for batch in batches]
    begun = {look.started_s for batch in answered for look in batch}
    if len(begun) > 1:
        return len(begun)
    pairs = ((one, other) for earlier, later in pairwise(filter(None, answered)) for one in earlier for other in later)
    return 2 if any(_fell(*pair) or _vanished(*pair) for pair in pairs) else len(begun)


def same_process(earlier: Scrape, later: Scrape) -> bool:
    """Whether looks at two addresses show one process.

    It has one start time, and counters that fit. Without one, the same counters prove it where some were not counted
    but measured: engines that have served nothing, or the same, count alike.
    """
    if earlier.error is not None or later.error is not None or earlier.started_s != later.started_s:
        return False
    if earlier.started_s is not None:
        return not _fell(earlier, later) and not _vanished(earlier, later)
    measured = any(value % 1 for value in _counters(earlier).values())
    return measured and _counters(earlier) == _counters(later)


def _counters(look: Scrape) -> dict[str, float]:
    return {series: value for series, value in look.samples.items() if _is_counter(series)}
