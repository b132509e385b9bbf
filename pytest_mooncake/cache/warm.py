"""Checks of a warm round: all that could be cached was served, by Mooncake and by nothing nearer."""

from __future__ import annotations

import math

from pytest_mooncake.cache.causes import likely_cause
from pytest_mooncake.cache.counters import read
from pytest_mooncake.cache.expect import object_bytes
from pytest_mooncake.cache.facts import ASSUMED_CHUNK_TOKENS, EVICTS_BY_PLAN, Facts, checked, unavailable
from pytest_mooncake.cache.hit_share import served
from pytest_mooncake.records import Evidence, Fault, RequestRecord, Rung

__all__ = ["warm_checks"]

_STEADY = "a steady state: at least what an exact LRU of the store's size keeps, at most all of it"

PREFILL_NOISE = 1.2
"""How much slower a warm prefill may be before it is a fault. Whether it is faster by enough is for the claims."""


def warm_checks(facts: Facts) -> tuple[Evidence, ...]:
    """Return the checks of a warm round. A miss or a wrong tier is a product fault."""
    return (
        _external_tokens(facts),
        _no_local_hits(facts),
        _cached_tokens(facts),
        _hit_share(facts),
        _store_hits(facts),
        _store_bytes(facts),
        _no_lmcache_cpu(facts),
        _store_kept(facts),
        _prefill_fell(facts),
        _ttft_fell(facts),
    )


def _wanted_tokens(facts: Facts) -> tuple[int | None, str]:
    """Return the tokens that could be cached, by geometry or by the usual chunk size, and how they are called."""
    if facts.expected is not None:
        return facts.expected.external_tokens, "cacheable tokens"
    return facts.cacheable_tokens, f"tokens in chunks of {ASSUMED_CHUNK_TOKENS} (the chunk size is not known)"


def _floor(facts: Facts, wanted: int) -> float:
    return facts.least_warm_share * wanted


def _asked(facts: Facts, wanted: int | None) -> str:
    """How much is to be served: all that can be, or in a steady state what LRU keeps of it at least; '' if unknown."""
    if wanted is None:
        return ""
    return f"{math.ceil(_floor(facts, wanted)):,} to {wanted:,}" if facts.is_steady else f"{wanted:,}"


def _short(facts: Facts, observed: float, wanted: int, unit: str) -> str:
    """Say how much is missing: the likely cause when it is too much, else that it is within what is allowed."""
    if observed < _floor(facts, wanted):
        return likely_cause(facts)
    if facts.is_steady:
        return _STEADY
    if observed < wanted and facts.expected is not None:
        return f"{wanted - observed:,.0f} {unit} short, within the {1 - facts.warm_hit_share:.0%} allowed"
    return ""


def _served(
    facts: Facts,
    check: str,
    rung: Rung,
    observed: float,
    wanted: int,
    *,
    unit: str,
    expected: str,
    surplus: str,
    most: int | None = None,
) -> Evidence:
    """Hold what was served against what could be: more is other traffic, too little is the product's fault.

    `most` is what could be at most, where `wanted` is only what should be at least.
    """
    most = wanted if most is None else most
    is_surplus = observed > most
    return checked(
        facts,
        check,
        rung,
        Fault.INSTRUMENT if is_surplus else Fault.PRODUCT,
        held=_floor(facts, wanted) <= observed <= most,
        expected=expected,
        observed=f"{observed:,.0f} {unit}",
        detail=surplus if is_surplus else _short(facts, observed, wanted, unit),
    )


def _external_tokens(facts: Facts) -> Evidence:
    check = "warm_external_tokens"
    wanted, unit = _wanted_tokens(facts)
    observed = facts.deltas.get("external_hit_tokens")
    exact = facts.expected is not None
    asked = f"{'' if exact else 'at least '}{_asked(facts, wanted)} {unit}"
    expected = f"{asked if wanted else 'tokens'} from outside"
    if facts.engine_problem or observed is None or wanted is None:
        why = facts.engine_problem or "this engine does not count external tokens"
        return unavailable(facts, check, Rung.ENGINE, Fault.PRODUCT, expected=expected, why=why)
    return _served(
        facts,
        check,
        Rung.ENGINE,
        observed,
        wanted,
        unit="tokens",
        expected=expected,
        surplus="more than these prompts can be served: somebody else's prompts are counted",
        most=wanted if exact else facts.prompt_tokens,
    )


