"""The business case of a report: which gain carries it, and what of the stack it takes for granted."""

from __future__ import annotations

from pytest_mooncake.analysis.cold_tax import ColdTax
from pytest_mooncake.analysis.economics import Economics, economics
from pytest_mooncake.plan.models import EconomicsPlan, Plan
from pytest_mooncake.records import Judgement, StackView

CAPACITY_CLAIMS = ("goodput", "request_throughput")
"""Claims whose ratio says how many servers are needed, the better one first."""


def case_of_run(
    plan: Plan,
    view: StackView,
    judgement: Judgement,
    costs: EconomicsPlan,
    tax: ColdTax | None,
    prompt_tokens: int | None,
) -> Economics | None:
    """The business case of a run; the store that was started for it stands for one whose size was not given.

    `prompt_tokens` is the mean length of what was sent: a scenario's or a trace's is not that of its plan.
    """
    each = view.kv.bytes_per_token * prompt_tokens if view.kv and prompt_tokens else None
    if costs.store_bytes is None and plan.stack.kind == "local":
        costs = costs.model_copy(update={"store_bytes": plan.stack.store.nodes * plan.stack.store.segment_bytes})
    gain = tax.throughput_gain if tax else None
    return business_case(costs, judgement, each, without_cache=(gain.ratio, gain.interval) if gain else None)


def business_case(
    plan: EconomicsPlan,
    judgement: Judgement,
    document_bytes: int | None = None,
    *,
    without_cache: tuple[float, tuple[float, float] | None] | None = None,
) -> Economics | None:
    """The business case of the measured capacity; `None` when no throughput was measured.

    `without_cache` is the gain against an engine without a connector, where it was measured; it then carries the case,
    unless it is the larger one.
    """
    by_id = {claim.id: claim for claim in judgement.claims}
    for name in CAPACITY_CLAIMS:
        claim = by_id.get(name)
        if claim and claim.estimate_ratio and claim.estimate_ratio > 0:
            ci = claim.ci_ratio if claim.ci_ratio and claim.ci_ratio[0] > 0 else None
            # storing makes no round faster: a larger gain over an engine that does not store is the machine's drift
            usable = without_cache if without_cache and without_cache[0] <= claim.estimate_ratio else None
            return economics(plan, claim.estimate_ratio, ci, without_cache=usable, document_bytes=document_bytes)
    return None
