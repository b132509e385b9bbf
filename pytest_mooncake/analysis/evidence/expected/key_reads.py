"""How many keys a warm round reads from Mooncake: by the geometry, else by what the cold round stored."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.evidence.expected.chunk_size import Unit, wanted_tokens
from pytest_mooncake.analysis.evidence.expected.formulae import HitRule, chunks_stored
from pytest_mooncake.analysis.evidence.facts import Facts

__all__ = ["KeyReads", "reads_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReads:
    """Keys that our prompts read.

    Attributes:
        likely: as many as that, by the units that fit; each one a complete round.
        least: fewer in all, whoever else reads, prove that ours were not all read from Mooncake.
        ranks_known: whether keys a chunk are known, and not worked out from what the cold round stored.
    """

    likely: tuple[int, ...]
    least: int
    ranks_known: bool


def reads_of(facts: Facts) -> KeyReads | None:
    """Return what a complete warm round reads; None where neither geometry nor the cold round's keys tell."""
    if facts.lengths is None:
        return None
    units, kv = facts.units, facts.view.kv
    if kv is not None:
        likely = tuple(sorted({chunks_read(facts.lengths, unit) * kv.ranks for unit in units.proving}))
        return KeyReads(
            likely=likely, least=likely[0] - _of_template(facts, kv.chunk_tokens) * kv.ranks, ranks_known=True
        )
    stored = facts.reference_deltas.get("keys") if facts.reference_deltas else None
    return _of_what_was_stored(facts, round(stored)) if stored and stored > 0 else None


def _of_what_was_stored(facts: Facts, stored: int) -> KeyReads | None:
    """All of it, or by a unit that fits what is not computed anew; where others stored too, neither is seen."""
    units = facts.units
    fitting = units.fitting or (units.proving if units.is_known else _by_sum(facts))
    ranks = {unit: _ranks(facts, unit, stored) for unit in fitting}
    likely = {chunks_read(facts.lengths or (), unit) * each for unit, each in ranks.items() if each}
    likely |= set() if _shares(facts) else {stored}
    if not likely:
        return None
    least = min((chunks_read(facts.lengths or (), u) - _of_template(facts, u.tokens) for u in fitting), default=0)
    proven = units.is_known or units.found
    return KeyReads(likely=tuple(sorted(likely)), least=max(0, least) if proven else 0, ranks_known=False)


def _shares(facts: Facts) -> bool:
    """Whether prompts share chunks, which are stored once and read often."""
    planned = facts.round.planned
    return planned is not None and planned.distinct_chunks < planned.chunks


def chunks_read(lengths: tuple[int, ...], unit: Unit) -> int:
    """Add up the chunks that are read of prompts found whole: not a last one that is computed anew.

    >>> chunks_read((2048, 2050), Unit(128, HitRule.LAST_CHUNK))
    31
    """
    anew = sum(length > 0 and length % unit.tokens == 0 for length in lengths)
    chunks = sum(chunks_stored(length, unit.tokens) for length in lengths)
    return chunks - anew if unit.rule is HitRule.LAST_CHUNK else chunks


def _of_template(facts: Facts, chunk_tokens: int) -> int:
    """Whole chunks of a template, which the engines may have served themselves."""
    return facts.most_common_tokens and len(facts.succeeded) * ((facts.common_tokens or 0) // chunk_tokens)


def _by_sum(facts: Facts) -> tuple[Unit, ...]:
    """Where replies tell nothing: the units that would serve exactly what the engines count from outside."""
    external = facts.deltas.get("external_hit_tokens")
    if facts.replies is not None or facts.engine_problem or not external or facts.lengths is None:
        return ()
    sums = wanted_tokens(facts.lengths, facts.units.possible)
    return tuple(unit for unit, wanted in zip(facts.units.possible, sums, strict=True) if wanted == external)


def _ranks(facts: Facts, unit: Unit, stored: int) -> int | None:
    """Keys of a chunk, where what was stored is a multiple of the chunks; else others stored too, or it is not so."""
    chunks = sum(chunks_stored(length, unit.tokens) for length in facts.lengths or ())
    planned = facts.round.planned
    if planned is not None and _shares(facts):
        if planned.chunk_tokens != unit.tokens:
            return None
        chunks = planned.distinct_chunks
    return stored // chunks if chunks and stored % chunks == 0 else None
