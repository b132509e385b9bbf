"""Planned reuse against the hits that a simulated engine reports, sent by the measuring client itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pytest_mooncake.load.round import RoundSpec, run_round
from pytest_mooncake.load.spec import Api
from pytest_mooncake.plan.models import StackPlan, Timeouts, TraceSpec, WorkloadPlan
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.records import Engine, Kind, KVGeometry, Phase, RequestRecord, StackView
from pytest_mooncake.stack.simulated.serving import serving
from pytest_mooncake.workload.build import build
from pytest_mooncake.workload.prompts import Workload

ROOT = Path(__file__).parents[2]
TRACE = ROOT / "tests" / "data" / "traces" / "conversation_trace.jsonl.gz"
FAST = {
    "prefill_us_per_token": 0.5,
    "cached_us_per_token": 0.01,
    "decode_ms_per_token": 0.5,
    "base_ms": 0.1,
    "store_delay_ms": 0.0,
}


@asynccontextmanager
async def stack(**engine: Any) -> AsyncIterator[tuple[StackView, aiohttp.ClientSession]]:
    plan = StackPlan.model_validate({"name": "s", "kind": "simulated", "simulated": FAST, "engine": engine})
    async with serving(plan) as listening, aiohttp.ClientSession() as http:
        yield (
            StackView(
                name="s",
                provisioned=True,
                simulated=True,
                engines=tuple(Engine(url=url) for url in listening.engine_urls),
                model="simulated",
                max_model_len=plan.engine.max_model_len,
                kv=KVGeometry(bytes_per_token=1),
            ),
            http,
        )


async def sent(
    view: StackView, work: Workload, kind: Kind, *, concurrency: int | None = 1, api: Api = "completions"
) -> list[RequestRecord]:
    records: list[RequestRecord] = []
    spec = RoundSpec(
        round=0,
        kind=kind,
        phase=Phase.CHAIN,
        requests=work.requests("0", engines=len(view.engines), shift=int(kind is Kind.WARM)),
        concurrency=concurrency,
        timeouts=Timeouts(),
        engines=view.engines,
        model=view.model,
        api=api,
    )
    await run_round(spec, on_record=records.append)
    assert [record.error for record in records] == [None] * len(work.layout)
    return sorted(records, key=lambda record: record.index)


def cached(records: list[RequestRecord]) -> tuple[int | None, ...]:
    return tuple(record.cached_tokens for record in records)


@pytest.mark.parametrize("name", ["kb-qa", "customer-chat", "code-assistant"])
async def test_reuse_asked_is_reuse_planned_is_reuse_observed(name: str) -> None:
    plan = load(ROOT / "fixtures" / "workloads" / f"{name}.yaml", WorkloadPlan, name=name)
    asked = plan.traffic[0].reuse
    plan = plan.model_copy(update={"requests": 24, "prompt_tokens": 3000, "output_tokens": 4})
    async with stack(count=2) as (view, http):
        work = await build(plan, view, http=http, run_id="r")
        cold, warm = [await sent(view, work, kind) for kind in (Kind.COLD, Kind.WARM)]
    reuse = work.reuse(256)
    assert reuse.cold_ratio == pytest.approx(asked, abs=24 / int(reuse.chunks.sum()))
    assert cached(cold) == reuse.cold_cached_tokens
    assert cached(warm) == reuse.warm_cached_tokens
    assert [record.prompt_tokens for record in cold] == work.layout.prompt_tokens.tolist()


async def test_a_trace_is_replayed_on_its_schedule_and_hits_as_planned() -> None:
    window = TraceSpec(
        path=str(TRACE), start_s=600, duration_s=12, speed=8, max_prompt_tokens=6000, max_output_tokens=4
    )
    plan = WorkloadPlan(name="t", kind="trace", trace=window)
    async with stack(max_num_seqs=64) as (view, http):
        work = await build(plan, view, http=http, run_id="r")
        cold = await sent(view, work, Kind.COLD, concurrency=None)
        warm = await sent(view, work, Kind.WARM, concurrency=None)
    assert len(cold) > 30
    for records in (cold, warm):
        begin = records[0].intended_ns
        assert work.layout.offset_ns is not None
        assert [record.intended_ns - begin for record in records] == work.layout.offset_ns.tolist()
        assert all(record.sent_ns is not None and record.sent_ns >= record.intended_ns for record in records)
    assert cached(warm) == work.reuse(256).warm_cached_tokens
    # a cold request may overtake the one that would have stored its prefix, and then finds less, never more
    assert all((a or 0) <= b for a, b in zip(cached(cold), work.reuse(256).cold_cached_tokens, strict=True))


async def test_conversations_carry_the_engines_own_answers_and_reuse_what_was_planned() -> None:
    plan = load(ROOT / "fixtures" / "workloads" / "customer-chat.yaml", WorkloadPlan, name="customer-chat")
    kind = plan.traffic[0].model_copy(update={"reply": "real", "think_time_s": 0.0})
    changes = {"requests": 24, "prompt_tokens": 3000, "output_tokens": 4, "traffic": (kind,)}
    async with stack() as (view, http):
        work = await build(plan.model_copy(update=changes), view, http=http, run_id="r")
        planned = work.requests("0")
        made_up = [request.prompt for request in planned]
        cold = await sent(view, work, Kind.COLD, concurrency=4)
        spoken = [request.prompt for request in planned]
        warm = await sent(view, work, Kind.WARM, concurrency=4)
    later_turns = 24 - 24 // 8
    assert sum(a != b for a, b in zip(made_up, spoken, strict=True)) == later_turns
    assert [request.prompt for request in planned] == spoken
    assert cached(cold) == work.reuse(256).cold_cached_tokens
    assert cached(warm) == work.reuse(256).warm_cached_tokens


@pytest.mark.parametrize("name", ["kb-qa", "customer-chat", "code-assistant", "mixed"])
async def test_reuse_does_not_depend_on_how_many_requests_are_in_flight(name: str) -> None:
    plan = load(ROOT / "fixtures" / "workloads" / f"{name}.yaml", WorkloadPlan, name=name)
    kinds = tuple(kind.model_copy(update={"think_time_s": 0.0}) for kind in plan.traffic)
    plan = plan.model_copy(update={"requests": 40, "prompt_tokens": 3000, "output_tokens": 4, "traffic": kinds})
    async with stack(max_num_seqs=8) as (view, http):
        work = await build(plan, view, http=http, run_id="r")
        cold = await sent(view, work, Kind.COLD, concurrency=8)
    assert cached(cold) == work.reuse(256).cold_cached_tokens


@pytest.mark.full
async def test_five_minutes_of_the_conversation_trace_keep_their_schedule_time_scaled() -> None:
    part = TraceSpec(
        path=str(TRACE), start_s=600, duration_s=300, speed=15, max_prompt_tokens=4096, max_output_tokens=2
    )
    plan = WorkloadPlan(name="t", kind="trace", trace=part)
    async with stack(max_num_seqs=256) as (view, http):
        work = await build(plan, view, http=http, run_id="r")
        cold = await sent(view, work, Kind.COLD, concurrency=None)
        warm = await sent(view, work, Kind.WARM, concurrency=None)
    reuse, offsets = work.reuse(256), work.layout.offset_ns
    assert offsets is not None
    assert len(cold) == len(offsets) > 900
    for records in (cold, warm):
        assert [record.intended_ns - records[0].intended_ns for record in records] == offsets.tolist()
        delays_ns = [(record.sent_ns or 0) - record.intended_ns for record in records]
        assert min(delays_ns) >= 0
        # no drift: the last sends are no later than the first ones by more than a thousandth of the time in between
        half = len(delays_ns) // 2
        drift_ns = sum(delays_ns[half:]) / half - sum(delays_ns[:half]) / half
        assert abs(drift_ns) < int(offsets[-1]) / 1000
    assert cached(warm) == reuse.warm_cached_tokens
    assert all((a or 0) <= b for a, b in zip(cached(cold), reuse.cold_cached_tokens, strict=True))
    assert sum(a or 0 for a in cached(cold)) > 0.9 * sum(reuse.cold_cached_tokens)


async def test_a_trace_without_its_schedule_hits_exactly_as_planned_when_none_can_overtake() -> None:
    part = TraceSpec(
        path=str(TRACE), start_s=600, duration_s=15, schedule="none", max_prompt_tokens=4096, max_output_tokens=2
    )
    async with stack() as (view, http):
        work = await build(WorkloadPlan(name="t", kind="trace", trace=part), view, http=http, run_id="r")
        cold = await sent(view, work, Kind.COLD, concurrency=1)
    assert sum(work.reuse(256).cold_cached_tokens) > 0
    assert cached(cold) == work.reuse(256).cold_cached_tokens


@pytest.mark.parametrize("name", ["kb-qa", "customer-chat"])
async def test_chat_prompts_have_the_planned_length_inside_the_servers_template(name: str) -> None:
    plan = load(ROOT / "fixtures" / "workloads" / f"{name}.yaml", WorkloadPlan, name=name)
    kind = plan.traffic[0].model_copy(update={"think_time_s": 0.0})
    changes = {"requests": 24, "prompt_tokens": 3000, "output_tokens": 4, "traffic": (kind,)}
    async with stack() as (view, http):
        work = await build(plan.model_copy(update=changes), view, http=http, run_id="r", api="chat")
        cold, warm = [await sent(view, work, kind, concurrency=4, api="chat") for kind in (Kind.COLD, Kind.WARM)]
    assert work.overhead_tokens > 1
    assert [record.prompt_tokens for record in cold] == work.layout.prompt_tokens.tolist()
    reuse = work.reuse(256)
    assert cached(warm) == reuse.warm_cached_tokens
    # what the template puts behind a turn is not behind it in the next one: that may cost the last chunk
    assert all(0 <= b - (a or 0) <= 256 for a, b in zip(cached(cold), reuse.cold_cached_tokens, strict=True))
