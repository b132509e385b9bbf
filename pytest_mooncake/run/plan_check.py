"""What of a run can be known before anything is started: how its prompts are composed, and what cannot be had."""

from __future__ import annotations

from pytest_mooncake.analysis.evidence.expected.formulae import kv_bytes_per_token
from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.cache.store_budget import chunks_held
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.plan.models import Plan, StackPlan
from pytest_mooncake.records import KVGeometry, StackView
from pytest_mooncake.workload.build import CHUNK_TOKENS, layout_of, planned_chunk_tokens
from pytest_mooncake.workload.layouts.layout import Layout
from pytest_mooncake.workload.prompts import check_context
from pytest_mooncake.workload.reuse.planned_reuse import Reuse, planned_reuse
from pytest_mooncake.workload.reuse.steady_state import SteadyState, at_once, steady_state

__all__ = ["capacity_bytes", "check_plan", "geometry", "layout_of_plan", "misfit", "steady_of"]


def geometry(stack: StackPlan) -> KVGeometry | None:
    """How prompts become stored objects; None of a stack that was not started here and has not been asked yet."""
    if stack.kind == "attached":
        return None
    model = stack.model
    per_token = kv_bytes_per_token(model.layers, model.kv_heads, model.head_dim)
    return KVGeometry(bytes_per_token=per_token, chunk_tokens=stack.connector.chunk_tokens)


def capacity_bytes(stack: StackPlan) -> int:
    """What all segments of a store that is started here hold together."""
    return stack.store.nodes * stack.store.segment_bytes


def layout_of_plan(plan: Plan) -> Layout:
    """The workload as the stack would get it. What an attached one takes and how it stores is not known yet.

    Raises:
        WorkloadError: the reuse asked for cannot be had, or a request does not fit the model.
        PlanError: a trace is missing or malformed.
    """
    chunk_tokens = planned_chunk_tokens(plan.stack)
    context = None if plan.stack.kind == "attached" else plan.stack.engine.max_model_len
    layout = layout_of(plan.workload, max_model_len=context, chunk_tokens=chunk_tokens)
    if context is not None:
        check_context(plan.workload, layout, context)
    return layout


def steady_of(plan: Plan, layout: Layout, reuse: Reuse) -> SteadyState | None:
    """The steady state that the plan asks for; None where it asks for none, or only the running store tells its size.

    Raises:
        UsageError: the store would hold the whole working set.
    """
    kv = geometry(plan.stack)
    if not plan.steady or kv is None or plan.stack.store_url:
        return None
    planned = reuse.sums(in_order=plan.workload.in_flight_cap == 1)
    return steady_state(planned, layout, chunks_held(capacity_bytes(plan.stack), kv), in_flight=at_once(plan))


def misfit(plan: Plan, view: StackView) -> str | None:
    """Why a request of the workload, as it will be sent, does not fit the model; None where all do, or nobody tells.

    What is sent is looked at, not what was asked for: a trace is cut to the context, lengths may be spread, and the
    longest request decides. A workload that cannot be made at all fits none.
    """
    if view.max_model_len is None:
        return None
    chunk_tokens = chunk_tokens_of(view) or CHUNK_TOKENS
    try:
        layout = layout_of(plan.workload, max_model_len=view.max_model_len, chunk_tokens=chunk_tokens)
        check_context(plan.workload, layout, view.max_model_len)
    except MooncakeError as error:
        return str(error)
    return None


def check_plan(plan: Plan) -> None:
    """Refuse a workload that cannot be made, before a stack is started for it. An attached one starts in no time.

    Raises:
        MooncakeError: as `layout_of_plan` and `steady_of`.
    """
    if plan.stack.kind == "attached":
        return
    layout = layout_of_plan(plan)
    if plan.steady:
        steady_of(plan, layout, planned_reuse(layout, plan.stack.connector.chunk_tokens))
