"""Checks of any round: did all requests succeed, was the stack left alone, do the counters agree with each other."""

from __future__ import annotations

from pytest_mooncake.analysis.evidence.checks.refusals import is_refused_round
from pytest_mooncake.analysis.evidence.counters.deltas import deltas
from pytest_mooncake.analysis.evidence.counters.sources import MASTER, is_gone
from pytest_mooncake.analysis.evidence.expected.service import served_own
from pytest_mooncake.analysis.evidence.facts import (
    EVICTS_BY_PLAN,
    Coverage,
    Facts,
    cannot_be_told,
    checked,
    unavailable,
)
from pytest_mooncake.records import Evidence, Rung

__all__ = ["clean_checks"]


def clean_checks(facts: Facts) -> tuple[Evidence, ...]:
    """Return the checks that hold for cold and warm rounds alike."""
    return (
        _requests_served(facts),
        *_sources_answer(facts),
        *_no_restart(facts),
        *_settled(facts),
        _only_our_requests(facts),
        _no_preemptions(facts),
        _tokens_add_up(facts),
        _cached_tokens_agree(facts),
        _no_evictions(facts),
        _segments_unchanged(facts),
        _nothing_removed(facts),
    )


def _requests_served(facts: Facts) -> Evidence:
    failed = [record for record in facts.round.requests if record.error is not None]
    missing = facts.planned - len(facts.round.requests)
    reasons = dict.fromkeys(record.error or "" for record in failed)
    cut = facts.round.cut_short
    what = "refused" if is_refused_round(facts.round, facts.view) else "failed" if failed or cut else "not_sent"
    return checked(
        facts,
        "requests_served",
        Rung.TIMING,
        what,
        held=not failed and not missing and cut is None,
        expected=f"{facts.planned} requests served",
        observed=f"{len(facts.succeeded)} served, {len(failed)} failed"
        + (f", {missing} not sent" if missing > 0 else ""),
        detail="; ".join([*([cut] if cut else []), *list(reasons)[:3]]),
    )


def _sources_answer(facts: Facts) -> tuple[Evidence, ...]:
    """Broken when a process that we started does not listen any more: it ended. Any other silence proves nothing.

    What answers wrongly, too late or in turn with others takes away its rung, no more, and so does an address of
    somebody else's that refuses: whether the stack behind it still serves is told by the requests.
    """
    earlier = (*(facts.reference.after if facts.reference else ()), *facts.round.before)
    answered = {scrape.source for scrape in earlier if scrape.error is None}
    now = {scrape.source: scrape.error for scrape in (*facts.round.before, *facts.round.after)}
    silent = {source: error for source, error in now.items() if source in answered and error is not None}
    gone = {s: error for s, error in silent.items() if facts.view.provisioned and is_gone(error)}
    if not now:
        return ()
    check, rung = "sources_answer", Rung.STORE if MASTER in now else Rung.ENGINE
    expected = f"all {len(now)} processes that answered before still do"
    if silent and not gone:
        why = "; ".join(f"the counters of {source} could not be read ({error})" for source, error in silent.items())
        return (unavailable(facts, check, rung, expected=expected, why=why),)
    return (
        checked(
            facts,
            check,
            rung,
            "gone",
            held=not gone,
            expected=expected,
            observed="all answer" if not gone else f"no answer any more from {', '.join(gone)}",
            detail="; ".join(gone.values()),
        ),
    )


