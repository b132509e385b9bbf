from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.simulated.engine.metrics import PromptSplit
from pytest_mooncake.stack.simulated.engine.scheduler import Job, SimulatedEngine
from pytest_mooncake.stack.simulated.faults import Faults
from pytest_mooncake.stack.simulated.geometry import bytes_per_token, served_name
from pytest_mooncake.stack.simulated.store import SimulatedStore, StoreShape

FAST = {
    "prefill_us_per_token": 0.01,
    "cached_us_per_token": 0.001,
    "decode_ms_per_token": 0.01,
    "base_ms": 0.01,
    "store_delay_ms": 0.0,
}


def make_plan(**fields: Any) -> StackPlan:
    simulated = {**FAST, **fields.pop("simulated", {})}
    return StackPlan.model_validate({"name": "s", "kind": "simulated", "simulated": simulated, **fields})


def make_store(plan: StackPlan, faults: Faults) -> SimulatedStore:
    size = plan.connector.chunk_tokens * bytes_per_token(plan)
    shape = StoreShape(nodes=2, segment_bytes=1000 * size, object_bytes=size, lease_ttl_s=5.0)
    return SimulatedStore(shape, faults, lambda: 0.0)


@asynccontextmanager
async def running(
    plan: StackPlan | None = None, *, store: SimulatedStore | None = None, index: int = 0, **faults: Any
) -> AsyncIterator[tuple[SimulatedEngine, SimulatedStore]]:
    plan = plan or make_plan()
    store = store or make_store(plan, Faults(**faults))
    engine = SimulatedEngine(plan, store, Faults(**faults), index)
    worker = asyncio.create_task(engine.run())
    try:
        yield engine, store
    finally:
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker


def make_job(tokens: int = 1024, output: int = 3, first: int = 1, **fields: Any) -> Job:
    return Job(prompt=[first, *range(tokens - 1)], output=list(range(output)), finish_reason="length", **fields)


def split(job: Job) -> PromptSplit:
    assert job.split is not None
    return job.split


async def finish(engine: SimulatedEngine, *jobs: Job) -> None:
    for job in jobs:
        engine.submit(job)
    for job in jobs:
        async with asyncio.timeout(10):
            await job.tokens_beyond(len(job.output) - 1)
    await asyncio.sleep(0.005)  # the stores are due by then


def samples(engine: SimulatedEngine) -> dict[tuple[str, str | None], float]:
    families = text_string_to_metric_families(engine.exposition().decode())
    return {
        (sample.name.removeprefix("vllm:"), sample.labels.get("source") or sample.labels.get("finished_reason")): (
            sample.value
        )
        for family in families
        for sample in family.samples
    }


async def test_a_second_request_is_served_by_the_store_and_every_counter_says_so() -> None:
    async with running() as (engine, store):
        cold, warm = make_job(), make_job()
        await finish(engine, cold)
        assert len(store.keys) == 4
        await finish(engine, warm)
        assert (split(cold).cached_tokens, split(warm).cached_tokens) == (0, 1023)
        assert store.counters["mem_cache_hit_nums_"] == 4
        assert store.counters["master_batch_put_end_items_total"] == 4
        seen = samples(engine)
    assert seen["prompt_tokens_total", None] == 2048
    assert seen["prompt_tokens_by_source_total", "local_compute"] == 1025
    assert seen["prompt_tokens_by_source_total", "external_kv_transfer"] == 1023
    assert seen["prompt_tokens_by_source_total", "local_cache_hit"] == 0
    assert seen["external_prefix_cache_queries_total", None] == 2048
    assert seen["external_prefix_cache_hits_total", None] == 1023
    assert seen["prefix_cache_queries_total", None] == 0
    assert seen["generation_tokens_total", None] == 6
    assert seen["request_success_total", "length"] == 2
    assert seen["time_to_first_token_seconds_count", None] == 2
    assert seen["inter_token_latency_seconds_count", None] == 4
    assert seen["num_requests_running", None] == seen["num_requests_waiting", None] == 0
    assert seen["num_preemptions_total", None] == 0


async def test_engines_share_one_store() -> None:
    plan = make_plan()
    store = make_store(plan, Faults())
    async with running(plan, store=store) as (one, _), running(plan, store=store, index=1) as (other, _):
        await finish(one, make_job())
        job = make_job()
        await finish(other, job)
    assert split(job).external_tokens == 1023


async def test_cache_tags_separate_what_they_name() -> None:
    async with running() as (engine, _):
        await finish(engine, make_job(tags={"run": "1"}))
        other, same = make_job(tags={"run": "2"}), make_job(tags={"run": "1"})
        await finish(engine, other, same)
    assert (split(other).cached_tokens, split(same).cached_tokens) == (0, 1023)


async def test_a_request_that_skips_saving_leaves_nothing_behind() -> None:
    async with running() as (engine, store):
        await finish(engine, make_job(skip_save=True))
        assert store.keys == ()


async def test_without_a_connector_nothing_is_asked_or_stored() -> None:
    async with running(make_plan(connector={"kind": "none"})) as (engine, store):
        await finish(engine, make_job())
        job = make_job()
        await finish(engine, job)
        assert samples(engine)["external_prefix_cache_queries_total", None] == 0
    assert split(job).cached_tokens == 0
    assert store.keys == ()


