"""The plan in words: what would start, be sent, be stored, and how many rounds it takes; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.analysis.audit.store_need import HOW_TO_TELL, told_bytes_per_token
from pytest_mooncake.analysis.outlook.power_lines import Past, power_lines
from pytest_mooncake.cache.store_budget import BUDGET_SHARE, StoreCost, check_budget, store_cost
from pytest_mooncake.plan.models import Plan, StackPlan, Target
from pytest_mooncake.plan.permissions import has_own_store
from pytest_mooncake.records import KVGeometry
from pytest_mooncake.run.plan_check import capacity_bytes, geometry, layout_of_plan, steady_of
from pytest_mooncake.workload.build import planned_chunk_tokens
from pytest_mooncake.workload.describe import in_brief, reuse_in_brief
from pytest_mooncake.workload.reuse.planned_reuse import distinct_tokens, planned_reuse


def plan_lines(plan: Plan, past: Past | None = None) -> Iterator[str]:
    """The lines that `--mooncake-dry-run` prints; `past` is an earlier run of the same kind, to forecast from.

    Raises:
        MooncakeError: the workload cannot be made, or would store more than it may; the lines before that are whole.
    """
    yield "plan (nothing is started or sent)"
    yield f"  stack      {_stack(plan.stack)}"
    if plan.stack.metrics_urls:
        yield f"  counters   {', '.join(plan.stack.metrics_urls)}"
    layout = layout_of_plan(plan)
    reuse = planned_reuse(layout, planned_chunk_tokens(plan.stack))
    steady = steady_of(plan, layout, reuse)
    yield f"  workload   {in_brief(plan.workload, layout)}"
    yield f"  rounds     {_rounds(plan)}"
    if plan.cold_tax:
        yield "  cold-tax   4 more cold rounds on an engine without the connector, after the run"
    if plan.versus is not None:
        yield f"  versus     {plan.versus.urls[0]} and the endpoint in turns, after the run"
    yield f"  tokens     {int(layout.prompt_tokens.sum()):,} prompt tokens a round"
    if reuse.cold_hits.any():
        yield f"  reuse      {reuse_in_brief(plan.workload, reuse)}"
    yield from (f"  note       {note}" for note in (*layout.notes, *([steady.sentence()] if steady else [])))
    kv = geometry(plan.stack)
    cost = store_cost(reuse.distinct_chunks, kv) if kv else None
    each = told_bytes_per_token(plan)
    told = None if each is None else each * distinct_tokens(layout)
    yield f"  stores     {_stored(plan, kv, cost, told)}"
    if not plan.steady:
        yield f"  budget     {_budget(plan, cost.bytes_per_round if cost else told)}"
    yield f"  settles    {_settles(plan)}"
    yield f"  clears     {_clears(plan)}"
    yield from (f"  claim      {_claim(claim)}" for claim in plan.targets.claims)
    yield from (f"  threshold  {one.claim_id}" for one in plan.targets.thresholds)
    yield f"  evidence   at least '{plan.evidence}' counts"
    if not plan.quick:
        yield from (f"  {label:<10} {text}" for label, text in power_lines(plan.targets, plan.looks, past))


def _claim(claim: Target) -> str:
    role = "gates" if claim.gating else "is reported"
    if claim.bound is not None or claim.ratio is None:
        asked = f" {claim.stated}" if claim.is_asked else ", nothing is asked of it,"
        return f"{claim.title}{asked} {role}"
    sign = {"lower": "<=", "higher": ">=", "equivalent": "within"}[claim.direction]
    return f"{claim.title} {claim.stated}: warm/cold {sign} {claim.ratio:g} {role}"


def _stack(stack: StackPlan) -> str:
    if stack.kind == "attached":
        return f"attach to {', '.join(stack.urls)}"
    if stack.kind == "simulated":
        return "SIMULATED engine and store (no model runs)"
    engines = f"{stack.engine.count} vLLM engine{'s' if stack.engine.count > 1 else ''}"
    if stack.store_url:
        return f"start {engines} (connector {stack.connector.kind}) here, against the running store {stack.store_url}"
    return (
        f"start 1 Mooncake master, {stack.store.nodes} storage nodes, {engines} "
        f"(connector {stack.connector.kind}, chunk {stack.connector.chunk_tokens}) on this machine"
    )


def _rounds(plan: Plan) -> str:
    if plan.quick:
        return "1 cold, 1 warm (quick: described, not judged)"
    least, most = plan.looks[0], plan.looks[-1]
    looks = ", ".join(map(str, plan.looks))
    chain = (
        f"1 left out, then cold and warm in turn: {2 * least + 1} to {2 * most + 1} rounds; looks after {looks} trials"
    )
    if plan.trials_per_start is None:
        return chain
    anew = f"the stack is started anew after every {plan.trials_per_start} trials, with a round left out each time"
    return f"{chain}; {anew}"


def _stored(plan: Plan, kv: KVGeometry | None, cost: StoreCost | None, told: int | None) -> str:
    """What a cold round stores: as the stack's own geometry says, else at most what the user's hardware file does."""
    if kv is None or cost is None:
        if told is None:
            return f"every cold round's KV, how many bytes is not known: {HOW_TO_TELL}"
        return f"at most {told / 1e6:,.0f} MB of KV a cold round, as --mooncake-hardware tells the model"
    return (
        f"{cost.bytes_per_round / 1e6:,.0f} MB of KV a cold round, {cost.objects:,} objects "
        f"({kv.bytes_per_token:,} B a token), into {_size(plan.stack)}; "
        + ("which evicts" if plan.steady else "removed again once its warm round is over")
    )


def _size(stack: StackPlan) -> str:
    return "the running store" if stack.store_url else f"{capacity_bytes(stack) / 1e9:.1f} GB of store"


def _budget(plan: Plan, need_bytes: int | None) -> str:
    """What the run may have in the store at a time.

    Raises:
        UsageError: it would have more.
    """
    own = has_own_store(plan.stack)
    if plan.store_budget_bytes is None and not own:
        return f"{BUDGET_SHARE:.0%} of what is free in the store, where its master tells (--mooncake-store-budget)"
    return check_budget(
        need_bytes,
        free_bytes=capacity_bytes(plan.stack) if own else None,
        budget_bytes=plan.store_budget_bytes,
        provisioned=own,
    )


def _settles(plan: Plan) -> str:
    if plan.settle_fixed_s is not None:
        return f"{plan.settle_fixed_s:g} s by the clock after a cold round"
    return "after a cold round until the store's counters stand still, at most 30 s"


def _clears(plan: Plan) -> str:
    if plan.allow_clear == "none":
        return "nothing: cold rounds are cold by a fresh nonce in every prompt"
    whose = "whosever keys it holds" if plan.allow_clear == "everything" else "if it holds no keys of somebody else"
    nearer = "the engines' prefix caches and LMCache's CPU memory (where its internal API is on)"
    return f"the store before the first round, {whose}; {nearer} before every warm round"
