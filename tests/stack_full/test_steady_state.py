"""A real store smaller than the working set: what it serves lies between what an exact LRU keeps and all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Status
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import conduct, open_stack

pytestmark = [pytest.mark.stack, pytest.mark.full]

SMALL_STORE = "kind: local\nstore: {nodes: 2, segment_bytes: 16777216}\n"
"""256 chunks of the tiny model, of the 384 that the questions work on."""


def test_hits_of_a_full_store_lie_between_those_of_an_lru_and_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_STORE, encoding="utf-8")
    options = Options(stack="small.yaml", workload="kb-qa", output_tokens="8", concurrency="1", steady=True, quick=True)
    plan = resolve(options, tmp_path)
    with open_stack(plan, tmp_path / "logs", Silent()) as view:
        outcome = conduct(plan, view, tmp_path / "run", Silent())
    cold, warm = outcome.recorded.rounds
    planned = warm.planned
    assert planned is not None
    assert planned.steady_store_chunks == 256
    assert planned.distinct_chunks == 384
    hits = [sum(r.cached_tokens or 0 for r in one.requests) / planned.chunk_tokens for one in (cold, warm)]
    assert 0.99 * planned.steady_cold_chunks <= hits[0] <= planned.cold_chunks
    assert 0.99 * planned.steady_warm_chunks <= hits[1] < planned.chunks
    evidence = {(item.id, item.round): item.status for item in outcome.judgement.evidence}
    assert Status.BROKEN not in evidence.values(), "\n".join(outcome.judgement.reasons)
    assert evidence["warm_store_hits", warm.round] is Status.HELD
    assert any("keys were evicted from the store" in reason for reason in outcome.judgement.reasons)
