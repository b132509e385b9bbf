"""How much of what could be cached a warm round was served, as a number: what the claim on hits is judged by."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.cache.facts import Facts, facts_of
from pytest_mooncake.records import Round, Rung, StackView

__all__ = ["Served", "served", "warm_hit_share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Tokens that a warm round was served, of those it could have been, by the strongest source there is."""

    tokens: float | None
    wanted: int | None
    rung: Rung

    @property
    def share(self) -> float | None:
        """Served over wanted (0-1); `None` where either is unknown or nothing could be cached.

        More than wanted is served where the real chunks are smaller than was assumed.
        """
        return min(1.0, self.tokens / self.wanted) if self.tokens is not None and self.wanted else None


def served(facts: Facts) -> Served:
    """External tokens by the engines' counters, else the cached tokens of the replies.

    Wanted are the tokens that could be cached; in whole chunks of the usual size where the geometry is unknown.
    """
    wanted = facts.cacheable_tokens
    external = None if facts.engine_problem else facts.deltas.get("external_hit_tokens")
    if external is not None:
        return Served(tokens=external, wanted=wanted, rung=Rung.ENGINE)
    return Served(tokens=facts.cached_tokens, wanted=wanted, rung=Rung.USAGE)


def warm_hit_share(this: Round, view: StackView, *, reference: Round | None) -> float | None:
    """Share (0-1) of the cacheable tokens that a warm round was served; `None` where nothing tells.

    In a steady state the share of what LRU keeps, which more hits cannot exceed.

    Args:
        this: the warm round.
        view: the stack it ran on.
        reference: the cold round whose requests it repeats.
    """
    facts = facts_of(this, view, reference=reference, warm_hit_share=1.0)
    share = served(facts).share
    if share is None or not facts.is_steady:
        return share
    return min(1.0, share / facts.least_warm_share) if facts.least_warm_share else 1.0
