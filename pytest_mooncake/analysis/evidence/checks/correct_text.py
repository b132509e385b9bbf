"""Whether what came from the cache is what was computed: warm answers of the gate beside the cold ones.

A warm answer speaks for the store where counters say that the store served it. Where there are none the reply tells it
by how much was found: an engine's own prefix cache ends at its blocks, a store at its larger chunks. What the prefix
cache answered, or may have, proves nothing about the store, what was computed anew proves nothing at all, and warm
against warm proves nothing either: wrong bytes are equal to themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pytest_mooncake.analysis.evidence.checks.near_ties import TIE_NATS, Comparison, alternatives, compare
from pytest_mooncake.analysis.evidence.faults import outcome_of
from pytest_mooncake.records import Evidence, ProbeAnswer, ProbeRole, Rung, Status

__all__ = [
    "ALTERNATIVES",
    "BLIND",
    "NO_TOKENS",
    "SHARED",
    "UNTOLD",
    "Pair",
    "Tier",
    "answered",
    "cached_of",
    "check_text",
    "checked",
    "not_measured",
    "pairs_of",
    "tier_of",
]

ALTERNATIVES = 5
"""As many alternatives as every vLLM allows a client to ask for; two is the least that can prove anything."""
NO_TOKENS = "the engine returns no log-probabilities"
BLIND = "nothing tells whether an answer came from a cache: neither counters nor cached_tokens"
UNTOLD = (
    "no counter tells the engine's own prefix cache from the store, and the answers may be the former's: name the "
    "counters (--mooncake-metrics), permit clearing it (--mooncake-allow-clear), or start vLLM with "
    "--no-enable-prefix-caching"
)
SHARED = "shared-beginning"
"""The case of which only a part was stored, so that its length tells nothing of blocks and chunks."""
ENGINE_BLOCKS = (1, 16, 32, 64, 128)
"""Tokens of a block of an engine's own prefix cache: vLLM's sizes, and 1 for SGLang's."""
USUAL_BLOCKS = (1, 16)
EARLIER_DOCUMENT_TOKENS = 1041
"""The document of earlier records, which ends where larger blocks and chunks both do: judged by the usual blocks."""


class Tier(StrEnum):
    """Which cache answered a request, as far as can be told."""

    STORE = "the store"
    OUTSIDE = "the connector"
    MEMORY = "LMCache's CPU memory"
    ENGINE = "the engine's own prefix cache"
    CHUNKED = "chunks"  # it found as much as no blocks of an engine explain
    CACHED = "a cache"
    NOTHING = "none"
    UNKNOWN = "unknown"


_PROVING = (Tier.STORE, Tier.OUTSIDE, Tier.CHUNKED)
"""What an answer has to come from to speak for the store; the last one by word of the reply alone."""
_RUNGS = {Tier.STORE: Rung.STORE, Tier.OUTSIDE: Rung.ENGINE}


def tier_of(answer: ProbeAnswer) -> Tier:
    """Which cache answered: by the counters where they tell, else by the reply."""
    local, external, cached = answer.local_tokens, answer.external_tokens, answer.cached_tokens
    if external:
        return Tier.OUTSIDE if answer.store_keys is None else Tier.STORE if answer.store_keys else Tier.MEMORY
    if local:
        return Tier.ENGINE
    if local is not None and external is not None:
        return Tier.NOTHING
    if not cached:
        return Tier.UNKNOWN if cached is None else Tier.NOTHING
    return Tier.CACHED if _may_be_blocks(answer, cached) else Tier.CHUNKED


