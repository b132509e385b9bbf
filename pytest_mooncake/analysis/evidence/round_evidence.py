"""What proves a round cold or warm, as values: a pure function of the round, the stack and the cold round before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pytest_mooncake.analysis.evidence.checks.cold import cold_checks
from pytest_mooncake.analysis.evidence.checks.every_round import clean_checks
from pytest_mooncake.analysis.evidence.checks.warm import warm_checks
from pytest_mooncake.analysis.evidence.facts import facts_of
from pytest_mooncake.analysis.evidence.rungs import RungJudgement, judge_rung, reachable_rung
from pytest_mooncake.records import Evidence, Kind, Round, StackView

__all__ = ["RungJudgement", "attribution_table", "judge_rung", "reachable_rung", "round_evidence"]


def round_evidence(
    this: Round,
    view: StackView,
    *,
    reference: Round | None,
    warm_hit_share: float = 0.99,
    planned: int | None = None,
    rounds: Sequence[Round] = (),
) -> tuple[Evidence, ...]:
    """Check where the tokens of one round came from.

    Args:
        this: the round.
        view: the stack it ran on.
        reference: of a warm round, the cold round whose requests it repeats; of a cold round, any round of the same
            run (it only tells whether the server shows `cached_tokens` at all), or None.
        warm_hit_share: least share of the cacheable tokens that a warm round must be served (0-1]; a shortage within
            it does not break the exact checks.
        planned: how many requests the round was to send; None means those that were.
        rounds: of the run; the replies of its warm ones tell the chunk size where the stack does not.

    Returns:
        One `Evidence` per check, the decisive ones first. A check whose counters are missing is unavailable with the
        reason; sums that are spoiled by failed requests or other traffic are unavailable too, and the fault itself is
        an evidence of its own.
    """
    facts = facts_of(
        this,
        view,
        reference=reference if this.kind is Kind.WARM else None,
        warm_hit_share=warm_hit_share,
        planned=planned,
        shown_in=reference,
        rounds=rounds,
    )
    specific = warm_checks(facts) if this.kind is Kind.WARM else cold_checks(facts)
    return (*specific, *clean_checks(facts))


def attribution_table(rounds: Sequence[Round], view: StackView) -> tuple[dict[str, int | str | None], ...]:
    """Return where the prompt tokens of every round came from, one row a round; None: not measured.

    `unexplained_tokens` is what no tier accounts for, 0 when the engines' counters are exact. `tokens_sent` is what the
    replies to our requests add up to, so that a row can be held against both sides.
    """
    rows = []
    cold: Round | None = None
    for this in rounds:
        reference = cold if this.kind is Kind.WARM else None
        facts = facts_of(this, view, reference=reference, warm_hit_share=1.0)
        tiers = facts.attribution
        sums = {**asdict(tiers), "unexplained_tokens": tiers.unexplained_tokens, "tokens_sent": facts.prompt_tokens}
        rows.append({"round": this.round, "kind": this.kind.value, "phase": this.phase.value, **sums})
        cold = this if this.kind is Kind.COLD else cold
    return tuple(rows)
