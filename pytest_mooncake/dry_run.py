"""The plan in words: what would start, be sent, be stored, and how many rounds it takes; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.plan.models import Plan, StackPlan, Target


def plan_lines(plan: Plan) -> Iterator[str]:
    """The lines that `--mooncake-dry-run` prints."""
    work = plan.workload
    yield "plan (nothing is started or sent)"
    yield f"  stack      {_stack(plan.stack)}"
    yield (
        f"  workload   {work.name}: {work.requests} requests of {work.prompt_tokens:,} prompt tokens and "
        f"{work.output_tokens} output tokens, {work.concurrency} in flight, seed {work.seed}"
    )
    yield f"  rounds     {_rounds(plan)}"
    per_round = work.requests * work.prompt_tokens
    yield f"  tokens     {per_round:,} prompt tokens a round"
    yield f"  stores     {_stored(plan)}"
    yield "  clears     nothing: cold rounds are cold by a fresh nonce in every prompt"
    yield from (f"  claim      {_claim(claim)}" for claim in plan.targets.claims)
    yield f"  evidence   at least '{plan.evidence}' counts"


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
    return (
        f"start 1 Mooncake master, {stack.store.nodes} storage nodes, {engines} "
        f"(connector {stack.connector.kind}, chunk {stack.connector.chunk_tokens}) on this machine"
    )


def _rounds(plan: Plan) -> str:
    if plan.quick:
        return "1 cold, 1 warm (quick: described, not judged)"
    least, most = plan.looks[0], plan.looks[-1]
    looks = ", ".join(map(str, plan.looks))
    return (
        f"1 left out, then cold and warm in turn: {2 * least + 1} to {2 * most + 1} rounds; looks after {looks} trials"
    )


def _stored(plan: Plan) -> str:
    model = plan.stack.model
    if plan.stack.kind == "attached":
        return "every cold round's KV (its size is told once the model's geometry is known)"
    per_token = 2 * model.layers * model.kv_heads * model.head_dim * 2
    chunk = plan.stack.connector.chunk_tokens
    whole = plan.workload.prompt_tokens // chunk * chunk
    total = plan.workload.requests * whole * per_token
    capacity = plan.stack.store.nodes * plan.stack.store.segment_bytes
    return f"{total / 1e6:,.0f} MB of KV a cold round ({per_token:,} B a token), into {capacity / 1e9:.1f} GB of store"
