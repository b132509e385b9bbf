"""Checks of a cold round: nothing came from any cache, and everything was stored for the warm round to find.

Where prompts share chunks, "nothing" is what the round stored itself: its own reuse, known from its plan. Up to that
hits are the workload's; above it somebody had stored its prompts before.
"""

from __future__ import annotations

from pytest_mooncake.analysis.evidence.checks.engine_hits import LOCAL, at_most_hits
from pytest_mooncake.analysis.evidence.expected.service import ADVICE
from pytest_mooncake.analysis.evidence.facts import Facts, checked, unavailable
from pytest_mooncake.records import Evidence, Rung

__all__ = ["cold_checks"]

_WARM_ALREADY = (
    "the round was not cold: its prompts had been cached before, by an earlier run with the same documents, "
    "a shared template in front of the nonce, or a cache that routes on parts of the prompt"
)
_CHUNKS_UNKNOWN = "how many keys a chunk has is not known, so the round's own reuse cannot be told from others' reads"
_OTHERS_READ = "somebody else read from the store during the round"
_OTHERS_UNTOLD = "whose they are is not counted in a shared store: the warm round tells whether ours are there"
_OVERTAKEN = "requests in flight together overtake the one that stores what they share; one at a time none does"
_LAST_STEP = (
    "where prefill ends with a step of one token, LMCache takes it for decoding and stores nothing of that step"
)
"""Source: LMCache 0.5.6 `vllm_v1_adapter.RequestTracker.update`; seen on prompts of vLLM's --max-num-batched-tokens."""
_STORED_TOO_LATE = (
    "what a request stores is not there yet, or not found, when the next one asks for it: ask for more output tokens, "
    "give conversations think_time_s, or look for slow puts"
)


def cold_checks(facts: Facts) -> tuple[Evidence, ...]:
    """Return the checks of a cold round. A hit is an instrument fault; what was not stored is the product's."""
    own, blocks = most_external(facts), most_local(facts)
    return (
        _no_engine_hits(facts, "cold_no_external_hits", "external_hit_tokens", "the connector", own),
        _no_engine_hits(facts, "cold_no_local_hits", LOCAL, "the engine's own prefix cache", blocks),
        _no_cached_tokens(facts),
        *_own_reuse(facts),
        _no_store_hits(facts),
        _all_stored(facts),
        _puts_succeeded(facts),
    )


def most_external(facts: Facts) -> int:
    """Tokens that the round may be served through the connector: its own reuse, and what begins every prompt."""
    return facts.own_tokens + facts.most_common_tokens


def most_local(facts: Facts) -> int:
    """The same in the smaller blocks of an engine's own prefix cache."""
    return facts.own_tokens_in_blocks + facts.most_common_tokens


def _at_most(facts: Facts, most: int, unit: str) -> str:
    """What a cold round may be served: nothing, or what it stored itself, and what begins every prompt."""
    whose = ["this round's own reuse"] if facts.own_tokens else []
    whose += [f"a common beginning of {facts.common_tokens:,} tokens"] if facts.common_tokens else []
    return f"at most {most:,} {unit}, {' and '.join(whose)}" if most and whose else f"0 {unit}"


def _no_engine_hits(facts: Facts, check: str, name: str, where: str, most: int) -> Evidence:
    return at_most_hits(
        facts,
        check,
        name,
        most,
        expected=_at_most(facts, most, f"tokens from {where}"),
        uncounted=f"this engine does not count tokens from {where}",
        too_many=_WARM_ALREADY,
    )


def _no_cached_tokens(facts: Facts) -> Evidence:
    most = _most_cached(facts)
    check = "cold_no_cached_tokens"
    expected = _at_most(facts, most, "cached tokens in the replies") if most else "0 cached tokens in every reply"
    if facts.cached_tokens is None:
        why = "the replies carry no cached_tokens: start vLLM with --enable-prompt-tokens-details"
        return unavailable(facts, check, Rung.USAGE, expected=expected, why=why)
    hit = [record.cached_tokens for record in facts.succeeded if record.cached_tokens]
    held = facts.cached_tokens <= most and (bool(facts.own_tokens) or max(hit, default=0) <= (facts.common_tokens or 0))
    return checked(
        facts,
        check,
        Rung.USAGE,
        "hits",
        held=held,
        expected=expected,
        observed=f"{facts.cached_tokens:,} cached tokens in {len(hit)} of {len(facts.succeeded)} replies",
        detail="" if held else _WARM_ALREADY,
    )


