"""Is what comes back from the cache what went in? The gate's answers as checks, and what became of the gate.

Blame needs proof: a check is broken where own requests, counters that moved by them and by nothing else, or the
endpoint's own word show it. What cannot be told apart (which cache answered, a proxy's error, a field that is refused)
leaves a check unavailable with its reason, and what was not seen never holds one.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mooncake.analysis.evidence.checks.correct_text import (
    BLIND,
    NO_TOKENS,
    UNTOLD,
    Tier,
    answered,
    cached_of,
    check_text,
    checked,
    not_measured,
    pairs_of,
    tier_of,
)
from pytest_mooncake.analysis.evidence.checks.near_ties import TIE_NATS, Comparison, compare
from pytest_mooncake.analysis.evidence.checks.refusals import http_status, is_refusal
from pytest_mooncake.records import CORRECTNESS, Evidence, Gate, GateStatus, ProbeAnswer, ProbeRole, Rung, Status

__all__ = ["TIE_NATS", "Comparison", "compare", "gate_of", "is_proven_failure", "probe_evidence"]

_NOT_THE_ENGINES_OWN = frozenset({502, 503, 504})
"""Statuses with which a proxy speaks for an engine."""


def probe_evidence(answers: Sequence[ProbeAnswer]) -> tuple[Evidence, ...]:
    """Return the checks of the correctness gate; none where it did not run.

    A broken one is a product fault. What `cache_salt` isolates is a finding: held whatever it is.
    """
    if not answers:
        return ()
    return (
        _answered(answers),
        check_text(answers),
        _edges(answers),
        _tenants(answers),
        _salt(answers),
    )


def gate_of(answers: Sequence[ProbeAnswer], cut: str | None = None) -> Gate:
    """What became of the gate: made where its answers decide, not applicable where the endpoint cannot be asked.

    Args:
        answers: what was answered.
        cut: why the gate was given up before its end, if it was.

    >>> gate_of((), "it was not over after its limit of 300 s").status.value
    'not_made'
    """
    checks = {check.id: check for check in probe_evidence(answers)}
    if any(check.status is Status.BROKEN for check in checks.values()):
        return Gate(id=CORRECTNESS, status=GateStatus.MADE)
    if cut or not answers:
        return Gate(id=CORRECTNESS, status=GateStatus.NOT_MADE, reason=cut or "no short request was sent")
    why = "" if checks["correct_text"].status is Status.HELD else _not_applicable(answers)
    if why:
        return Gate(id=CORRECTNESS, status=GateStatus.NOT_APPLICABLE, reason=why)
    for check in ("probes_answered", "correct_text"):
        if checks[check].status is not Status.HELD:
            return Gate(id=CORRECTNESS, status=GateStatus.NOT_MADE, reason=checks[check].detail)
    return Gate(id=CORRECTNESS, status=GateStatus.MADE)


def _not_applicable(answers: Sequence[ProbeAnswer]) -> str:
    """Why an endpoint cannot be asked at all; empty where it can."""
    refused = _refused(answers)
    if refused:
        return refused
    required = [a for a in answers if a.role in (ProbeRole.COLD, ProbeRole.WARM)]
    if any(a.error and not is_refusal(a.error) for a in required):
        return ""
    if not any(a.tokens for a in required):
        return NO_TOKENS
    tiers, pairs = {tier_of(a) for a in answered(answers, ProbeRole.WARM)}, pairs_of(answers)
    fine = all(pair.compared.status is Status.HELD for pair in pairs)
    if not fine or not tiers <= {Tier.UNKNOWN, Tier.CACHED, Tier.NOTHING}:
        return ""
    if Tier.CACHED in tiers:
        return UNTOLD if pairs else ""
    return BLIND if tiers == {Tier.UNKNOWN} else ""


def _refused(answers: Sequence[ProbeAnswer]) -> str:
    """The words with which an endpoint refused every cold request; empty where it did not."""
    colds = [a for a in answers if a.role is ProbeRole.COLD]
    if not colds or not all(is_refusal(a.error) for a in colds):
        return ""
    return f"the endpoint refuses what the check needs: {colds[0].error}"


def is_proven_failure(failed: ProbeAnswer, answers: Sequence[ProbeAnswer]) -> bool:
    """Whether a failure is the product's own: only what should come from the cache fails, and the engine says so.

    The request failed twice, its cold one was answered, and so was one of the same length that no cache can hold. A
    proxy's 502 to 504, a limit and a cut connection are nobody's in particular.
    """
    status = http_status(failed.error)
    is_own_word = status is not None and (is_refusal(failed.error) or status == 500)
    well = {a.role for a in answers if a.case == failed.case and a.error is None}
    same = failed.role is ProbeRole.WARM and failed.retried is not None
    return same and is_own_word and status not in _NOT_THE_ENGINES_OWN and {ProbeRole.COLD, ProbeRole.CONTROL} <= well


def _answered(answers: Sequence[ProbeAnswer]) -> Evidence:
    required = [a for a in answers if a.role in (ProbeRole.COLD, ProbeRole.WARM)]
    check, expected = "probes_answered", f"{len(required)} short requests answered"
    refused = _refused(answers)
    if refused:
        return not_measured(check, "refused", expected, refused)
    left_out = {a.case for a in required if a.role is ProbeRole.COLD and is_refusal(a.error)}
    failed = [a for a in required if a.error is not None and a.case not in left_out]
    proven = next((a for a in failed if is_proven_failure(a, answers)), None)
    first = proven or next(iter(failed), None)
    told = f"{first.case} ({first.role}): {first.error}" if first else ""
    if first and not proven:
        why = f"{told}; a proxy, a time limit and the engine cannot be told apart"
        return not_measured(check, "failed_untold", expected, why)
    again = sum(a.retried is not None and a.error is None for a in answers)
    notes = [told] if told else []
    notes += [f"{len(left_out)} lengths were refused and left out"] if left_out else []
    notes += [f"{again} at the second try"] if again else []
    observed = f"{sum(a.error is None for a in required)} answered"
    return checked(check, "failed" if proven else None, expected, observed, "; ".join(notes))


def _edges(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Compare cached tokens at the edges of chunks with the formulae. Nothing is held against a guessed chunk."""
    check = "cached_at_chunk_edges"
    warm = [a for a in answered(answers, ProbeRole.WARM) if a.cached_expected is not None]
    expected = ", ".join(f"{a.prompt_tokens}: {a.cached_expected}" for a in warm) or "whole chunks cached"
    if not warm:
        return not_measured(check, "chunks_unknown", expected, "chunk size and ranks of this stack are not known")
    told = [a for a in warm if cached_of(a) is not None]
    if not told:
        return not_measured(check, "untold", expected, "the replies carry no cached_tokens")
    observed = ", ".join(f"{a.prompt_tokens}: {cached_of(a)}" for a in told)
    wrong = [a for a in told if _is_wrong_edge(a)]
    named = ", ".join(a.case for a in wrong)
    if wrong:
        why = f"{named}: chunk size, save_unfull_chunk or the rule for the last token differ"
        return checked(check, "differs", expected, observed, why)
    if any((cached_of(a) or 0) > (a.cached_expected or 0) and not a.local_tokens for a in told):
        return not_measured(check, "more", expected, _MORE_CACHED)
    local = sum(bool(a.local_tokens) for a in told)
    notes = [f"{local} answers came from the engine's own prefix cache, in part at least"] if local else []
    notes += [f"{len(warm) - len(told)} replies carry no cached_tokens"] if len(told) < len(warm) else []
    return checked(check, None, expected, observed, "; ".join(notes))


