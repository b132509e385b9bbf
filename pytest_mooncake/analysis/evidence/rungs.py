"""How strong the evidence is, and whether that is enough: store counters > engine counters > usage > timing."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.records import Evidence, Rung, StackView, Status

__all__ = ["RungJudgement", "judge_rung", "reachable_rung"]

ORDER = (Rung.STORE, Rung.ENGINE, Rung.USAGE, Rung.TIMING)

DECISIVE: dict[Rung, tuple[str, ...]] = {
    Rung.STORE: ("cold_no_store_hits", "warm_store_hits"),
    Rung.ENGINE: ("cold_no_external_hits", "warm_external_tokens"),
    Rung.USAGE: ("cold_no_cached_tokens", "warm_cached_tokens"),
}
"""The checks that carry a rung: it is reached when every one of them that was tried could be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RungJudgement:
    """Whether the least rung was reached. Not `enough`: the run is INVALID, `reason` says which option accepts less.

    `tier_proven` is False below the store's own counters: `reason` is then a note, “tier unproven” and why.
    """

    least: Rung
    reached: Rung
    enough: bool
    tier_proven: bool
    reason: str


def reachable_rung(view: StackView, evidence: tuple[Evidence, ...]) -> Rung:
    """Return the highest rung that the evidence of some rounds reaches in all of them.

    Give it one round's evidence to judge a trial, all valid rounds' to judge the run. A stack without a known store
    never reaches the store's rung, whatever the evidence says.
    """
    reached = _reached(evidence)
    return Rung.ENGINE if reached is Rung.STORE and view.store is None else reached


def _reached(evidence: tuple[Evidence, ...]) -> Rung:
    for rung in ORDER[:-1]:
        decisive = [item for item in evidence if item.id in DECISIVE[rung]]
        if decisive and all(item.status is not Status.UNAVAILABLE for item in decisive):
            return rung
    return Rung.TIMING


def judge_rung(least: Rung, view: StackView, evidence: tuple[Evidence, ...]) -> RungJudgement:
    """Compare the rung reached with the least that counts (`--mooncake-evidence`)."""
    reached = reachable_rung(view, evidence)
    enough = ORDER.index(reached) <= ORDER.index(least)
    proven = reached is Rung.STORE
    reason = "" if proven else _unproven(reached, evidence) if enough else _not_enough(least, reached, evidence)
    return RungJudgement(least=least, reached=reached, enough=enough, tier_proven=proven, reason=reason)


def _not_enough(least: Rung, reached: Rung, evidence: tuple[Evidence, ...]) -> str:
    return (
        f"{_WORDS[least]} were asked for and could not be had ({_why_missing(least, evidence)}); "
        f"--mooncake-evidence {reached.value} would accept {_WORDS[reached]}"
    )


def _unproven(reached: Rung, evidence: tuple[Evidence, ...]) -> str:
    return f"tier unproven: the evidence ends at {_WORDS[reached]}; {_why_missing(Rung.STORE, evidence)}"


_WORDS = {
    Rung.STORE: "the store's counters",
    Rung.ENGINE: "the engines' counters",
    Rung.USAGE: "the cached_tokens of the replies",
    Rung.TIMING: "times alone",
}


def _why_missing(rung: Rung, evidence: tuple[Evidence, ...]) -> str:
    reasons = (item.detail for item in evidence if item.id in DECISIVE[rung] and item.status is Status.UNAVAILABLE)
    return next(reasons, f"{_WORDS[rung]} were not read")
