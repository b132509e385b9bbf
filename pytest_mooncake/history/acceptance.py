"""Which release the others are measured by is for a person to say: `accept` records who, when and why.

The anchor is what small losses add up against, so it does not move to a release that is worse: a watched metric that
lost more than 5 % has to be named to be let through, and the name stays on record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pytest_mooncake.analysis.regression.alarm import LEAST_EFFECT, WATCHED
from pytest_mooncake.errors import UsageError
from pytest_mooncake.history.compare import changes
from pytest_mooncake.history.store import History
from pytest_mooncake.history.stored_run import Anchor, Finding, StoredRun

__all__ = ["NEW_LEVEL", "Act", "accept", "anchored_runs", "level_since"]

NEW_LEVEL = "new_level"
"""Kind of the finding that says: from this run on, a shift was accepted; the rolling baseline starts there."""
VERDICT = "verdict"
NAMES = tuple(one.name for one in WATCHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a person says when accepting a release. `although` names what may be worse, `verdict` among it."""

    who: str
    why: str
    although: tuple[str, ...] = ()
    new_level: bool = False
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))


def accept(history: History, name: str, act: Act) -> tuple[Anchor, ...]:
    """Move the anchor to a release, on every machine and workload (fingerprint) it was run on: all of them or none.

    Args:
        history: where the release's runs are.
        name: label of a release or id of a run.
        act: who accepts it, and why.

    Raises:
        UsageError: nothing is called so, no reason was given, or a metric is more than 5 % worse and was not named.
        HistoryError: the database fails.
    """
    _check(act)
    runs = history.named(name)
    by_fingerprint = {one.fingerprint: _sound(runs, one.fingerprint) for one in runs}
    objections = [
        objection
        for fingerprint, alike in by_fingerprint.items()
        for objection in _objections(alike, anchored_runs(history, fingerprint), act.although)
    ]
    if objections:
        raise UsageError(f"{name} is not accepted: {'; '.join(objections)}; nothing was changed")
    anchors = tuple(_anchor(fingerprint, alike, act) for fingerprint, alike in by_fingerprint.items())
    levels = [_new_level(anchor, act) for anchor in anchors] if act.new_level else []
    history.add_all((), levels, anchors)
    return anchors


def _sound(runs: Sequence[StoredRun], fingerprint: str) -> list[StoredRun]:
    """The release's runs of that fingerprint; those without valid figures only where there are no others."""
    alike = [run for run in runs if run.fingerprint == fingerprint]
    return [run for run in alike if run.verdict != "INVALID"] or alike


def _check(act: Act) -> None:
    if not act.why.strip():
        raise UsageError("--why is empty: say why this release is what others are measured by")
    unknown = [name for name in act.although if name not in {*NAMES, VERDICT}]
    if unknown:
        raise UsageError(f"--although {unknown[0]}: expected one of {', '.join((*NAMES, VERDICT))}")


def _objections(runs: Sequence[StoredRun], anchored: Sequence[StoredRun], although: Sequence[str]) -> Iterator[str]:
    bad = [run for run in runs if run.verdict in {"FAIL", "INVALID"}]
    if bad and VERDICT not in although:
        yield f"run {bad[-1].id} is {bad[-1].verdict} (--although {VERDICT} accepts it)"
    for change in changes(anchored, runs) if anchored else ():
        if change.metric not in NAMES or change.metric in although or change.before is None:
            continue
        if change.after is None:
            yield f"{change.metric} was not measured (--although {change.metric} accepts that)"
        elif (worse := change.worse_share) is not None and worse > LEAST_EFFECT:
            yield (
                f"{change.metric} is {worse:.1%} worse than the accepted release's, {change.after:.6g} after "
                f"{change.before:.6g}, and 5 % is the most (--although {change.metric} accepts that)"
            )


def _anchor(fingerprint: str, runs: Sequence[StoredRun], act: Act) -> Anchor:
    why = f"{act.why.strip()} (although: {', '.join(act.although)})" if act.although else act.why.strip()
    return Anchor(
        fingerprint=fingerprint,
        run_ids=tuple(run.id for run in runs),
        label=runs[-1].label,
        who=act.who,
        at=act.at,
        why=why,
    )


def _new_level(anchor: Anchor, act: Act) -> Finding:
    return Finding(
        kind=NEW_LEVEL,
        fingerprint=anchor.fingerprint,
        run_ids=anchor.run_ids,
        run_id=anchor.run_ids[0],
        words=f"{act.who} accepted a new level: {anchor.why}",
        made_at=act.at,
    )


def anchored_runs(history: History, fingerprint: str) -> tuple[StoredRun, ...]:
    """The runs of the accepted release that are still kept; empty where nobody accepted one."""
    anchor = history.anchor(fingerprint)
    found = (history.run(run_id) for run_id in anchor.run_ids) if anchor is not None else ()
    return tuple(run for run in found if run is not None)


def level_since(history: History, fingerprint: str) -> str | None:
    """The run from which on the rolling baseline counts; `None`: from the first."""
    accepted = history.findings(fingerprint, NEW_LEVEL)
    return accepted[-1].run_id if accepted else None
