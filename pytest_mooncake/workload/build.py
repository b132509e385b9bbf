"""From a workload plan to a workload, by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.plan.models import StackPlan, WorkloadPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.workload.layouts.layout import Layout
from pytest_mooncake.workload.layouts.long_document import document_layout
from pytest_mooncake.workload.layouts.scenario import scenario_layout
from pytest_mooncake.workload.layouts.trace import trace_layout
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.tokens.pools import Pool, WordPool
from pytest_mooncake.workload.tokens.server_tokenizer import ServerTokenizer, fetch_token_pool, fetch_word_pool
from pytest_mooncake.workload.tokens.user_text import fetch_own_text, read_texts

if TYPE_CHECKING:
    import aiohttp

CHUNK_TOKENS = 256
"""LMCache's default, where the stack does not say."""


def planned_chunk_tokens(stack: StackPlan) -> int:
    """Tokens in a chunk as far as the plan tells: of an attached stack what was given for it, else the usual size."""
    if stack.kind == "attached":
        return stack.chunk_tokens or CHUNK_TOKENS
    return stack.connector.chunk_tokens


async def build(
    plan: WorkloadPlan,
    view: StackView,
    *,
    http: aiohttp.ClientSession,
    headers: Mapping[str, str] | None = None,
    run_id: str = "",
    api: Literal["completions", "chat"] = "completions",
    base: Path | None = None,
) -> Workload:
    """The workload of `plan` for the model that `view` serves; asks the first engine's `/tokenize` for tokens.

    Args:
        plan: what was asked for.
        view: the running stack.
        http: an open session.
        headers: sent with every question; may hold secrets.
        run_id: goes into every nonce.
        api: `completions` sends token ids where it can, `chat` text.
        base: directory that relative paths in the plan start from.

    Raises:
        EndpointError: the engine cannot be reached or refuses us.
        WorkloadError: the workload cannot be made for this model.
        PlanError: a trace or a text file is missing or malformed.
    """
    tokenizer = ServerTokenizer(
        session=http, url=view.engines[0].url, model=view.model, headers=headers, chat=api == "chat"
    )
    pool = await fetch_pool(tokenizer)
    known = [limit for limit in (view.max_model_len, pool.max_model_len) if limit is not None]
    chunk_tokens = chunk_tokens_of(view) or CHUNK_TOKENS
    layout = layout_of(plan, max_model_len=min(known, default=None), chunk_tokens=chunk_tokens, base=base)
    own_text = None
    if plan.documents is not None:
        texts = read_texts(plan.documents, base or Path())
        own_text = await fetch_own_text(tokenizer, pool, texts, most_tokens=int(layout.prompt_tokens.max()))
    return Workload(plan, layout, pool, run_id=run_id, own_text=own_text, max_model_len=view.max_model_len)


async def fetch_pool(tokenizer: ServerTokenizer) -> Pool:
    """The best that the server lets prompts be made of, see `workload.tokens.pools`.

    Raises:
        EndpointError: the server cannot be reached or refuses us.
        WorkloadError: the vocabulary is too small.
    """
    pool = await (fetch_word_pool(tokenizer) if tokenizer.chat else fetch_token_pool(tokenizer))
    return pool or WordPool()


def layout_of(
    plan: WorkloadPlan, *, max_model_len: int | None = None, chunk_tokens: int = CHUNK_TOKENS, base: Path | None = None
) -> Layout:
    """How the prompts of `plan` are composed, without making any.

    Args:
        plan: what was asked for.
        max_model_len: context of the model; traces are clipped to it.
        chunk_tokens: tokens in a cache chunk: the unit in which a scenario's reuse is planned.
        base: directory that relative paths in the plan start from.

    Raises:
        WorkloadError: the reuse asked for cannot be had from so many requests.
        PlanError: a trace holds a malformed line.
    """
    if plan.trace is not None:
        return trace_layout(plan.trace, requests=plan.requests, max_model_len=max_model_len, base=base)
    if plan.traffic:
        return scenario_layout(plan, chunk_tokens=chunk_tokens)
    return document_layout(plan)
