"""Checks of a warm round: all that could be cached was served, by Mooncake and by nothing nearer."""

from __future__ import annotations

import math

from pytest_mooncake.analysis.evidence.checks.engine_hits import LOCAL, at_most_hits
from pytest_mooncake.analysis.evidence.checks.miss_causes import likely_cause
from pytest_mooncake.analysis.evidence.counters.deltas import read
from pytest_mooncake.analysis.evidence.expected.formulae import object_bytes
from pytest_mooncake.analysis.evidence.expected.key_reads import KeyReads, reads_of
from pytest_mooncake.analysis.evidence.expected.service import (
    ADVICE,
    Service,
    best_service,
    by_engines,
    by_replies,
    served_own,
)
from pytest_mooncake.analysis.evidence.facts import EVICTS_BY_PLAN, Facts, checked, unavailable
from pytest_mooncake.records import Evidence, RequestRecord, Rung, Status

__all__ = ["warm_checks"]

_STEADY = "a steady state: at least what an exact LRU of the store's size keeps, at most all of it"
_WRONG_TIER = "the wrong tier answered: start vLLM with --no-enable-prefix-caching, or reset it between the rounds"
_OTHERS_READ = "somebody else read from the store, or reads were repeated"

PREFILL_NOISE = 1.2
"""How much slower a warm prefill may be before it is a fault. Whether it is faster by enough is for the claims."""


def warm_checks(facts: Facts) -> tuple[Evidence, ...]:
    """Return the checks of a warm round. A miss or a wrong tier is a product fault."""
    engines, replies = by_engines(facts), by_replies(facts)
    return (
        _external_tokens(facts, engines),
        _no_local_hits(facts),
        _cached_tokens(facts, replies),
        _hit_share(facts),
        _store_hits(facts),
        _store_bytes(facts),
        _no_lmcache_cpu(facts),
        _store_kept(facts),
        _prefill_fell(facts),
        _ttft_fell(facts),
    )


def _floor(facts: Facts, wanted: int) -> float:
    return facts.least_warm_share * wanted


def _asked(facts: Facts, wanted: int | None) -> str:
    """How much is to be served: all that can be, or in a steady state what LRU keeps of it at least; '' if unknown."""
    if wanted is None:
        return ""
    return f"{math.ceil(_floor(facts, wanted)):,} to {wanted:,}" if facts.is_steady else f"{wanted:,}"


def _wanted(facts: Facts, service: Service) -> str:
    """What is to be served, in words: exact by a known chunk size, at least so much by an assumed one."""
    size = facts.units.size
    if not service.wanted:
        return "tokens"
    at_least = "" if facts.units.is_known or facts.units.found else "at least "
    return f"{at_least}{_asked(facts, service.wanted)} {size.words}"


def _short(facts: Facts, observed: float, wanted: int, unit: str) -> str:
    """Say how much is missing, where it is within what is allowed."""
    if facts.is_steady:
        return _STEADY
    if observed < wanted:
        return f"{wanted - observed:,.0f} {unit} short, within the {1 - facts.warm_hit_share:.0%} allowed"
    return ""


def _judged(facts: Facts, check: str, service: Service, *, expected: str, observed: str) -> Evidence:
    """The evidence of what a source tells of the tokens that were served."""
    if not service.is_measured:
        return unavailable(facts, check, service.rung, expected=expected, why=service.why)
    broken = service.status is Status.BROKEN
    short = (
        ""
        if not facts.units.is_known or service.wanted is None
        else _short(facts, service.tokens or 0, service.wanted, "tokens")
    )
    return checked(
        facts,
        check,
        service.rung,
        "short" if broken else "chunks_unknown",
        held=service.status is Status.HELD,
        expected=expected,
        observed=observed,
        detail=likely_cause(facts) if broken else service.why or short,
    )


def _external_tokens(facts: Facts, service: Service) -> Evidence:
    check, rung, expected = "warm_external_tokens", service.rung, f"{_wanted(facts, service)} from outside"
    observed = f"{service.tokens or 0:,.0f} tokens"
    if service.is_measured and (service.tokens or 0) > _most_external(facts):
        why = "more than these prompts can be served: somebody else's prompts are counted"
        return checked(facts, check, rung, "surplus", held=False, expected=expected, observed=observed, detail=why)
    return _judged(facts, check, service, expected=expected, observed=observed)


