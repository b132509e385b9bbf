"""How much of what could be cached a warm round was served, as a number: what the claim on hits is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mooncake.analysis.evidence.expected.service import best_service
from pytest_mooncake.analysis.evidence.facts import facts_of
from pytest_mooncake.records import Round, StackView

__all__ = ["warm_hit_share"]


def warm_hit_share(
    this: Round,
    view: StackView,
    *,
    reference: Round | None,
    least: float = 1.0,
    rounds: Sequence[Round] = (),
) -> float | None:
    """Share (0-1) of the cacheable tokens that a warm round was served; `None` where nothing tells.

    Where the chunk size is only assumed, a share is told when every size that fits reaches `least`, or none that can be
    does; what lies between depends on the size. In a steady state the share of what LRU keeps, which more hits cannot
    exceed.

    Args:
        this: the warm round.
        view: the stack it ran on.
        reference: the cold round whose requests it repeats.
        least: the share that is asked.
        rounds: of the run, whose replies tell the chunk size.
    """
    facts = facts_of(this, view, reference=reference, warm_hit_share=least, rounds=rounds)
    share = best_service(facts).share
    if share is None or not facts.is_steady:
        return share
    kept = facts.least_warm_share / least if least else 0.0
    return min(1.0, share / kept) if kept else 1.0