_MORE_CACHED = (
    "more than whole chunks was cached: no counter tells the engine's own prefix cache from the store "
    "(--no-enable-prefix-caching)"
)


def _is_wrong_edge(answer: ProbeAnswer) -> bool:
    """Whether a cache served too little, or the connector too much. What an engine's own cache holds is its own."""
    wanted, cached = answer.cached_expected or 0, cached_of(answer) or 0
    if answer.local_tokens is not None and answer.external_tokens is not None:
        return answer.external_tokens != max(0, wanted - answer.local_tokens)
    return cached < wanted


def _tenants(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Require that a prompt stored under one tag is not found under another: not by the connector, that is.

    The engine's own prefix cache knows no tags, and what it serves the connector is never asked for.
    """
    check, expected = "tenants_share_nothing", "0 cached tokens under another tag"
    asked = next((a for a in answers if a.role is ProbeRole.OTHER_TENANT), None)
    if asked is None:
        return not_measured(check, "not_asked", expected, "requests to this stack carry no tag (lmcache.tag.*)")
    if asked.error is not None:
        why = f"the request under another tag was not answered ({asked.error})"
        return not_measured(check, "not_asked", expected, why)
    warm, found = _warm_document(answers), cached_of(asked)
    if not warm:
        return not_measured(check, "untold", expected, "the document was not cached under its own tag either")
    if asked.external_tokens:
        why = "one tenant is served what another one stored: the tag does not reach the keys"
        observed = f"{asked.external_tokens} cached tokens ({warm} under its own)"
        return checked(check, "shared", expected, observed, why, Rung.ENGINE)
    if found is None:
        return not_measured(check, "untold", expected, "the replies carry no cached_tokens")
    if found:
        return not_measured(check, "nearer_tier", expected, _TAGLESS)
    return checked(check, None, expected, f"0 cached tokens ({warm} under its own)")


_TAGLESS = (
    "the engine's own prefix cache knows no tags and answered, or no counter tells it from the connector "
    "(--mooncake-allow-clear, or --no-enable-prefix-caching)"
)


def _salt(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Report what `cache_salt` isolates here; LMCacheConnectorV1's keys do not hold it."""
    check, expected = "cache_salt", "reported, not judged"
    found = next(iter(answered(answers, ProbeRole.SALTED)), None)
    warm, cached = _warm_document(answers), None if found is None else cached_of(found)
    if cached is None or not warm:
        why = "no document was cached, or the request with a salt was refused"
        return not_measured(check, "not_asked", expected, why)
    if not cached:
        return checked(check, "found", expected, "a prompt with another cache_salt finds nothing")
    detail = "cache_salt isolates the engine's own prefix cache only; use lmcache.tag.<name> (LMCache#2878)"
    said = f"{cached} of {warm} cached tokens are served across cache_salt"
    return checked(check, "found", expected, said, detail)


def _warm_document(answers: Sequence[ProbeAnswer]) -> int:
    return next((cached_of(a) or 0 for a in answered(answers, ProbeRole.WARM) if a.case == "document"), 0)
