"""How a law is written down as a finding, and the quantities several laws share."""

from __future__ import annotations

from pytest_mooncake.analysis.figures import Figures, RoundFigures
from pytest_mooncake.analysis.percent import percent
from pytest_mooncake.records import AuditFinding

HELD, WARNING, BROKEN, NOT_APPLICABLE = "held", "warning", "broken", "not_applicable"


def finding(law: str, status: str, left: float | None, right: float | None, detail: str) -> AuditFinding:
    """A finding, positionally."""
    return AuditFinding(law=law, status=status, left=left, right=right, detail=detail)


def missing(law: str, needs: str) -> AuditFinding:
    """A law whose inputs are absent."""
    return finding(law, NOT_APPLICABLE, None, None, needs)


def at_most(
    law: str, left: float, right: float, detail: str, *, cause: str, slack: float = 0.0, warn_above: float | None = None
) -> AuditFinding:
    """Left ≤ right·(1 + slack), with a warning from `warn_above`·right on."""
    if left > right * (1 + slack):
        over = f"{percent(left / right - 1)} too much" if right else "nothing allowed"
        return finding(law, BROKEN, left, right, f"{detail}: {over}; usual cause: {cause}")
    if warn_above is not None and left > warn_above * right:
        return finding(law, WARNING, left, right, f"{detail}: close to the bound")
    return finding(law, HELD, left, right, detail)


def at_least(law: str, left: float, right: float, detail: str, *, cause: str) -> AuditFinding:
    """Left ≥ right."""
    if left < right:
        return finding(
            law, BROKEN, left, right, f"{detail}: {percent(1 - left / right)} too little; usual cause: {cause}"
        )
    return finding(law, HELD, left, right, detail)


def close_to(
    law: str, left: float, right: float, detail: str, *, cause: str, slack: float, broken: float | None
) -> AuditFinding:
    """Left ≈ right within `slack`; beyond it a warning, beyond `broken` (if the law can be broken) broken."""
    larger = max(abs(left), abs(right))
    off = abs(left - right) / larger if larger else 0.0
    if off <= slack:
        return finding(law, HELD, left, right, detail)
    status = BROKEN if broken is not None and off > broken else WARNING
    return finding(law, status, left, right, f"{detail}: {percent(off, 1)} apart; usual cause: {cause}")


def e2e_mean_ms(figures: Figures, one: RoundFigures) -> float | None:
    """Mean latency: as given, else TTFT + (output tokens - 1) × TPOT."""
    if one.e2e_ms.mean is not None:
        return one.e2e_ms.mean
    if one.ttft_ms.mean is None or one.tpot_ms.mean is None or not figures.output_tokens:
        return None
    return one.ttft_ms.mean + (figures.output_tokens - 1) * one.tpot_ms.mean


def in_flight(figures: Figures, one: RoundFigures) -> float | None:
    """Mean number of requests in flight by Little's law."""
    latency_ms = e2e_mean_ms(figures, one)
    if latency_ms is None or one.request_throughput is None:
        return None
    return one.request_throughput * latency_ms / 1e3


def flop_of_prompt(figures: Figures) -> tuple[float | None, float | None]:
    """FLOP of one cold prefill without attention, and those of attention; `None` where unknown.

    Only of the tokens that were computed: a scenario's cold rounds may reuse what they stored themselves.
    """
    if not figures.prompt_tokens:
        return None, None
    share, model = _computed_share(figures.cold), figures.model
    flop, attention = model.prefill_flop(figures.prompt_tokens), model.attention_flop(figures.prompt_tokens)
    return (None if flop is None else flop * share), (None if attention is None else attention * share)


def _computed_share(one: RoundFigures) -> float:
    return 1 - one.cached_tokens / one.prompt_tokens if one.cached_tokens and one.prompt_tokens else 1.0