def _most_cached(facts: Facts) -> int:
    """The round's own reuse in the blocks of whichever tier may have served it."""
    only_store = facts.deltas.get("local_hit_tokens") == 0
    return most_external(facts) if only_store else most_local(facts)


def _own_reuse(facts: Facts) -> tuple[Evidence, ...]:
    """Hold the reuse within the round against its plan, where there is any. Requests in flight may overtake it.

    Less than planned makes a round that is colder than it was meant to be, and the gain look larger: the instrument
    does not hold. Whether the product loses what it stored is seen in the warm round.
    """
    planned = facts.round.planned
    if planned is None or not facts.own_tokens:
        return ()
    check, own = "cold_own_reuse", facts.own_tokens
    external = None if facts.engine_problem else facts.deltas.get("external_hit_tokens")
    hits, rung = (external, Rung.ENGINE) if external is not None else (facts.cached_tokens, Rung.USAGE)
    exact = "" if planned.in_order else "at most "
    expected = f"{exact}{own:,} tokens of what earlier requests of this round stored"
    if hits is None:
        why = "neither counters nor replies tell cached tokens"
        return (unavailable(facts, check, rung, expected=expected, why=why),)
    enough = hits >= facts.least_own_share * own
    known = facts.units.is_known
    return (
        checked(
            facts,
            check,
            rung,
            "short" if known else "chunks_unknown",
            held=enough or not planned.in_order,
            expected=expected,
            observed=f"{hits:,.0f} tokens ({hits / own:.1%})",
            detail="" if enough else _reuse_detail(in_order=planned.in_order, known=known),
        ),
    )


def _reuse_detail(*, in_order: bool, known: bool) -> str:
    if not in_order:
        return _OVERTAKEN
    return _STORED_TOO_LATE if known else f"larger chunks hold less of what is shared: {ADVICE}"


def _no_store_hits(facts: Facts) -> Evidence:
    check, most, hits = "cold_no_store_hits", _most_keys(facts), facts.deltas.get("store_hit_keys")
    expected = _at_most(facts, most or 0, "keys handed out by Mooncake")
    if facts.store_problem or hits is None or most is None:
        why = facts.store_problem or ("this master does not count hits" if hits is None else _CHUNKS_UNKNOWN)
        return unavailable(facts, check, Rung.STORE, expected=expected, why=why)
    ours = _was_warm(facts)
    return checked(
        facts,
        check,
        Rung.STORE,
        "ours" if ours else "others",
        held=hits <= most,
        expected=expected,
        observed=f"{hits:,.0f} keys",
        detail="" if hits <= most else _WARM_ALREADY if ours else _OTHERS_READ,
    )


def _most_keys(facts: Facts) -> int | None:
    """Keys that the round may be handed out: of its own making, and a template's chunks; None where not known."""
    template = facts.most_common_tokens and facts.deltas.get("external_hit_tokens") != 0
    if not template:
        return facts.own_keys
    kv = facts.view.kv
    if kv is None:
        return None
    return (facts.own_keys or 0) + template_chunks(facts, kv.chunk_tokens) * kv.ranks


