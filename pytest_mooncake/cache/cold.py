"""Checks of a cold round: nothing came from any cache, and everything was stored for the warm round to find."""

from __future__ import annotations

from pytest_mooncake.cache.facts import Facts, checked, unavailable
from pytest_mooncake.records import Evidence, Fault, Rung

__all__ = ["cold_checks"]

_WARM_ALREADY = (
    "the round was not cold: its prompts had been cached before, by an earlier run with the same documents, "
    "a shared template in front of the nonce, or a cache that routes on parts of the prompt"
)


def cold_checks(facts: Facts) -> tuple[Evidence, ...]:
    """Return the checks of a cold round. A hit is an instrument fault; what was not stored is the product's."""
    return (
        _no_engine_hits(facts, "cold_no_external_hits", "external_hit_tokens", "the connector"),
        _no_engine_hits(facts, "cold_no_local_hits", "local_hit_tokens", "the engine's own prefix cache"),
        _no_cached_tokens(facts),
        _no_store_hits(facts),
        _all_stored(facts),
        _puts_succeeded(facts),
    )


def _no_engine_hits(facts: Facts, check: str, name: str, where: str) -> Evidence:
    hits, expected = facts.deltas.get(name), f"0 tokens from {where}"
    if facts.engine_problem or hits is None:
        why = facts.engine_problem or f"this engine does not count tokens from {where}"
        return unavailable(facts, check, Rung.ENGINE, Fault.INSTRUMENT, expected=expected, why=why)
    return checked(
        facts,
        check,
        Rung.ENGINE,
        Fault.INSTRUMENT,
        held=hits == 0,
        expected=expected,
        observed=f"{hits:,.0f} tokens",
        detail=_WARM_ALREADY if hits else "",
    )


def _no_cached_tokens(facts: Facts) -> Evidence:
    check, expected = "cold_no_cached_tokens", "0 cached tokens in every reply"
    if facts.cached_tokens is None:
        why = "the replies carry no cached_tokens: start vLLM with --enable-prompt-tokens-details"
        return unavailable(facts, check, Rung.USAGE, Fault.INSTRUMENT, expected=expected, why=why)
    hit = sum(1 for record in facts.succeeded if record.cached_tokens)
    return checked(
        facts,
        check,
        Rung.USAGE,
        Fault.INSTRUMENT,
        held=hit == 0,
        expected=expected,
        observed=f"{facts.cached_tokens:,} cached tokens in {hit} of {len(facts.succeeded)} replies",
        detail=_WARM_ALREADY if hit else "",
    )


def _no_store_hits(facts: Facts) -> Evidence:
    check, expected = "cold_no_store_hits", "0 keys handed out by Mooncake"
    hits = facts.deltas.get("store_hit_keys")
    if facts.store_problem or hits is None:
        why = facts.store_problem or "this master does not count hits"
        return unavailable(facts, check, Rung.STORE, Fault.INSTRUMENT, expected=expected, why=why)
    ours = _was_warm(facts)
    return checked(
        facts,
        check,
        Rung.STORE,
        Fault.INSTRUMENT,
        held=hits == 0,
        expected=expected,
        observed=f"{hits:,.0f} keys",
        detail="" if not hits else _WARM_ALREADY if ours else "somebody else read from the store during the round",
    )


def _was_warm(facts: Facts) -> bool:
    names = ("external_hit_tokens", "local_hit_tokens")
    return bool(facts.cached_tokens) or (not facts.engine_problem and any(facts.deltas.get(name) for name in names))


def _all_stored(facts: Facts) -> Evidence:
    """Compare the rise of the key count with Σ chunks × ranks; more than that was stored by somebody else."""
    check = "cold_all_stored"
    wanted = facts.expected.objects if facts.expected else None
    expected = f"{wanted:,} keys more in the store" if wanted is not None else "more than 0 keys more in the store"
    rise = facts.deltas.get("keys")
    problem = facts.store_problem or ("the round was not cold, so it had less to store" if _was_warm(facts) else None)
    if problem or rise is None:
        why = problem or "this master does not count keys"
        return unavailable(facts, check, Rung.STORE, Fault.PRODUCT, expected=expected, why=why)
    surplus = wanted is not None and rise > wanted
    return checked(
        facts,
        check,
        Rung.STORE,
        Fault.INSTRUMENT if surplus else Fault.PRODUCT,
        held=rise == wanted if wanted is not None else rise > 0,
        expected=expected,
        observed=f"{rise:,.0f} keys more",
        detail=_stored_detail(facts, rise, wanted),
    )


def _stored_detail(facts: Facts, rise: float, wanted: int | None) -> str:
    if rise == wanted or (wanted is None and rise > 0):
        return ""
    if wanted is not None and rise > wanted:
        return "somebody else stored keys during the round, or chunk size and ranks are not what was assumed"
    if facts.deltas.get("evicted_keys") or facts.deltas.get("put_alloc_failures"):
        return "the pool was full: raise global_segment_size or shrink the workload"
    if rise <= 0:
        return (
            "nothing was stored: the connector runs degraded (recompute), writes to another master, "
            "or the prompts are shorter than one chunk"
        )
    return (
        "writes were dropped on their way: look for put timeouts in the engine's log and raise "
        "extra_config.transfer_timeout"
    )


def _puts_succeeded(facts: Facts) -> Evidence:
    """Refuse failed allocations, revoked and discarded puts. A put that failed because its key exists is none."""
    check, expected = "cold_puts_succeeded", "0 puts without space, revoked or abandoned"
    names = ("put_alloc_failures", "put_items_revoked", "put_items_discarded")
    known = {name: value for name in names if (value := facts.deltas.get(name)) is not None}
    if facts.store_problem or not known:
        why = facts.store_problem or "this master does not count puts"
        return unavailable(facts, check, Rung.STORE, Fault.PRODUCT, expected=expected, why=why)
    words = {"put_alloc_failures": "without space", "put_items_revoked": "revoked", "put_items_discarded": "abandoned"}
    return checked(
        facts,
        check,
        Rung.STORE,
        Fault.PRODUCT,
        held=not any(known.values()),
        expected=expected,
        observed=", ".join(f"{value:g} {words[name]}" for name, value in known.items()),
        detail="the pool was full or a writer died: compare master_allocated_bytes with the capacity"
        if any(known.values())
        else "",
    )
