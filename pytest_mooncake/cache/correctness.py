"""Is what comes back from the cache what went in? Answers from cached and from computed prompts, compared.

Equal text is no yardstick: recomputing only the tail of a prompt rounds differently, and a healthy cache differs from
a cold round where two tokens are all but equally likely. Wrong keys and values shift every log-probability. So a warm
answer is held to the near-tie rule: up to the first token that differs its log-probabilities are those of the cold
answer within `TIE_NATS`, and where a token differs, both answers hold the two tokens for equally likely within
`TIE_NATS`. Warm against warm proves nothing: wrong bytes are equal to themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_mooncake.records import Evidence, Fault, ProbeAnswer, ProbeRole, Rung, Status

__all__ = ["TIE_NATS", "Comparison", "compare", "probe_evidence"]

TIE_NATS = 0.2
"""Source: vllm#40896, #5543, #52701: first differences on healthy caches lie below 0.1 to 0.2 nat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a warm answer differs from the cold one.

    `shift_nats` is the largest change of a log-probability over the first `agreed` tokens; `gap_nats` is by how much,
    in whichever answer holds them for less alike, the two tokens of the first difference differ (None: no difference).
    """

    case: str
    agreed: int
    tokens: int
    shift_nats: float
    gap_nats: float | None

    @property
    def distance_nats(self) -> float:
        """What the near-tie rule judges: the larger of the two."""
        return max(self.shift_nats, self.gap_nats or 0.0)


def compare(cold: ProbeAnswer, warm: ProbeAnswer) -> Comparison:
    """Compare two greedy answers to one prompt.

    >>> def answer(token, share): return ProbeAnswer(case="x", role=ProbeRole.WARM, engine=0, prompt_tokens=9,
    ...     tokens=(token,), logprobs=(share,), top=({"a": -0.7, "b": -0.75},))
    >>> compare(answer("a", -0.7), answer("b", -0.75)).gap_nats < 0.06
    True
    """
    steps = min(len(cold.tokens), len(warm.tokens))
    agreed = next((i for i in range(steps) if cold.tokens[i] != warm.tokens[i]), steps)
    shifts = [abs(cold.logprobs[i] - warm.logprobs[i]) for i in range(agreed)]
    return Comparison(
        case=warm.case,
        agreed=agreed,
        tokens=steps,
        shift_nats=max(shifts, default=0.0),
        gap_nats=None if agreed == steps else _gap(cold, warm, agreed),
    )


def _gap(cold: ProbeAnswer, warm: ProbeAnswer, step: int) -> float:
    seen_cold = _lead(cold.top[step], cold.tokens[step], warm.tokens[step])
    return max(seen_cold, _lead(warm.top[step], warm.tokens[step], cold.tokens[step]))


def _lead(best: Mapping[str, float], chosen: str, other: str) -> float:
    """By how much `chosen` leads `other`: at least as much as the worst of the best where `other` is not among them."""
    worst = min(best.values())
    return best.get(chosen, worst) - best.get(other, worst)


def probe_evidence(answers: Sequence[ProbeAnswer]) -> tuple[Evidence, ...]:
    """Return the checks of the correctness gate; none where it did not run.

    A broken one is a product fault. What `cache_salt` isolates is a finding: held whatever it is.
    """
    if not answers:
        return ()
    return (
        _answered(answers),
        _text(answers),
        _cached(answers),
        _tenants(answers),
        _salt(answers),
    )


def _of(answers: Iterable[ProbeAnswer], role: ProbeRole) -> tuple[ProbeAnswer, ...]:
    return tuple(a for a in answers if a.role is role and a.error is None)


def _check(check: str, status: Status, expected: str, observed: str, detail: str = "") -> Evidence:
    return Evidence(
        id=check,
        status=status,
        rung=Rung.USAGE,
        expected=expected,
        observed=observed,
        fault=Fault.PRODUCT,
        detail=detail,
    )


def _unavailable(check: str, expected: str, why: str) -> Evidence:
    return _check(check, Status.UNAVAILABLE, expected, "not measured", why)


def _answered(answers: Sequence[ProbeAnswer]) -> Evidence:
    check, expected = "probes_answered", f"{len(answers)} short requests answered"
    failed = [a for a in answers if a.error is not None]
    colds = [a for a in answers if a.role is ProbeRole.COLD]
    if all((a.error or "").startswith("HTTP 4") for a in colds):
        return _unavailable(check, expected, f"the endpoint refuses what the check needs: {colds[0].error}")
    first = f"{failed[0].case} ({failed[0].role}): {failed[0].error}" if failed else ""
    status = Status.BROKEN if failed else Status.HELD
    return _check(check, status, expected, f"{len(answers) - len(failed)} answered", first)


def _text(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Hold warm answers that came from the cache to the near-tie rule."""
    check, expected = "correct_text", f"log-probabilities as without cache, within {TIE_NATS:g} nat at any difference"
    colds = {a.case: a for a in _of(answers, ProbeRole.COLD) if a.tokens and not a.cached_tokens}
    cached = [a for a in _of(answers, ProbeRole.WARM) if a.tokens and a.cached_tokens != 0]
    pairs = [compare(colds[a.case], a) for a in cached if a.case in colds]
    if not pairs:
        return _unavailable(check, expected, _why_no_pairs(answers))
    worst = max(pairs, key=lambda pair: pair.distance_nats)
    held = worst.distance_nats <= TIE_NATS
    equal = sum(pair.gap_nats is None for pair in pairs)
    observed = f"{equal} of {len(pairs)} texts equal, largest distance {worst.distance_nats:.3g} nat ({worst.case})"
    advice = (
        "what comes back is not what was stored, or is read in another layout: compare versions of vLLM and LMCache "
        "(LMCache#4463), and run once with MOONCAKE_STORE_CHECKSUM=1 on every client"
    )
    return _check(check, Status.HELD if held else Status.BROKEN, expected, observed, "" if held else advice)


