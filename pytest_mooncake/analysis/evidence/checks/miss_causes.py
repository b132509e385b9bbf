"""Why a warm round missed: the likeliest cause that the counters allow, in one sentence with what to do."""

from __future__ import annotations

from pytest_mooncake.analysis.evidence.counters.deltas import deltas, read
from pytest_mooncake.analysis.evidence.facts import Facts

__all__ = ["likely_cause"]


def likely_cause(facts: Facts) -> str:
    """Return the first explanation that fits, most specific first. Never empty."""
    for explain in (_master_gone, _nothing_stored, _keys_lost, _evicted, _stored_again, _other_tier):
        sentence = explain(facts)
        if sentence:
            return sentence
    return (
        "the engines did not find what is stored: hash seed, chunk size, data type, model path or master differ "
        "between the engine that stored and the one that read; without a connector nothing is ever found"
    )


def _master_gone(facts: Facts) -> str | None:
    if facts.view.store is None or facts.deltas.failed.get("master") is None:
        return None
    return f"the Mooncake master does not answer ({facts.deltas.failed['master']}): see its log for why it ended"


def _nothing_stored(facts: Facts) -> str | None:
    stored = facts.reference_deltas.get("keys") if facts.reference_deltas else None
    if stored is None or stored > 0:
        return None
    return (
        "the cold round had stored nothing: the connector runs degraded (recompute) or writes to another master; "
        "look for 'degraded mode' and for mooncake_master_server_addr"
    )


def _keys_lost(facts: Facts) -> str | None:
    if facts.reference is None:
        return None
    end, start = read(facts.reference.after, "keys"), read(facts.round.before, "keys")
    if end is None or start is None or start >= end:
        return None
    between = deltas(facts.reference.after, facts.round.before)
    lost = f"{end - start:,.0f} of {end:,.0f} keys went from the store between the rounds"
    if "master" in (*between.restarted, *between.shared):
        return f"{lost}: the master restarted, and what it knows lives in its memory"
    removals = sum(between.get(n) or 0 for n in ("remove_requests", "remove_all_requests", "remove_by_regex_requests"))
    if removals:
        return f"{lost}: somebody removed them ({removals:g} removal requests)"
    if between.get("evicted_keys"):
        return f"{lost}: they were evicted, the segments are too small"
    if between.get("unmount_requests"):
        return f"{lost}: a storage node left the pool"
    return f"{lost}: a storage node may have died"


def _evicted(facts: Facts) -> str | None:
    rounds = (facts.deltas, facts.reference_deltas)
    evicted = sum(moved.get("evicted_keys") or 0 for moved in rounds if moved is not None)
    if not evicted:
        return None
    return f"{evicted:,.0f} keys were evicted: raise global_segment_size or shrink the workload"


def _stored_again(facts: Facts) -> str | None:
    rise = facts.deltas.get("keys")
    if not rise or rise < 0:
        return None
    return (
        f"the warm round stored {rise:,.0f} keys anew, so the same prompts have other keys on this engine: "
        "PYTHONHASHSEED (or pre_caching_hash_algorithm), model path, data type or chunk size differ between engines"
    )


def _other_tier(facts: Facts) -> str | None:
    if facts.deltas.get("local_hit_tokens"):
        return "the engine's own prefix cache answered first: start vLLM with --no-enable-prefix-caching"
    if facts.deltas.get("external_hit_tokens") and facts.deltas.get("store_hit_keys") == 0:
        return "LMCache's CPU memory answered, Mooncake was never asked: set local_cpu: false"
    return None
