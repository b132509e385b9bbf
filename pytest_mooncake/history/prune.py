"""Which runs a history can do without."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime

from pytest_mooncake.history.stored_run import Anchor, StoredRun

__all__ = ["superfluous"]


def superfluous(
    runs: Sequence[StoredRun], anchors: Sequence[Anchor], *, keep: int | None = None, before: date | None = None
) -> tuple[StoredRun, ...]:
    """The runs to be removed, oldest first; those of the release accepted last, of each fingerprint, never are.

    Args:
        runs: all of them, oldest first.
        anchors: all of them, oldest first.
        keep: how many of the newest of each fingerprint stay.
        before: what began before that day (UTC) goes.
    """
    last = {anchor.fingerprint: anchor for anchor in anchors}
    accepted = {run_id for anchor in last.values() for run_id in anchor.run_ids}
    stays = accepted | (_newest(runs, keep) if keep is not None else set())
    return tuple(run for run in runs if run.id not in stays and (before is None or _day_of(run) < before))


def _newest(runs: Sequence[StoredRun], keep: int) -> set[str]:
    by_fingerprint: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        by_fingerprint[run.fingerprint].append(run.id)
    return {run_id for ids in by_fingerprint.values() for run_id in ids[-keep:]}


def _day_of(run: StoredRun) -> date:
    began = datetime.fromisoformat(run.started_at)
    return (began.astimezone(UTC) if began.tzinfo else began).date()