def _most_external(facts: Facts) -> int:
    """The most that our prompts can be served from outside: by the geometry, else all of them."""
    return facts.expected.external_tokens if facts.expected is not None else facts.prompt_tokens or 0


def _no_local_hits(facts: Facts) -> Evidence:
    most, what = facts.most_common_tokens, "tokens from the engine's own prefix cache"
    return at_most_hits(
        facts,
        "warm_no_local_hits",
        LOCAL,
        most,
        expected=f"at most {most:,} {what}, those of a common beginning" if most else f"0 {what}",
        uncounted="this engine does not count hits of its own prefix cache",
        too_many=_WRONG_TIER,
    )


def _cached_tokens(facts: Facts, service: Service) -> Evidence:
    asked = f"{_wanted(facts, service)} cached according to the replies"
    missed = sum(1 for record in facts.succeeded if (record.cached_tokens or 0) <= (facts.common_tokens or 0))
    return _judged(
        facts,
        "warm_cached_tokens",
        service,
        expected=asked if service.wanted else "cached tokens in the replies",
        observed=f"{service.tokens or 0:,.0f} tokens; {missed} of {len(facts.succeeded)} replies had none",
    )


def _hit_share(facts: Facts) -> Evidence:
    """The target of the plan, from the strongest source there is."""
    check, least, found = "warm_hit_share", facts.least_warm_share, best_service(facts)
    expected = f"at least {least:.1%} of what could be cached"
    if not found.is_measured or found.share is None:
        neither = "neither counters nor replies tell cached tokens"
        why = found.why if found.is_measured else facts.engine_problem or neither
        return unavailable(facts, check, found.rung, expected=expected, why=why)
    told = f"{found.tokens or 0:,.0f} of {found.wanted or 0:,} {facts.units.size.words}"
    return checked(
        facts,
        check,
        found.rung,
        "short",
        held=found.status is Status.HELD,
        expected=expected,
        observed=f"{found.share:.2%} ({told})",
        detail=likely_cause(facts) if found.status is Status.BROKEN else _STEADY if facts.is_steady else "",
    )


def _store_hits(facts: Facts) -> Evidence:
    check, reads = "warm_store_hits", reads_of(facts)
    wanted = reads.likely[0] if reads is not None and reads.likely else None
    expected = f"{_asked(facts, wanted)} keys handed out by Mooncake".lstrip()
    hits = facts.deltas.get("store_hit_keys")
    if facts.store_problem or hits is None or reads is None:
        why = facts.store_problem or f"neither chunk size nor the keys of the cold round are known: {ADVICE}"
        return unavailable(facts, check, Rung.STORE, expected=expected, why=why)
    held, what = _keys_seen(facts, reads, hits)
    detail = {"short": likely_cause(facts), "surplus": _OTHERS_READ, "ranks_unknown": _RANKS_UNKNOWN}[what]
    return checked(
        facts,
        check,
        Rung.STORE,
        what,
        held=held,
        expected=expected,
        observed=f"{hits:,.0f} keys",
        detail=_short(facts, hits, wanted or 0, "keys") if held else detail,
    )


_RANKS_UNKNOWN = (
    "how many keys a chunk has is not known: others stored in the cold round, or read, so ours cannot be counted"
)


def _keys_seen(facts: Facts, reads: KeyReads, hits: float) -> tuple[bool, str]:
    """Whether the keys handed out are those of a complete round, and what they are if not."""
    held = any(_floor(facts, least) <= hits <= most for least, most in _complete(reads))
    if hits < _floor(facts, reads.least):
        return False, "short"
    return held, "surplus" if reads.likely and hits > reads.likely[-1] else "ranks_unknown"


def _complete(reads: KeyReads) -> tuple[tuple[int, int], ...]:
    """From how many keys on to how many a round is complete; by known ranks from the least on."""
    if reads.ranks_known:
        return ((reads.least, reads.likely[-1]),)
    return tuple((keys, keys) for keys in reads.likely)


