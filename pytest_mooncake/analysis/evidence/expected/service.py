"""How much of what could be cached a warm round was served, and what that proves.

What could be cached depends on the unit in which the cache keeps prompts (`analysis.evidence.expected.chunk_size`). A
shortage by every unit that can be is proven. Service is proven by every unit that fits the replies; where these were
served differently (a nearer tier, a miss), or there are none, what some unit explains and another does not cannot be
told.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.evidence.expected.chunk_size import ASSUMED_CHUNK_TOKENS, Unit, shares, wanted_tokens
from pytest_mooncake.analysis.evidence.expected.formulae import HitRule
from pytest_mooncake.analysis.evidence.facts import Facts
from pytest_mooncake.records import Rung, Status

__all__ = ["ADVICE", "NO_CACHED_TOKENS", "Service", "best_service", "by_engines", "by_replies", "served_own"]

ADVICE = "give --mooncake-chunk-tokens N, or chunk_tokens in the YAML of an attached stack"
NO_CACHED_TOKENS = "the replies carry no cached_tokens: start vLLM with --enable-prompt-tokens-details"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What one source tells of a warm round.

    Attributes:
        rung: the source.
        status: held: all was served, within what is allowed; broken: it was not; unavailable: that cannot be told.
        tokens: what was served; None where the source does not tell.
        wanted: what could be, by the likeliest unit; None where a prompt's length is not known.
        share: served over wanted (0-1), by the unit that the status rests on; None where that cannot be told.
        why: of what cannot be told, the reason.
        is_measured: whether the source tells anything, so that only the chunk size is missing.
    """

    rung: Rung
    status: Status
    tokens: float | None = None
    wanted: int | None = None
    share: float | None = None
    why: str = ""
    is_measured: bool = True


def by_replies(facts: Facts) -> Service:
    """Judge by the `cached_tokens` of each reply."""
    units, common = facts.units, facts.common_tokens or 0
    if facts.replies is None or facts.lengths is None:
        return Service(rung=Rung.USAGE, status=Status.UNAVAILABLE, why=NO_CACHED_TOKENS, is_measured=False)
    fitting = shares(facts.replies, units.fitting, common_tokens=common)
    worst = min(fitting, default=None)
    best = max(shares(facts.replies, units.proving, common_tokens=common))
    if units.is_known:
        worst = best
    return _judged(facts, Rung.USAGE, float(facts.cached_tokens or 0), worst=worst, best=best)


def by_engines(facts: Facts) -> Service:
    """Judge by the tokens that the engines count as external; what they served of a template is no miss."""
    external = facts.deltas.get("external_hit_tokens")
    if facts.engine_problem or external is None or facts.lengths is None:
        why = facts.engine_problem or "this engine does not count external tokens"
        return Service(rung=Rung.ENGINE, status=Status.UNAVAILABLE, why=why, is_measured=False)
    return _judged(facts, Rung.ENGINE, external, worst=_worst_external(facts, external), best=_best(facts, external))


def _best(facts: Facts, external: float) -> float:
    """The share by the unit that asks least of those that blame may rest on."""
    return _share(external, min(_wanted(facts, facts.units.proving)))


def _worst_external(facts: Facts, external: float) -> float | None:
    """The share by the unit that asks most of those that fit; None where none is known to."""
    units = facts.units
    if units.is_known:
        return _best(facts, external)
    if units.fitting:
        return _share(external, max(_wanted(facts, units.fitting)))
    return None if facts.replies is not None else _assumed_share(facts, external)


def _assumed_share(facts: Facts, external: float) -> float | None:
    """The share where only a sum is known: of what some unit serves exactly, or nearly, and no less than the usual.

    A sum does not show that one request of many had nothing. So it must be what a unit would serve of all of them.
    """
    usual = min(_wanted(facts, tuple(Unit(ASSUMED_CHUNK_TOKENS, rule) for rule in HitRule)))
    if not usual:
        return None
    near = (_share(external, one) for one in _wanted(facts, facts.units.possible) if one >= max(usual, external))
    return max((share for share in near if share >= facts.warm_hit_share), default=None)


def _wanted(facts: Facts, units: tuple[Unit, ...]) -> tuple[int, ...]:
    """What each unit serves from outside, without the template's blocks that the engines served."""
    local = min(facts.deltas.get("local_hit_tokens") or 0, facts.most_common_tokens)
    return tuple(max(0, wanted - round(local)) for wanted in wanted_tokens(facts.lengths or (), units))


def _share(tokens: float, wanted: int) -> float:
    return min(1.0, tokens / wanted) if wanted else 1.0


def _judged(facts: Facts, rung: Rung, tokens: float, *, worst: float | None, best: float) -> Service:
    """Hold the shares against the least that is asked: `worst` has to reach it, `best` must not fall short of it."""
    wanted = (_wanted if rung is Rung.ENGINE else _plainly)(facts, (facts.units.likely,))[0]
    if best < facts.least_warm_share:
        return Service(rung=rung, status=Status.BROKEN, tokens=tokens, wanted=wanted, share=best)
    if facts.units.is_known and not wanted:
        why = "the prompts are shorter than one chunk: nothing of them is ever cached"
        return Service(rung=rung, status=Status.UNAVAILABLE, tokens=tokens, wanted=wanted, why=why)
    if worst is not None and worst >= facts.least_warm_share:
        return Service(rung=rung, status=Status.HELD, tokens=tokens, wanted=wanted, share=worst)
    return Service(rung=rung, status=Status.UNAVAILABLE, tokens=tokens, wanted=wanted, why=_why_untold(facts, tokens))


def _why_untold(facts: Facts, tokens: float) -> str:
    if not tokens:
        return (
            f"nothing was cached of prompts of {max(facts.lengths or (0,)):,} tokens: nothing is found, or chunks are "
            f"longer than these; longer prompts would tell (--mooncake-prompt-tokens); {ADVICE}"
        )
    return (
        f"{tokens:,.0f} tokens were served; whether that is all that could be depends on the chunk size, which is not "
        f"known: {ADVICE}"
    )


def _plainly(facts: Facts, units: tuple[Unit, ...]) -> tuple[int, ...]:
    return wanted_tokens(facts.lengths or (), units)


def best_service(facts: Facts) -> Service:
    """The strongest source that can tell; where none can, the strongest that measured anything."""
    found = (by_engines(facts), by_replies(facts))
    told = next((one for one in found if one.status is not Status.UNAVAILABLE), None)
    return told or next((one for one in found if one.is_measured), found[1])


def served_own(facts: Facts) -> bool | None:
    """Whether a warm round was served all of our own prompts; None of a cold round, and where that cannot be told.

    Where the engines count less from outside than the replies tell, a nearer tier answered: that says nothing of keys.
    """
    if facts.reference is None:
        return None
    engines, replies = by_engines(facts).status, by_replies(facts).status
    if Status.BROKEN in {engines, replies}:
        return None if {engines, replies} == {Status.BROKEN, Status.HELD} else False
    return True if Status.HELD in {engines, replies} else None
