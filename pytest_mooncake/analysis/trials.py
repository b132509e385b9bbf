"""The trials of a run: which rounds belong together, what makes a trial invalid, and how many may be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import Evidence, Kind, Phase, Round, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFindings:
    """One round's evidence and what is wrong with it, as sentences.

    `refusal` is what an endpoint said that refused every request of the first round: it cannot be measured like this.
    """

    evidence: tuple[Evidence, ...]
    product_faults: tuple[str, ...]
    instrument_faults: tuple[str, ...]
    refusal: str | None = None


def trials_of(rounds: Sequence[Round], findings: Mapping[int, RoundFindings], *, quick: bool) -> tuple[Trial, ...]:
    """The trials of all chains: each warm round with its neighbours.

    A trial without its last cold round is left out (the run is still going on, or was interrupted there), except in a
    quick run, whose form it is.
    """
    chain = [r for r in rounds if r.phase is Phase.CHAIN]
    at = {(r.segment, r.position): r for r in chain}
    trials: list[Trial] = []
    for warm in (r for r in chain if r.kind is Kind.WARM):
        before, after = at.get((warm.segment, warm.position - 1)), at.get((warm.segment, warm.position + 1))
        if before is None or (after is None and not quick):
            continue
        members = [r for r in (before, warm, after) if r is not None]
        reasons = tuple(fault for r in members for fault in findings[r.round].instrument_faults)
        trials.append(
            Trial(
                index=len(trials) + 1,
                segment=warm.segment,
                cold=before.round,
                warm=warm.round,
                cold_after=after.round if after else None,
                valid=not reasons,
                reasons=reasons,
            )
        )
    return tuple(trials)


def rounds_of_valid_trials(rounds: Sequence[Round], trials: Sequence[Trial]) -> tuple[Round, ...]:
    """The rounds that figures and statistics are made of: members of valid trials, in order of time."""
    members = {number for t in trials if t.valid for number in (t.cold, t.warm, t.cold_after)}
    return tuple(r for r in rounds if r.round in members)


def repeats_allowed(plan: Plan) -> int:
    """How many invalid trials a run may repeat: a third of the planned trials, rounded down."""
    return max(plan.looks) // 3


def too_many_repeats(plan: Plan, trials: Sequence[Trial]) -> list[str]:
    """Why a run with these invalid trials is invalid; a quick run repeats none. Empty where they may be repeated."""
    invalid = [t for t in trials if not t.valid]
    if plan.quick:
        return [reason for t in invalid for reason in t.reasons]
    if len(invalid) <= repeats_allowed(plan):
        return []
    first = "; ".join(invalid[0].reasons[:1])
    return [f"{len(invalid)} trials were invalid, {repeats_allowed(plan)} may be repeated (first: {first})"]
