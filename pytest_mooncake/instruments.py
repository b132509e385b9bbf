"""The world as the protocol sees it: prompts, client, counters and settle times of a running stack."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pytest_mooncake.cache.quiesce import quiesce
from pytest_mooncake.cache.scrape import scrape, sources_of
from pytest_mooncake.experiment import Instruments, Step
from pytest_mooncake.judging import judge
from pytest_mooncake.load.round import RoundResult, RoundSpec, run_round
from pytest_mooncake.records import Kind, PlannedRequest, RequestRecord, Scrape, Settle, StackView
from pytest_mooncake.workload.nonce import round_nonce
from pytest_mooncake.workload.registry import build

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan

QUIESCE_LIMIT_S = 30.0


@contextlib.asynccontextmanager
async def instruments_for(plan: Plan, view: StackView, environ: Mapping[str, str]) -> AsyncIterator[Instruments]:
    """Instruments for one run; connections are closed at the end.

    Args:
        plan: what will be run.
        view: the stack that runs.
        environ: where the API key is, by the name that the plan gives.

    Raises:
        WorkloadError: the prompts cannot be made for this model.
    """
    import aiohttp

    headers = auth_headers(plan, environ)
    async with aiohttp.ClientSession(trust_env=False) as http:
        workload = await build(plan.workload, view, http=http, headers=headers, run_id=plan.run_id)
        read = partial(scrape, http, sources_of(view))

        def requests(nonce: str, kind: Kind) -> Sequence[PlannedRequest]:
            return workload.requests(nonce, engines=len(view.engines), shift=int(kind is Kind.WARM))

        yield Instruments(
            requests=requests,
            send=partial(_send, plan, view, headers),
            scrape=read,
            settle=partial(_settle, plan, view, read),
            judge=partial(judge, plan, view),
            nonce=partial(round_nonce, plan.run_id),
        )


def auth_headers(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    """The bearer header, if the plan names a variable for the key; never recorded or printed."""
    variable = plan.stack.api_key_env
    return {"Authorization": f"Bearer {environ[variable]}"} if variable else {}


async def _send(
    plan: Plan,
    view: StackView,
    headers: Mapping[str, str],
    step: Step,
    requests: Sequence[PlannedRequest],
    on_record: Callable[[RequestRecord], None],
) -> RoundResult:
    return await run_round(
        RoundSpec(
            round=step.round,
            kind=step.kind,
            phase=step.phase,
            requests=requests,
            concurrency=plan.workload.concurrency,
            timeouts=plan.timeouts,
            engines=view.engines,
            model=view.model,
            headers=headers,
        ),
        on_record=on_record,
    )


async def _settle(
    plan: Plan,
    view: StackView,
    read: Callable[[], Awaitable[tuple[Scrape, ...]]],
    step: Step,
    before: tuple[Scrape, ...],
) -> Settle:
    return await quiesce(
        read,
        expect_keys=_keys_to_come(plan, view, step),
        expect_requests=plan.workload.requests,
        before=before,
        deadline_s=QUIESCE_LIMIT_S,
    )


def _keys_to_come(plan: Plan, view: StackView, step: Step) -> int | None:
    """Objects that a round adds to the store: none when warm, else one a chunk and rank; None where unknown."""
    if step.kind is Kind.WARM:
        return 0
    if view.kv is None:
        return None
    return plan.workload.requests * (plan.workload.prompt_tokens // view.kv.chunk_tokens) * view.kv.ranks