def template_chunks(facts: Facts, chunk_tokens: int) -> int:
    """Whole chunks of what begins every prompt, over all requests."""
    return len(facts.succeeded) * ((facts.common_tokens or 0) // chunk_tokens)


def _was_warm(facts: Facts) -> bool:
    limits = {"external_hit_tokens": most_external(facts), "local_hit_tokens": most_local(facts)}
    counted = any((facts.deltas.get(name) or 0) > most for name, most in limits.items())
    return (facts.cached_tokens or 0) > _most_cached(facts) or (not facts.engine_problem and counted)


def _all_stored(facts: Facts) -> Evidence:
    """Compare the rise of the key count with distinct chunks × ranks; more than that was stored by somebody else."""
    if facts.is_steady:
        return _all_stored_or_evicted(facts)
    check = "cold_all_stored"
    wanted = facts.keys_to_store
    expected = f"{wanted:,} keys more in the store" if wanted is not None else "more than 0 keys more in the store"
    rise = facts.deltas.get("keys")
    problem = facts.store_problem or ("the round was not cold, so it had less to store" if _was_warm(facts) else None)
    if problem or rise is None:
        why = problem or "this master does not count keys"
        return unavailable(facts, check, Rung.STORE, expected=expected, why=why)
    held = _least_keys(facts, wanted) <= rise <= wanted if wanted is not None else rise > 0
    return checked(
        facts,
        check,
        Rung.STORE,
        _what_was_stored(facts, rise, wanted),
        held=held,
        expected=expected,
        observed=f"{rise:,.0f} keys more",
        detail=_stored_detail(facts, rise, wanted),
    )


def _least_keys(facts: Facts, wanted: int) -> float:
    """Keys that must be there, within the share allowed; a template's chunks are one for all."""
    kv = facts.view.kv
    return facts.warm_hit_share * wanted - (template_chunks(facts, kv.chunk_tokens) * kv.ranks if kv else 0)


def _what_was_stored(facts: Facts, rise: float, wanted: int | None) -> str:
    """What a wrong number of keys is, by its name in the catalogue."""
    if wanted is None:
        return "nothing"
    if rise > wanted:
        return "surplus"
    return "short_and_lost" if _keys_went(facts) else "short"


def _keys_went(facts: Facts) -> bool:
    """Whether keys left the store meanwhile, or may have because nobody counts it: then a rise is a difference."""
    names = ("evicted_keys", "remove_requests", "remove_all_requests", "remove_by_regex_requests", "unmount_requests")
    return any(facts.deltas.get(name) for name in names) or facts.deltas.get("evicted_keys") is None


def _all_stored_or_evicted(facts: Facts) -> Evidence:
    """In a steady state: what was stored is still there or was evicted since; what was evicted may be stored again."""
    check, planned, kv = "cold_all_stored", facts.round.planned, facts.view.kv
    stored = facts.deltas.total("keys", "evicted_keys")
    if planned is None or kv is None or facts.store_problem or stored is None:
        why = facts.store_problem or "this master does not count keys and evictions"
        expected = "keys more in the store or evicted from it"
        return unavailable(facts, check, Rung.STORE, expected=expected, why=why)
    least, most = planned.distinct_chunks * kv.ranks, planned.chunks * kv.ranks
    refused = facts.deltas.get("put_alloc_failures") or 0
    return checked(
        facts,
        check,
        Rung.STORE,
        "surplus" if stored > most else "short_and_lost",
        held=facts.warm_hit_share * least - refused <= stored <= most,
        expected=f"{least:,} to {most:,} keys more in the store or evicted from it",
        observed=f"{stored:,.0f} keys" + (f", {refused:,.0f} puts without space" if refused else ""),
        detail="" if least - refused <= stored <= most else _stored_detail(facts, stored, least),
    )


def _stored_detail(facts: Facts, rise: float, wanted: int | None) -> str:
    if rise == wanted or (wanted is None and rise > 0):
        return ""
    if wanted is not None and rise > wanted:
        return "somebody else stored keys during the round, or chunk size and ranks are not what was assumed"
    if facts.is_shared and (wanted is None or _keys_went(facts)):
        return f"keys of others went meanwhile, or it is not known how many are ours: {_OTHERS_UNTOLD}"
    if facts.deltas.get("evicted_keys") or facts.deltas.get("put_alloc_failures"):
        return "the pool was full: raise global_segment_size or shrink the workload"
    if rise <= 0:
        return (
            "nothing was stored: the connector runs degraded (recompute), writes to another master, "
            "or the prompts are shorter than one chunk"
        )
    if wanted is not None and rise >= facts.warm_hit_share * wanted:
        return f"{wanted - rise:,.0f} keys short, within the {1 - facts.warm_hit_share:.0%} allowed: {_LAST_STEP}"
    return (
        "writes were dropped on their way: look for put timeouts in the engine's log and raise "
        f"extra_config.transfer_timeout; or {_LAST_STEP}: try another --mooncake-prompt-tokens"
    )


def _puts_succeeded(facts: Facts) -> Evidence:
    """Refuse failed allocations, revoked and discarded puts. A put that failed because its key exists is none."""
    check, expected = "cold_puts_succeeded", "0 puts without space, revoked or abandoned"
    full = () if facts.is_steady else ("put_alloc_failures",)  # a full store may find no room; hits tell what it costs
    names = (*full, "put_items_revoked", "put_items_discarded")
    known = {name: value for name in names if (value := facts.deltas.get(name)) is not None}
    if facts.store_problem or not known:
        why = facts.store_problem or "this master does not count puts"
        return unavailable(facts, check, Rung.STORE, expected=expected, why=why)
    words = {"put_alloc_failures": "without space", "put_items_revoked": "revoked", "put_items_discarded": "abandoned"}
    full_or_dead = "the pool was full or a writer died: compare master_allocated_bytes with the capacity"
    return checked(
        facts,
        check,
        Rung.STORE,
        "failed",
        held=not any(known.values()),
        expected=expected,
        observed=", ".join(f"{value:g} {words[name]}" for name, value in known.items()),
        detail="" if not any(known.values()) else _OTHERS_UNTOLD if facts.is_shared else full_or_dead,
    )