def _no_restart(facts: Facts) -> tuple[Evidence, ...]:
    """Broken when one identified process began anew; where it may have been another process, nobody can tell."""
    if not facts.round.before:
        return ()
    looks = [facts.deltas]
    if facts.reference:
        looks.insert(0, deltas(facts.reference.after, facts.round.before, identified=facts.view.provisioned))
    restarted = tuple(dict.fromkeys(source for moved in looks for source in moved.restarted))
    shared = tuple(dict.fromkeys(source for moved in looks for source in moved.shared))
    check, expected = "no_restart", "no process restarted"
    rung = Rung.STORE if MASTER in {scrape.source for scrape in facts.round.before} else Rung.ENGINE
    if shared and not restarted:
        why = "; ".join(map(cannot_be_told, shared))
        return (unavailable(facts, check, rung, expected=expected, why=why),)
    return (
        checked(
            facts,
            check,
            rung,
            "restarted",
            held=not restarted,
            expected=expected,
            observed="none did" if not restarted else f"restarted: {', '.join(restarted)}",
            detail="" if not restarted else "its counters fell or its start time changed; see its log for why it ended",
        ),
    )


def _settled(facts: Facts) -> tuple[Evidence, ...]:
    settle = facts.round.settle
    if settle is None:
        return ()
    return (
        checked(
            facts,
            "settled",
            Rung.TIMING,
            "not_settled",
            held=settle.settled,
            expected=f"stores finished ({settle.how})",
            observed=f"{'settled' if settle.settled else 'not settled'} after {settle.seconds:.1f} s",
            detail=settle.detail,
        ),
    )


def _only_our_requests(facts: Facts) -> Evidence:
    check, expected = "only_our_requests", f"{len(facts.round.requests)} requests served, all of them ours"
    counted = facts.deltas.get("requests_succeeded")
    if counted is None or facts.coverage is Coverage.PARTIAL:
        why = facts.engine_problem or "the engines do not count requests"
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    reasons = ", ".join(f"{reason} {n:g}" for reason, n in facts.deltas.requests_by_reason.items() if n)
    return checked(
        facts,
        check,
        Rung.ENGINE,
        "others",
        held=facts.coverage is Coverage.OURS,
        expected=expected,
        observed=f"{counted:g} requests served" + (f" ({reasons})" if reasons else ""),
        detail=""
        if facts.coverage is Coverage.OURS
        else "somebody else used the engines during the round: keep them to this run, or measure another time",
    )


def _counter_is_zero(
    facts: Facts, check: str, what: str, *, rung: Rung, names: tuple[str, ...], unit: str, detail: str
) -> Evidence:
    """Check that counters which exist stood still; those that this version lacks are left out."""
    known = {name: value for name in names if (value := facts.deltas.get(name)) is not None}
    problem = facts.store_problem if rung is Rung.STORE else facts.engine_problem
    if not known:
        why = problem or f"this version does not count {unit}"
        return unavailable(facts, check, rung, expected=f"0 {unit}", why=why)
    moved = sum(known.values())
    parts = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in known.items() if value)
    return checked(
        facts,
        check,
        rung,
        what,
        held=moved == 0,
        expected=f"0 {unit}",
        observed=f"{moved:,.0f} {unit}" + (f" ({parts})" if len(names) > 1 and parts else ""),
        detail=detail if moved else "",
    )


def _no_preemptions(facts: Facts) -> Evidence:
    return _counter_is_zero(
        facts,
        "no_preemptions",
        "preempted",
        rung=Rung.ENGINE,
        names=("preemptions",),
        unit="preempted requests",
        detail="the engine ran out of KV cache and asked the store again for preempted requests: "
        "lower --mooncake-concurrency or give the engine more KV cache memory",
    )


def _no_evictions(facts: Facts) -> Evidence:
    if facts.is_steady:
        expected, why = "evictions, by plan", EVICTS_BY_PLAN
        return unavailable(facts, "no_evictions", Rung.STORE, expected=expected, why=why)
    return _stood_still(
        facts,
        "no_evictions",
        "evicted",
        names=("evicted_keys",),
        unit="evicted keys",
        detail="the segments are too small for what this round stores: raise global_segment_size or lower the "
        "workload's requests or prompt tokens",
    )


def _segments_unchanged(facts: Facts) -> Evidence:
    return _stood_still(
        facts,
        "segments_unchanged",
        "changed",
        names=("mount_requests", "unmount_requests", "remount_requests"),
        unit="segment changes",
        detail="a storage node or engine joined or left the pool; what lay on a segment that left is gone",
    )


