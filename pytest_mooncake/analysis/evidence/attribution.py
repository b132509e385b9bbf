"""Which tier every prompt token of a round came from, and whether the sums agree with the engine's own totals."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.evidence.counters.deltas import CounterDeltas
from pytest_mooncake.records import KVGeometry

__all__ = ["Attribution", "attribute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Prompt tokens of one round by where they came from. None: not measured.

    `external_tokens` is what the engine was given by its connector, whatever stood behind it; it is split into
    `mooncake_tokens` and `lmcache_cpu_tokens` where Mooncake's counters tell.
    """

    prompt_tokens: int | None
    gpu_prefix_tokens: int | None
    external_tokens: int | None
    lmcache_cpu_tokens: int | None
    mooncake_tokens: int | None
    computed_tokens: int | None

    @property
    def unexplained_tokens(self) -> int | None:
        """Prompt tokens minus all sources: 0 when the engine's counters are exact. None when one is not known."""
        parts = (self.gpu_prefix_tokens, self.external_tokens, self.computed_tokens)
        known = [part for part in parts if part is not None]
        if self.prompt_tokens is None or len(known) < len(parts):
            return None
        return self.prompt_tokens - sum(known)

    def rows(self) -> tuple[tuple[str, int | None], ...]:
        """Return the table: tier and tokens, in the order in which an engine looks."""
        return (
            ("GPU prefix cache", self.gpu_prefix_tokens),
            ("LMCache CPU", self.lmcache_cpu_tokens),
            ("Mooncake", self.mooncake_tokens),
            ("computed", self.computed_tokens),
        )


def attribute(deltas: CounterDeltas, kv: KVGeometry | None) -> Attribution:
    """Attribute the prompt tokens between two scrapes.

    Mooncake hands out whole chunks: k keys read by `ranks` ranks are k / ranks chunks, at most as many tokens as the
    engine counted as external (of a prompt found whole it recomputes the last token). What is external and was not
    handed out by Mooncake came from memory in between, LMCache's CPU tier. Without the geometry keys are no tokens:
    only that none was handed out can be told.

    Args:
        deltas: counters of the round.
        kv: how prompts become objects; None when not known.
    """
    external = _tokens(deltas.get("external_hit_tokens"))
    mooncake = _from_mooncake(external, _tokens(deltas.get("store_hit_keys")), kv)
    return Attribution(
        prompt_tokens=_tokens(deltas.get("prompt_tokens")),
        gpu_prefix_tokens=_tokens(deltas.get("local_hit_tokens")),
        external_tokens=external,
        lmcache_cpu_tokens=None if external is None or mooncake is None else external - mooncake,
        mooncake_tokens=mooncake,
        computed_tokens=_tokens(deltas.get("computed_tokens")),
    )


def _from_mooncake(external: int | None, keys: int | None, kv: KVGeometry | None) -> int | None:
    if external is None or keys is None:
        return None
    if external == 0 or keys == 0:
        return 0
    return None if kv is None else min(external, keys // kv.ranks * kv.chunk_tokens)


def _tokens(value: float | None) -> int | None:
    return None if value is None else round(value)