def _why_no_pairs(answers: Sequence[ProbeAnswer]) -> str:
    served = [a for a in answers if a.error is None]
    if not served:
        return "no short request was answered"
    if not any(a.tokens for a in served):
        return "the engine returns no log-probabilities"
    return "nothing of the short prompts was cached, so there is nothing to compare"


def _cached(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Compare cached tokens at the edges of chunks with the formulae."""
    check = "cached_at_chunk_edges"
    warm = [a for a in _of(answers, ProbeRole.WARM) if a.cached_expected is not None]
    expected = ", ".join(f"{a.prompt_tokens}: {a.cached_expected}" for a in warm) or "whole chunks cached"
    if not warm:
        return _unavailable(check, expected, "chunk size and ranks of this stack are not known")
    if all(a.cached_tokens is None for a in (*warm, *_of(answers, ProbeRole.COLD))):
        return _unavailable(check, expected, "the replies carry no cached_tokens")
    observed = ", ".join(f"{a.prompt_tokens}: {a.cached_tokens or 0}" for a in warm)
    wrong = [a for a in warm if (a.cached_tokens or 0) != a.cached_expected]
    named = ", ".join(a.case for a in wrong)
    why = (
        f"{named}: chunk size, save_unfull_chunk or the rule for the last token differ, or the engine's own prefix "
        "cache answered, which knows no tags (--no-enable-prefix-caching)"
    )
    detail = why if wrong else ""
    return _check(check, Status.BROKEN if wrong else Status.HELD, expected, observed, detail)


def _tenants(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Require that a prompt stored under one tag is not found under another."""
    check, expected = "tenants_share_nothing", "0 cached tokens under another tag"
    found = next(iter(_of(answers, ProbeRole.OTHER_TENANT)), None)
    if found is None:
        return _unavailable(check, expected, "requests to this stack carry no tag (lmcache.tag.*)")
    warm = _warm_document(answers)
    if not warm:
        return _unavailable(check, expected, "the document was not cached under its own tag either")
    held = not found.cached_tokens
    why = (
        "one tenant is served what another one stored: the tag does not reach the keys, or the engine's own prefix "
        "cache answered, which knows no tags (--no-enable-prefix-caching)"
    )
    detail = "" if held else why
    observed = f"{found.cached_tokens or 0} cached tokens ({warm} under its own)"
    return _check(check, Status.HELD if held else Status.BROKEN, expected, observed, detail)


def _salt(answers: Sequence[ProbeAnswer]) -> Evidence:
    """Report what `cache_salt` isolates here; LMCacheConnectorV1's keys do not hold it."""
    check, expected = "cache_salt", "reported, not judged"
    found = next(iter(_of(answers, ProbeRole.SALTED)), None)
    warm = _warm_document(answers)
    if found is None or not warm:
        return _unavailable(check, expected, "no document was cached, or the request with a salt was refused")
    if not found.cached_tokens:
        return _check(check, Status.HELD, expected, "a prompt with another cache_salt finds nothing")
    detail = "cache_salt isolates the engine's own prefix cache only; use lmcache.tag.<name> (LMCache#2878)"
    said = f"{found.cached_tokens} of {warm} cached tokens are served across cache_salt"
    return _check(check, Status.HELD, expected, said, detail)


def _warm_document(answers: Sequence[ProbeAnswer]) -> int:
    return next((a.cached_tokens or 0 for a in _of(answers, ProbeRole.WARM) if a.case == "document"), 0)