def _nothing_removed(facts: Facts) -> Evidence:
    return _stood_still(
        facts,
        "nothing_removed",
        "removed",
        names=("remove_requests", "remove_all_requests", "remove_by_regex_requests"),
        unit="removal requests",
        detail="somebody cleared the store during the round",
    )


def _stood_still(facts: Facts, check: str, what: str, *, names: tuple[str, ...], unit: str, detail: str) -> Evidence:
    """Check counters of the store; what moved there in a shared one was ours only if ours were not served."""
    known = {name: value for name in names if (value := facts.deltas.get(name)) is not None}
    if not known:
        why = facts.store_problem or f"this version does not count {unit}"
        return unavailable(facts, check, Rung.STORE, expected=f"0 {unit}", why=why)
    moved = sum(known.values())
    parts = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in known.items() if value)
    return checked(
        facts,
        check,
        Rung.STORE,
        _whose(facts, what),
        held=moved == 0,
        expected=f"0 {unit}",
        observed=f"{moved:,.0f} {unit}" + (f" ({parts})" if len(names) > 1 and parts else ""),
        detail=_told_whose(facts, detail) if moved else "",
    )


def _whose(facts: Facts, what: str) -> str:
    """The observation's name: what left our own pool, else whether our own prompts were served all the same."""
    served = served_own(facts)
    if what == "changed" and facts.deltas.get("unmount_requests") and (served is False or not facts.is_shared):
        return "left"
    return {True: f"{what}_served", False: what, None: f"{what}_untold"}[served]


def _told_whose(facts: Facts, detail: str) -> str:
    if not facts.is_shared:
        return detail
    served = served_own(facts)
    if served:
        return "not ours, for all of ours were served"
    return detail if served is False else f"{detail}; whose it was is not counted in a shared store"


def _tokens_add_up(facts: Facts) -> Evidence:
    """Compare the attribution's total with the engine's own counter and with what the requests reported."""
    table, check = facts.attribution, "tokens_add_up"
    ours = facts.prompt_tokens
    unexplained = table.unexplained_tokens
    expected = f"GPU + external + computed = {ours:,} prompt tokens" if ours is not None else "all tokens explained"
    if facts.engine_problem or unexplained is None or table.prompt_tokens is None:
        why = facts.engine_problem or "this engine does not count its prompt tokens by source"
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    explained = table.prompt_tokens - unexplained
    exact = unexplained == 0 and ours in (None, table.prompt_tokens)
    return checked(
        facts,
        check,
        Rung.ENGINE,
        "unexplained",
        held=exact,
        expected=expected,
        observed=f"{table.gpu_prefix_tokens:,} + {table.external_tokens:,} + {table.computed_tokens:,} = {explained:,}"
        f" of {table.prompt_tokens:,} that the engine counted",
        detail="" if exact else "the engine's counters contradict each other or count somebody else's prompts",
    )


def _cached_tokens_agree(facts: Facts) -> Evidence:
    table, check = facts.attribution, "cached_tokens_agree"
    expected = "Σ cached_tokens of the replies = GPU + external tokens of the engine"
    missing = facts.cached_tokens is None or table.external_tokens is None or table.gpu_prefix_tokens is None
    if facts.engine_problem or missing:
        why = (
            facts.engine_problem or "the replies carry no cached_tokens: start vLLM with --enable-prompt-tokens-details"
        )
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    counted = (table.external_tokens or 0) + (table.gpu_prefix_tokens or 0)
    agree = facts.cached_tokens == counted
    return checked(
        facts,
        check,
        Rung.ENGINE,
        "differ",
        held=agree,
        expected=expected,
        observed=f"{facts.cached_tokens:,} in the replies, {counted:,} in the counters",
        detail="" if agree else "the replies and the counters are not about the same requests",
    )
