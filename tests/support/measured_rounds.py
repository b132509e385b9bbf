"""Runs rounds against servers of a test and keeps what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mooncake.load.round import run_round
from pytest_mooncake.load.spec import Api, RoundResult, RoundSpec
from pytest_mooncake.plan.models import Timeouts
from pytest_mooncake.records import Engine, Kind, Phase, PlannedRequest, RequestRecord

PROMPT_TOKENS = 5


def planned(
    count: int,
    *,
    output_tokens: int = 4,
    prompt: tuple[int, ...] | str = tuple(range(PROMPT_TOKENS)),
    offsets: Sequence[int] | None = None,
    engines: int = 1,
    prompt_tokens: int | None = PROMPT_TOKENS,
) -> tuple[PlannedRequest, ...]:
    """`count` equal requests, for `engines` engines in turn."""
    return tuple(
        PlannedRequest(
            index=index,
            engine=index % engines,
            prompt=prompt,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            offset_ns=offsets[index] if offsets else None,
        )
        for index in range(count)
    )


def spec_for(
    *urls: str,
    requests: Sequence[PlannedRequest],
    concurrency: int | None = 2,
    timeouts: Timeouts | None = None,
    api: Api = "completions",
    headers: Mapping[str, str] | None = None,
    **others: Any,
) -> RoundSpec:
    """A round against `urls`; limits are generous unless given."""
    return RoundSpec(
        round=7,
        kind=Kind.COLD,
        phase=Phase.CHAIN,
        requests=requests,
        concurrency=concurrency,
        timeouts=timeouts or Timeouts(first_token_s=20, between_chunks_s=20, request_s=30),
        engines=tuple(Engine(url=url) for url in urls),
        model="faulty-model",
        headers=headers or {},
        api=api,
        **others,
    )


async def measure(spec: RoundSpec, **options: Any) -> tuple[list[RequestRecord], RoundResult]:
    """Run a round; records come in order of completion."""
    records: list[RequestRecord] = []
    result = await run_round(spec, on_record=records.append, **options)
    return records, result


async def only_record(spec: RoundSpec, **options: Any) -> RequestRecord:
    """The record of a round of one request."""
    records, _ = await measure(spec, **options)
    (record,) = records
    return record
