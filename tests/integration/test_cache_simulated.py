"""Scrape, quiesce and evidence together against simulated engines and store, over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import pytest

from pytest_mooncake.analysis.evidence.facts import facts_of
from pytest_mooncake.analysis.evidence.round_evidence import judge_rung, round_evidence
from pytest_mooncake.cache.quiesce import quiesce
from pytest_mooncake.cache.scrape import scrape, sources_of
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import (
    Engine,
    Evidence,
    Fault,
    Kind,
    KVGeometry,
    PlannedRequest,
    Round,
    Rung,
    StackView,
    Status,
    Store,
)
from pytest_mooncake.stack.simulated.geometry import bytes_per_token
from pytest_mooncake.stack.simulated.serving import serving
from tests.support.measured_rounds import measure, spec_for

COST = {
    "prefill_us_per_token": 20,
    "cached_us_per_token": 0.5,
    "decode_ms_per_token": 0.1,
    "base_ms": 0.1,
    "store_delay_ms": 20,
}
HASTE = 10
"""Quiesce lives this much faster than the simulated store, so that its pauses cost nothing here."""
LENGTHS = (1024, 1000, 257, 512)
KEYS = 4 + 3 + 1 + 2


@dataclass
class Bench:
    """A simulated stack, and rounds of fresh prompts on it."""

    view: StackView
    session: aiohttp.ClientSession
    rounds: int = 0
    nonce: int = 3

    async def cold(self, *, deadline_s: float = 30.0) -> Round:
        self.nonce += 1
        return await self._round(Kind.COLD, deadline_s)

    async def warm(self) -> Round:
        return await self._round(Kind.WARM, 30.0)

    async def _round(self, kind: Kind, deadline_s: float) -> Round:
        sources = sources_of(self.view)
        before = await scrape(self.session, sources)
        spec = spec_for(*(engine.url for engine in self.view.engines), requests=self._requests(kind))
        records, sent = await measure(replace(spec, kind=kind, model=self.view.model))
        settle = await quiesce(
            lambda: scrape(self.session, sources),
            expect_keys=KEYS if kind is Kind.COLD else 0,
            expect_requests=len(LENGTHS),
            before=before,
            deadline_s=deadline_s,
            sleep=lambda seconds: asyncio.sleep(seconds / HASTE),
            clock=lambda: time.monotonic() * HASTE,
        )
        self.rounds += 1
        return Round(
            round=self.rounds,
            kind=kind,
            phase=spec.phase,
            segment=1,
            position=self.rounds,
            nonce=str(self.nonce),
            started_ns=sent.started_ns,
            ended_ns=sent.ended_ns,
            requests=tuple(sorted(records, key=lambda record: record.index)),
            before=before,
            after=await scrape(self.session, sources),
            settle=settle,
        )

    def _requests(self, kind: Kind) -> tuple[PlannedRequest, ...]:
        engines = len(self.view.engines)
        return tuple(
            PlannedRequest(
                index=i,
                engine=(i + (kind is Kind.WARM)) % engines,
                prompt=(self.nonce, 10 + i, *range(20, length + 18)),
                prompt_tokens=length,
                output_tokens=4,
            )
            for i, length in enumerate(LENGTHS)
        )


@asynccontextmanager
async def bench(*faults: str, engines: int = 1, **connector: object) -> AsyncIterator[Bench]:
    plan = StackPlan.model_validate(
        {
            "name": "s",
            "kind": "simulated",
            "simulated": {**COST, "faults": faults},
            "engine": {"count": engines},
            "connector": connector,
        }
    )
    async with serving(plan) as listening, aiohttp.ClientSession() as session:
        view = StackView(
            name="s",
            provisioned=True,
            simulated=True,
            engines=tuple(Engine(url=url, metrics_url=f"{url}/metrics") for url in listening.engine_urls),
            model="simulated",
            store=Store(master_url=listening.master_url),
            kv=KVGeometry(bytes_per_token=bytes_per_token(plan)),
        )
        yield Bench(view, session)


def broken(evidence: tuple[Evidence, ...]) -> dict[str, Fault]:
    return {item.id: item.fault for item in evidence if item.status is Status.BROKEN}


@pytest.mark.parametrize("engines", [1, 2])
async def test_a_healthy_stack_proves_every_tier_and_every_token(engines: int) -> None:
    async with bench(engines=engines) as on:
        await on.cold()
        cold = await on.cold()
        warm = await on.warm()
    of_cold = round_evidence(cold, on.view, reference=warm)
    of_warm = round_evidence(warm, on.view, reference=cold)

    assert broken((*of_cold, *of_warm)) == {}
    assert judge_rung(Rung.STORE, on.view, (*of_cold, *of_warm)).enough
    assert cold.settle is not None
    assert "every put had ended" in cold.settle.how
    table = facts_of(warm, on.view, reference=cold, warm_hit_share=0.99).attribution
    assert table.unexplained_tokens == 0
    assert [tokens for _, tokens in table.rows()] == [0, 0, 1023 + 768 + 256 + 511, 1 + 232 + 1 + 1]


async def test_a_cold_round_that_hits_is_an_instrument_fault() -> None:
    async with bench("cold-hits") as on:
        found = broken(round_evidence(await on.cold(deadline_s=20), on.view, reference=None))

    assert {"cold_no_external_hits", "cold_no_store_hits", "cold_no_cached_tokens"} <= set(found)
    assert set(found.values()) == {Fault.INSTRUMENT}


@pytest.mark.parametrize("fault", ["warm-misses", "drop-stores"])
async def test_what_is_never_stored_is_a_product_fault_in_both_rounds(fault: str) -> None:
    async with bench(fault) as on:
        cold = await on.cold(deadline_s=10)
        warm = await on.warm()

    assert broken(round_evidence(cold, on.view, reference=None))["cold_all_stored"] is Fault.PRODUCT
    assert broken(round_evidence(warm, on.view, reference=cold))["warm_store_hits"] is Fault.PRODUCT


async def test_hits_of_the_engines_own_prefix_cache_are_the_wrong_tier() -> None:
    async with bench("local-hits") as on:
        cold = await on.cold()
        found = broken(round_evidence(await on.warm(), on.view, reference=cold))

    assert found["warm_no_local_hits"] is Fault.PRODUCT
    assert "warm_cached_tokens" not in found, "the replies alone cannot tell the tier"


async def test_stores_that_never_end_are_given_up() -> None:
    async with bench("stuck-stores") as on:
        cold = await on.cold(deadline_s=10)

    assert cold.settle is not None
    assert not cold.settle.settled
    assert "puts not ended" in cold.settle.detail


@pytest.mark.parametrize(
    ("faults", "reached"),
    [
        (("no-store-metrics",), Rung.ENGINE),
        (("no-metrics", "no-store-metrics"), Rung.USAGE),
        (("no-metrics", "no-store-metrics", "no-cached-tokens"), Rung.TIMING),
    ],
)
async def test_evidence_goes_down_rung_by_rung_with_what_can_be_read(faults: tuple[str, ...], reached: Rung) -> None:
    async with bench(*faults) as on:
        cold = await on.cold()
        warm = await on.warm()
    evidence = (*round_evidence(cold, on.view, reference=warm), *round_evidence(warm, on.view, reference=cold))

    assert broken(evidence) == {}
    assert judge_rung(reached, on.view, evidence).enough
    assert judge_rung(Rung.STORE, on.view, evidence).reached is reached


async def test_a_store_emptied_between_the_rounds_is_named() -> None:
    async with bench() as on:
        cold = await on.cold()
        assert on.view.store is not None
        async with on.session.post(f"{on.view.store.master_url}/api/v1/remove_all?force=true") as answer:
            assert answer.status == 200
        warm = await on.warm()
    kept = next(e for e in round_evidence(warm, on.view, reference=cold) if e.id == "store_kept")

    assert kept.status is Status.BROKEN
    assert "somebody removed them" in kept.detail