def _may_be_blocks(answer: ProbeAnswer, cached: int) -> bool:
    """Whether an engine's own prefix cache would serve as much of a prompt that it had whole, but for its last token.

    Some count the whole of it, or all but one token.
    """
    length = answer.prompt_tokens
    blocks = USUAL_BLOCKS if length == EARLIER_DOCUMENT_TOKENS else ENGINE_BLOCKS
    ends = {end // block * block for block in blocks for end in (length - 1, length)}
    return answer.case == SHARED or cached in ends


def cached_of(answer: ProbeAnswer) -> int | None:
    """Tokens that no engine computed; None where neither reply nor counters tell."""
    if answer.cached_tokens is not None:
        return answer.cached_tokens
    if answer.local_tokens is None or answer.external_tokens is None:
        return None
    return answer.local_tokens + answer.external_tokens


def answered(answers: Iterable[ProbeAnswer], role: ProbeRole) -> tuple[ProbeAnswer, ...]:
    """The requests of a role that were answered."""
    return tuple(a for a in answers if a.role is role and a.error is None)


def checked(
    check: str, what: str | None, expected: str, observed: str, detail: str = "", rung: Rung = Rung.USAGE
) -> Evidence:
    """A check of the gate: it holds where `what` is None, else the catalogue of faults says what becomes of it."""
    status, fault = outcome_of(check, what)
    return Evidence(
        id=check, status=status, rung=rung, expected=expected, observed=observed, fault=fault, detail=detail
    )


def not_measured(check: str, what: str, expected: str, why: str) -> Evidence:
    """A check of the gate that could not be made, for a reason that the catalogue of faults holds as `what`."""
    return checked(check, what, expected, "not measured", why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A warm answer beside the cold one of the same prompt."""

    cold: ProbeAnswer
    warm: ProbeAnswer
    tier: Tier
    compared: Comparison

    @property
    def listed(self) -> int:
        """Alternatives that the server lists at least, a step; 0 where a list is missing."""
        answers = (self.cold, self.warm)
        return min((len(alternatives(a.top, i)) for a in answers for i in range(len(a.tokens))), default=0)


def pairs_of(answers: Sequence[ProbeAnswer]) -> list[Pair]:
    """Warm answers that came from a cache, or may have. A salted one counts where counters say that it did."""
    colds = {a.case: a for a in answered(answers, ProbeRole.COLD) if _is_reference(a)}
    warm = [*_from_caches(answers), *(a for a in answered(answers, ProbeRole.SALTED) if a.external_tokens)]
    return [
        Pair(cold=colds[a.case], warm=a, tier=tier_of(a), compared=compare(colds[a.case], a))
        for a in warm
        if a.case in colds and a.tokens
    ]


def _from_caches(answers: Sequence[ProbeAnswer]) -> list[ProbeAnswer]:
    return [a for a in answered(answers, ProbeRole.WARM) if tier_of(a) is not Tier.NOTHING]


def _is_reference(cold: ProbeAnswer) -> bool:
    """Whether a cold answer was computed. A second try may find what the first one stored."""
    return bool(cold.tokens) and not cached_of(cold) and (cold.retried is None or cached_of(cold) is not None)


def check_text(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Hold warm answers that came from the store to the near-tie rule.

    Any that is proven to differ breaks it, whichever cache gave it; none that may differ is passed over.
    """
    check, expected = "correct_text", f"log-probabilities as without cache, within {TIE_NATS:g} nat at any difference"
    pairs = pairs_of(answers)
    known = [pair for pair in pairs if pair.tier is not Tier.UNKNOWN]
    broken = [pair for pair in known if pair.compared.status is Status.BROKEN]
    proof = [pair for pair in known if pair.tier in _PROVING and pair.compared.status is Status.HELD]
    rung = _RUNGS.get(min((p.tier for p in broken or proof), key=list(Tier).index, default=Tier.UNKNOWN), Rung.USAGE)
    if broken:
        return checked(check, "differs", expected, _observed(known), _WRONG, rung)
    if any(pair.compared.status is not Status.HELD for pair in pairs) or not proof:
        return not_measured(check, *_why_not_compared(answers, pairs, expected))
    return checked(check, None, expected, _observed(proof), _notes(answers, pairs, proof), rung)


_WRONG = (
    "what comes back is not what was stored, or is read in another layout: compare versions of vLLM and LMCache "
    "(LMCache#4463), and run once with MOONCAKE_STORE_CHECKSUM=1 on every client"
)


def _observed(pairs: Sequence[Pair]) -> str:
    equal = f"{sum(pair.compared.equal for pair in pairs)} of {len(pairs)} texts equal"
    far = [pair.compared for pair in pairs if pair.compared.status is Status.BROKEN]
    compared = far or [pair.compared for pair in pairs]
    worst = max(compared, key=lambda one: one.distance_nats or 0.0)
    unlisted = max(compared, key=lambda one: one.least_nats or 0.0)
    if far and (unlisted.least_nats or 0.0) > (worst.distance_nats or 0.0):
        return f"{equal}, a token is at least {unlisted.least_nats:.3g} nat away ({unlisted.case})"
    if worst.distance_nats is None:
        return f"{equal}, log-probabilities not compared"
    return f"{equal}, largest distance {worst.distance_nats:.3g} nat ({worst.case})"


def _notes(answers: Sequence[ProbeAnswer], pairs: Sequence[Pair], proof: Sequence[Pair]) -> str:
    """What a held check rests on, and what it does not."""
    notes = []
    if all(pair.tier is Tier.CHUNKED for pair in proof):
        notes.append("cached_tokens alone tells which cache answered, by the size of its chunks")
    elif not any(pair.tier is Tier.STORE for pair in proof):
        notes.append("the connector answered, from the store or from its own memory")
    nearer = len(pairs) - len(proof)
    if nearer:
        notes.append(f"{nearer} more came from a nearer cache or from nobody knows where, and prove nothing")
    missing = len(_from_caches(answers)) - sum(pair.warm.role is ProbeRole.WARM for pair in pairs)
    if missing:
        notes.append(f"{missing} more could not be compared")
    if all(pair.compared.shift_nats is None for pair in proof):
        notes.append("texts alone were compared, for the server tells no log-probabilities")
    listed = min(pair.listed for pair in proof)
    if listed < 2:
        notes.append(f"the server lists {listed} of {ALTERNATIVES} alternatives: another text could not be compared")
    return "; ".join(notes)


def _why_not_compared(answers: Sequence[ProbeAnswer], pairs: Sequence[Pair], expected: str) -> tuple[str, str, str]:
    """What was seen instead, by its name in the catalogue; what was expected; and why that could not be told."""
    served = [a for a in answers if a.error is None]
    if not served:
        return "nothing_cached", expected, "no short request was answered"
    if not any(a.tokens for a in served):
        return "not_comparable", expected, NO_TOKENS
    open_pairs = [pair.compared for pair in pairs if pair.compared.status is Status.UNAVAILABLE]
    if open_pairs:
        many = f"{len(open_pairs)} of {len(pairs)} answers from the cache cannot be compared"
        return "not_comparable", expected, f"{many}: {open_pairs[0].why} ({open_pairs[0].case})"
    if any(pair.compared.status is Status.BROKEN for pair in pairs):
        return "nearer_tier", expected, "an answer differs, and nothing tells whether it came from a cache"
    tiers = Counter(pair.tier for pair in pairs)
    nearer = next((why for tier, why in _WRONG_TIERS.items() if tiers[tier]), None)
    return ("nearer_tier", expected, nearer) if nearer else ("nothing_cached", expected, _NOTHING)


_NOTHING = "nothing of the short prompts was cached, so there is nothing to compare"
_WRONG_TIERS = {
    Tier.ENGINE: (
        "the engine's own prefix cache answered, not the store: permit clearing it (--mooncake-allow-clear, with "
        "VLLM_SERVER_DEV_MODE=1), or start vLLM with --no-enable-prefix-caching"
    ),
    Tier.MEMORY: (
        "LMCache's CPU memory answered, not the store: permit clearing it (--mooncake-allow-clear, with "
        "internal_api_server_enabled: true), or set local_cpu: false"
    ),
    Tier.CACHED: UNTOLD,
    Tier.UNKNOWN: BLIND,
}