def _no_local_hits(facts: Facts) -> Evidence:
    check, expected = "warm_no_local_hits", "0 tokens from the engine's own prefix cache"
    hits = facts.deltas.get("local_hit_tokens")
    if facts.engine_problem or hits is None:
        why = facts.engine_problem or "this engine does not count hits of its own prefix cache"
        return unavailable(facts, check, Rung.ENGINE, Fault.PRODUCT, expected=expected, why=why)
    return checked(
        facts,
        check,
        Rung.ENGINE,
        Fault.PRODUCT,
        held=hits == 0,
        expected=expected,
        observed=f"{hits:,.0f} tokens",
        detail="the wrong tier answered: start vLLM with --no-enable-prefix-caching, or reset it between the rounds"
        if hits
        else "",
    )


def _cached_tokens(facts: Facts) -> Evidence:
    check = "warm_cached_tokens"
    wanted, unit = _wanted_tokens(facts)
    asked = f"{_asked(facts, wanted)} {unit} cached according to the replies"
    expected = asked if wanted else "cached tokens in the replies"
    observed = facts.cached_tokens
    if observed is None or wanted is None:
        why = "the replies carry no cached_tokens: start vLLM with --enable-prompt-tokens-details"
        return unavailable(facts, check, Rung.USAGE, Fault.PRODUCT, expected=expected, why=why)
    missed = sum(1 for record in facts.succeeded if not record.cached_tokens)
    return checked(
        facts,
        check,
        Rung.USAGE,
        Fault.PRODUCT,
        held=observed >= _floor(facts, wanted),
        expected=expected,
        observed=f"{observed:,} tokens; {missed} of {len(facts.succeeded)} replies had none",
        detail=_short(facts, observed, wanted, "tokens"),
    )


def _hit_share(facts: Facts) -> Evidence:
    """The target of the plan, from the strongest source there is."""
    check, least = "warm_hit_share", facts.least_warm_share
    expected = f"at least {least:.1%} of what could be cached"
    found, unit = served(facts), _wanted_tokens(facts)[1]
    observed, wanted, rung = found.tokens, found.wanted, found.rung
    if observed is None or not wanted:
        why = facts.engine_problem or "neither counters nor replies tell cached tokens"
        if wanted == 0:
            why = "the prompts are shorter than one chunk: nothing of them is ever cached"
        return unavailable(facts, check, rung, Fault.PRODUCT, expected=expected, why=why)
    share = min(1.0, observed / wanted)
    return checked(
        facts,
        check,
        rung,
        Fault.PRODUCT,
        held=share >= least,
        expected=expected,
        observed=f"{share:.2%} ({observed:,.0f} of {wanted:,} {unit})",
        detail=likely_cause(facts) if share < least else _STEADY if facts.is_steady else "",
    )


def _store_hits(facts: Facts) -> Evidence:
    check, wanted = "warm_store_hits", facts.expected_keys
    expected = f"{_asked(facts, wanted)} keys handed out by Mooncake".lstrip()
    hits = facts.deltas.get("store_hit_keys")
    if facts.store_problem or hits is None or wanted is None:
        why = facts.store_problem or "neither chunk size nor the keys of the cold round are known"
        return unavailable(facts, check, Rung.STORE, Fault.PRODUCT, expected=expected, why=why)
    return _served(
        facts,
        check,
        Rung.STORE,
        hits,
        wanted,
        unit="keys",
        expected=expected,
        surplus="somebody else read from the store, or reads were repeated",
    )


def _store_bytes(facts: Facts) -> Evidence:
    """Compare the bytes handed out with keys × object size; a wrong size means that the geometry is not this one."""
    check, kv = "warm_store_bytes", facts.view.kv
    hits, observed = facts.deltas.get("store_hit_keys"), facts.deltas.get("store_hit_bytes")
    if facts.store_problem or kv is None or hits is None or observed is None:
        why = facts.store_problem or "KV bytes per token are not known, or this master does not count bytes"
        return unavailable(facts, check, Rung.STORE, Fault.INSTRUMENT, expected="keys × bytes per key", why=why)
    wanted = hits * object_bytes(kv)
    return checked(
        facts,
        check,
        Rung.STORE,
        Fault.INSTRUMENT,
        held=observed == wanted,
        expected=f"{wanted:,.0f} bytes ({hits:,.0f} keys of {object_bytes(kv):,})",
        observed=f"{observed:,.0f} bytes",
        detail=""
        if observed == wanted
        else "objects have another size than model, data type, chunk size and ranks say: compressed or foreign",
    )


