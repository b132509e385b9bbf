"""The correctness gate over real sockets: held on a healthy stack, broken where the cache gives wrong text."""

from __future__ import annotations

from functools import partial

import aiohttp
import pytest

from pytest_mooncake.analysis.evidence.checks.correctness import probe_evidence
from pytest_mooncake.cache.keys import run_tag
from pytest_mooncake.cache.probes.gate import run_gate
from pytest_mooncake.cache.scrape import scrape, sources_of
from pytest_mooncake.plan.models import EngineSpec, SimulatedCost, StackPlan
from pytest_mooncake.records import (
    Engine,
    Evidence,
    GateStatus,
    KVGeometry,
    ProbeAnswer,
    ProbeRole,
    StackView,
    Status,
    Store,
)
from pytest_mooncake.stack.simulated.geometry import bytes_per_token, served_name
from pytest_mooncake.stack.simulated.serving import serving


async def gate(
    *faults: str,
    engines: int = 1,
    tagged: bool = True,
    ids: range = range(300, 4000),
    status: GateStatus | None = None,
) -> list[ProbeAnswer]:
    """Run the gate against a simulated stack that listens in this loop; it ends as `status` says, made by default."""
    plan = StackPlan(
        name="s",
        kind="simulated",
        engine=EngineSpec(count=engines),
        simulated=SimulatedCost(faults=faults, prefill_us_per_token=1.0, cached_us_per_token=0.5),
    )
    async with serving(plan) as stack, aiohttp.ClientSession() as session:
        view = StackView(
            name="s",
            provisioned=True,
            simulated=True,
            engines=tuple(Engine(url=url, metrics_url=f"{url}/metrics") for url in stack.engine_urls),
            model=served_name(plan),
            store=Store(master_url=stack.master_url),
            kv=KVGeometry(bytes_per_token=bytes_per_token(plan)),
        )
        read = partial(scrape, session, sources_of(view))
        params = (lambda tenant: run_tag("run-1", tenant)) if tagged else None
        answers, made = await run_gate(session, view, "run-1", ids, read=read, headers={}, params=params)
        assert made.status is (status or GateStatus.MADE), made
        return list(answers)


def by_id(answers: list[ProbeAnswer]) -> dict[str, Evidence]:
    return {e.id: e for e in probe_evidence(tuple(answers))}


@pytest.mark.parametrize("engines", [1, 2])
async def test_a_healthy_stack_holds_every_check_also_across_engines(engines: int) -> None:
    answers = await gate(engines=engines)
    assert {e.status for e in by_id(answers).values()} == {Status.HELD}
    assert len(answers) == 12
    assert {a.store_keys for a in answers if a.role is ProbeRole.WARM} == {0, 1, 2, 4}, "served by the store itself"
    assert {a.engine for a in answers} == set(range(engines))


async def test_an_engine_serves_what_the_other_one_stored() -> None:
    answers = await gate(engines=2)
    where = {(a.role, a.case): a.engine for a in answers}
    cases = ("short-of-a-chunk", "one-chunk", "a-token-more", "document")
    assert all(where[ProbeRole.COLD, case] != where[ProbeRole.WARM, case] for case in cases)


async def test_wrong_text_from_the_cache_is_caught_and_is_nothing_else() -> None:
    checks = by_id(await gate("wrong-text"))
    assert checks["correct_text"].status is Status.BROKEN
    assert {i for i, e in checks.items() if e.status is Status.BROKEN} == {"correct_text"}


async def test_a_cache_that_finds_nothing_breaks_the_edges_and_leaves_the_rest_open() -> None:
    checks = by_id(await gate("warm-misses"))
    assert checks["cached_at_chunk_edges"].status is Status.BROKEN
    assert checks["correct_text"].status is Status.UNAVAILABLE
    assert checks["tenants_share_nothing"].status is Status.UNAVAILABLE


async def test_without_tags_the_gate_asks_less_and_still_compares_text() -> None:
    checks = by_id(await gate(tagged=False))
    assert checks["correct_text"].status is Status.HELD
    assert checks["tenants_share_nothing"].status is Status.UNAVAILABLE


async def test_the_engines_own_prefix_cache_is_told_from_the_store_and_blamed_for_nothing() -> None:
    answers = await gate("local-hits", tagged=False, status=GateStatus.MADE)
    checks = by_id(answers)
    assert {e.status for e in checks.values()} <= {Status.HELD, Status.UNAVAILABLE}
    assert "came from the engine's own prefix cache" in checks["cached_at_chunk_edges"].detail


async def test_what_one_engine_computed_another_ones_prefix_cache_cannot_answer() -> None:
    checks = by_id(await gate("local-hits", "wrong-text", engines=2, tagged=False))
    assert checks["correct_text"].status is Status.BROKEN


async def test_a_request_that_failed_once_is_told() -> None:
    checks = by_id(await gate("fail-every:7"))
    assert (checks["probes_answered"].status, checks["probes_answered"].detail) == (Status.HELD, "1 at the second try")


async def test_ids_that_the_model_does_not_know_are_refused_and_prove_nothing() -> None:
    answers = await gate(ids=range(10**6, 10**6 + 100), status=GateStatus.NOT_APPLICABLE)
    assert all(a.role is ProbeRole.COLD for a in answers)
    assert {e.status for e in by_id(answers).values()} == {Status.UNAVAILABLE}