@pytest.mark.parametrize("way", ["plan", "fault"])
async def test_a_local_prefix_cache_serves_blocks_and_leaves_the_store_all_but_unread(way: str) -> None:
    plan = make_plan(engine={"prefix_caching": way == "plan"})
    async with running(plan, local_hits=way == "fault") as (engine, store):
        await finish(engine, make_job())
        job = make_job()
        await finish(engine, job)
        seen = samples(engine)
    assert (split(job).local_tokens, split(job).external_tokens) == (896, 127)
    assert store.counters["mem_cache_hit_nums_"] == 1  # 4 chunks, of which 3 lie whole in the local hit
    assert seen["prefix_cache_queries_total", None] == 2048
    assert seen["prefix_cache_hits_total", None] == 896
    assert seen["prompt_tokens_by_source_total", "local_cache_hit"] == 896


async def test_the_local_cache_is_bounded() -> None:
    plan = make_plan(engine={"prefix_caching": True, "kv_space_gb": 1})
    engine = SimulatedEngine(plan, make_store(plan, Faults()), Faults())
    engine._local_blocks = 4
    for first in range(5):
        engine._local_hit([first, *range(511)])
    assert len(engine._local) == 4


async def test_warm_misses_never_store() -> None:
    async with running(warm_misses=True) as (engine, store):
        await finish(engine, make_job())
        assert store.counters["master_batch_put_start_items_total"] == 0


async def test_wrong_text_changes_only_what_hit() -> None:
    async with running(wrong_text=True) as (engine, _):
        cold, warm = make_job(), make_job()
        await finish(engine, cold)
        await finish(engine, warm)
    assert cold.output == [0, 1, 2]
    assert warm.output == [2, 1, 0]


async def test_a_single_token_needs_no_decoding() -> None:
    async with running() as (engine, _):
        await finish(engine, make_job(output=1))
        seen = samples(engine)
    assert seen["request_success_total", "length"] == 1
    assert seen["inter_token_latency_seconds_count", None] == 0


async def test_prefills_are_served_in_turn_and_the_queue_shows() -> None:
    plan = make_plan(simulated={"base_ms": 20.0})
    async with running(plan) as (engine, _):
        jobs = [make_job(first=first) for first in range(3)]
        for job in jobs:
            engine.submit(job)
        for _ in range(5):
            await asyncio.sleep(0)
        seen = samples(engine)
        for job in jobs:
            await job.tokens_beyond(2)
    assert (seen["num_requests_running", None], seen["num_requests_waiting", None]) == (1, 2)
    starts = [job.prefill_started_s for job in jobs]
    assert starts == sorted(starts)
    assert all(later >= job.stamps_s[0] for job, later in zip(jobs, starts[1:], strict=False))


async def test_no_more_requests_run_than_the_engine_takes() -> None:
    plan = make_plan(engine={"max_num_seqs": 1}, simulated={"decode_ms_per_token": 2.0})
    async with running(plan) as (engine, _):
        first, second = make_job(first=1), make_job(first=2)
        await finish(engine, first, second)
    assert second.prefill_started_s >= first.stamps_s[-1]


async def test_an_aborted_request_is_counted_and_makes_room() -> None:
    plan = make_plan(engine={"max_num_seqs": 1}, simulated={"decode_ms_per_token": 50.0})
    async with running(plan) as (engine, _):
        decoding, waiting, last = make_job(output=1000, first=1), make_job(first=2), make_job(first=3, output=1)
        for job in (decoding, waiting, last):
            engine.submit(job)
        await decoding.tokens_beyond(0)
        engine.abort(decoding)
        engine.abort(decoding)
        engine.abort(waiting)
        await finish(engine)
        await last.tokens_beyond(0)
        engine.abort(last)
        seen = samples(engine)
    assert seen["request_success_total", "abort"] == 2
    assert seen["request_success_total", "length"] == 1
    assert waiting.ready == 0


async def test_a_request_aborted_in_its_prefill_gets_no_token() -> None:
    async with running(make_plan(simulated={"base_ms": 20.0})) as (engine, _):
        job = make_job()
        engine.submit(job)
        for _ in range(5):
            await asyncio.sleep(0)
        engine.abort(job)
        await finish(engine, make_job(first=2))
    assert job.ready == 0


async def test_decoding_that_fell_far_behind_does_not_rush() -> None:
    assert await SimulatedEngine._until(5.0) > 5.0


def test_noise_is_seeded() -> None:
    plan = make_plan(simulated={"noise": 0.5})

    def times(index: int) -> list[float]:
        engine = SimulatedEngine(plan, make_store(plan, Faults()), Faults(), index)
        where, _ = engine._look_up(make_job())
        return [engine._prefill_seconds(where) for _ in range(3)]

    assert times(0) == times(0)
    assert times(0) != times(1)


def test_the_geometry_is_that_of_the_plans_model() -> None:
    plan = make_plan()
    assert bytes_per_token(plan) == 512  # 2 (K, V) x 2 layers x 1 KV head x 64 x 2 bytes
    assert served_name(plan) == "simulated"
    assert served_name(make_plan(model_name="m")) == "m"