def _no_lmcache_cpu(facts: Facts) -> Evidence:
    """Find external tokens that Mooncake did not hand out. LMCache's own gauge comes late and only corroborates."""
    check, expected = "warm_no_lmcache_cpu", "0 tokens from LMCache's CPU memory"
    tokens = facts.attribution.lmcache_cpu_tokens
    problem = facts.store_problem or facts.engine_problem or _too_many_external(facts)
    if problem or tokens is None:
        why = problem or "the counters do not tell Mooncake and LMCache apart"
        return unavailable(facts, check, Rung.STORE, Fault.PRODUCT, expected=expected, why=why)
    gauge = facts.deltas.at_end("lmcache_local_cpu_hot_cache_count")
    corroboration = f"LMCache itself reports {gauge:g} chunks in CPU memory" if gauge else ""
    advice = "the wrong tier answered: set local_cpu: false in LMCache's configuration"
    return checked(
        facts,
        check,
        Rung.STORE,
        Fault.PRODUCT,
        held=tokens == 0,
        expected=expected,
        observed=f"{tokens:,} tokens",
        detail="; ".join(part for part in (advice if tokens else "", corroboration) if part),
    )


def _too_many_external(facts: Facts) -> str | None:
    external = facts.deltas.get("external_hit_tokens")
    if external is None or facts.expected is None or external <= facts.expected.external_tokens:
        return None
    return "more external tokens were counted than our prompts can have"


def _store_kept(facts: Facts) -> Evidence:
    check, expected = "store_kept", "as many keys at the start as after the cold round"
    start = read(facts.round.before, "keys")
    end = read(facts.reference.after, "keys") if facts.reference else None
    if start is None or end is None or facts.is_steady:
        why = (
            EVICTS_BY_PLAN
            if facts.is_steady
            else facts.store_problem or "the keys of the cold round before were not counted"
        )
        return unavailable(facts, check, Rung.STORE, Fault.PRODUCT, expected=expected, why=why)
    return checked(
        facts,
        check,
        Rung.STORE,
        Fault.PRODUCT,
        held=start >= end,
        expected=f"{expected}: {end:,.0f}",
        observed=f"{start:,.0f} keys",
        detail="" if start >= end else likely_cause(facts),
    )


def _prefill_fell(facts: Facts) -> Evidence:
    check = "warm_prefill_fell"
    cold = facts.reference_deltas.mean("prefill") if facts.reference_deltas else None
    warm = facts.deltas.mean("prefill")
    expected = f"mean prefill below the cold round's {cold:.3g} s" if cold else "mean prefill below the cold round's"
    if facts.engine_problem or cold is None or warm is None:
        why = facts.engine_problem or "the engine's prefill times of both rounds are not known"
        return unavailable(facts, check, Rung.ENGINE, Fault.PRODUCT, expected=expected, why=why)
    if facts.reference_deltas and facts.reference_deltas.get("external_hit_tokens") and not facts.own_tokens:
        why = "the cold round before was not cold: its prefill is no measure"
        return unavailable(facts, check, Rung.ENGINE, Fault.PRODUCT, expected=expected, why=why)
    if facts.own_tokens or facts.is_steady:
        why = "the cold round reuses too, by plan: what is left to gain is for the claims to judge"
        return unavailable(facts, check, Rung.ENGINE, Fault.PRODUCT, expected=expected, why=why)
    return checked(
        facts,
        check,
        Rung.ENGINE,
        Fault.PRODUCT,
        held=warm < PREFILL_NOISE * cold,
        expected=expected,
        observed=f"{warm:.3g} s",
        detail=_prefill_detail(cold, warm),
    )


def _prefill_detail(cold: float, warm: float) -> str:
    if warm < cold:
        return ""
    if warm < PREFILL_NOISE * cold:
        return "hardly: within the noise of two rounds, so prompts this short have little to gain"
    return "loading from the store takes longer than computing: network or copies are slow"


def _ttft_fell(facts: Facts) -> Evidence:
    """Judge by time alone, only where nothing better is known: where counters speak, the claims judge the times."""
    check, expected = "warm_ttft_fell", "mean TTFT below the cold round's"
    if facts.cached_tokens is not None or facts.deltas.get("external_hit_tokens") is not None:
        why = "better evidence exists"
        return unavailable(facts, check, Rung.TIMING, Fault.PRODUCT, expected=expected, why=why)
    cold = _mean_ttft_ms(facts.reference.requests) if facts.reference else None
    warm = _mean_ttft_ms(facts.round.requests)
    if cold is None or warm is None:
        why = "there is no cold round to compare with"
        return unavailable(facts, check, Rung.TIMING, Fault.PRODUCT, expected=expected, why=why)
    return checked(
        facts,
        check,
        Rung.TIMING,
        Fault.PRODUCT,
        held=warm < cold,
        expected=f"{expected}: {cold:,.0f} ms",
        observed=f"{warm:,.0f} ms",
        detail="" if warm < cold else "no sign of a cache at all",
    )


def _mean_ttft_ms(requests: tuple[RequestRecord, ...]) -> float | None:
    times = [
        (record.first_token_ns - record.sent_ns) / 1e6
        for record in requests
        if record.error is None and record.first_token_ns is not None and record.sent_ns is not None
    ]
    return sum(times) / len(times) if times else None