def _store_bytes(facts: Facts) -> Evidence:
    """Compare the bytes handed out with keys × object size; a wrong size means that the geometry is not this one."""
    check, kv = "warm_store_bytes", facts.view.kv
    hits, observed = facts.deltas.get("store_hit_keys"), facts.deltas.get("store_hit_bytes")
    if facts.store_problem or kv is None or hits is None or observed is None:
        why = facts.store_problem or "KV bytes per token are not known, or this master does not count bytes"
        return unavailable(facts, check, Rung.STORE, expected="keys × bytes per key", why=why)
    wanted = hits * object_bytes(kv)
    return checked(
        facts,
        check,
        Rung.STORE,
        "size",
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
        why = problem or "the counters do not tell Mooncake and LMCache apart: bytes and chunks of a key are not known"
        return unavailable(facts, check, Rung.STORE, expected=expected, why=why)
    hidden = tokens == 0 and _others_read(facts)
    gauge = facts.deltas.at_end("lmcache_local_cpu_hot_cache_count")
    corroboration = f"LMCache itself reports {gauge:g} chunks in CPU memory" if gauge else ""
    advice = "the wrong tier answered: set local_cpu: false in LMCache's configuration"
    return checked(
        facts,
        check,
        Rung.STORE,
        "others" if hidden else "tokens",
        held=tokens == 0 and not hidden,
        expected=expected,
        observed=f"{tokens:,} tokens",
        detail="; ".join(
            part for part in (_OTHERS_READ if hidden else advice if tokens else "", corroboration) if part
        ),
    )


def _others_read(facts: Facts) -> bool:
    """Whether a shared store handed out more keys than ours, so that what it did not hand out to us is hidden."""
    reads, hits = reads_of(facts), facts.deltas.get("store_hit_keys")
    return facts.is_shared and reads is not None and bool(reads.likely) and (hits or 0) > reads.likely[-1]


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
        untold = facts.store_problem or "the keys of the cold round before were not counted"
        return unavailable(
            facts, check, Rung.STORE, expected=expected, why=EVICTS_BY_PLAN if facts.is_steady else untold
        )
    return checked(
        facts,
        check,
        Rung.STORE,
        {True: "lost_served", False: "lost", None: "lost_untold"}[served_own(facts)],
        held=start >= end,
        expected=f"{expected}: {end:,.0f}",
        observed=f"{start:,.0f} keys",
        detail="" if start >= end else lost_detail(facts),
    )


def lost_detail(facts: Facts) -> str:
    """Why keys went; of a shared store, first whether they were ours."""
    if facts.is_shared and served_own(facts):
        return f"not ours, for all of ours were served; {likely_cause(facts)}"
    return likely_cause(facts)


def _prefill_fell(facts: Facts) -> Evidence:
    check = "warm_prefill_fell"
    cold = facts.reference_deltas.mean("prefill") if facts.reference_deltas else None
    warm = facts.deltas.mean("prefill")
    expected = f"mean prefill below the cold round's {cold:.3g} s" if cold else "mean prefill below the cold round's"
    if facts.engine_problem or cold is None or warm is None:
        why = facts.engine_problem or "the engine's prefill times of both rounds are not known"
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    if facts.reference_deltas and facts.reference_deltas.get("external_hit_tokens") and not facts.own_tokens:
        why = "the cold round before was not cold: its prefill is no measure"
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    if served_own(facts) is None:
        why = "what our prompts were served cannot be told, so neither can what they should gain"
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    if facts.own_tokens or facts.is_steady:
        why = "the cold round reuses too, by plan: what is left to gain is for the claims to judge"
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    return checked(
        facts,
        check,
        Rung.ENGINE,
        "slower",
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
        return unavailable(facts, check, Rung.TIMING, expected=expected, why=why)
    cold = _mean_ttft_ms(facts.reference.requests) if facts.reference else None
    warm = _mean_ttft_ms(facts.round.requests)
    if cold is None or warm is None:
        why = "there is no cold round to compare with"
        return unavailable(facts, check, Rung.TIMING, expected=expected, why=why)
    return checked(
        facts,
        check,
        Rung.TIMING,
        "slower",
        held=warm < cold,
        expected=f"{expected}: {cold:,.0f} ms",
        observed=f"{warm:,.0f} ms",
        detail="" if warm < cold else "no sign of a cache; but times alone prove no miss",
    )


def _mean_ttft_ms(requests: tuple[RequestRecord, ...]) -> float | None:
    times = [
        (record.first_token_ns - record.sent_ns) / 1e6
        for record in requests
        if record.error is None and record.first_token_ns is not None and record.sent_ns is not None
    ]
    return sum(times) / len(times) if times else None
