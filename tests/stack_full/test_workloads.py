"""Sharing workloads on the real stack: the reuse asked for, planned and observed is one figure, cold and warm."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Kind, Round, Rung, StackView, Status
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import Outcome, conduct, open_stack

pytestmark = [pytest.mark.stack, pytest.mark.full]

TRACE = Path(__file__).parents[1] / "data" / "traces" / "conversation_trace.jsonl.gz"
CHUNK_TOKENS = 256


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackView]:
    """One stack for all runs of this module: nonces keep them apart."""
    plan = resolve(Options(), Path.cwd())
    with open_stack(plan, tmp_path_factory.mktemp("logs"), Silent()) as view:
        yield view


@pytest.fixture
def _more_time() -> None:
    """Two thousand requests one after the other take longer than a test usually may."""
    faulthandler.dump_traceback_later(1200, exit=True)


def run(stack: StackView, directory: Path, workload: str, **numbers: str) -> Outcome:
    options = Options(workload=workload, quick=True, **numbers)  # type: ignore[arg-type]  # numbers are text
    return conduct(resolve(options, Path.cwd()), stack, directory, Silent())


def rounds_of(outcome: Outcome) -> tuple[Round, Round]:
    assert len(outcome.recorded.rounds) == 2, "\n".join(outcome.judgement.reasons)
    cold, warm = outcome.recorded.rounds
    assert (cold.kind, warm.kind) == (Kind.COLD, Kind.WARM)
    assert all(request.error is None for one in (cold, warm) for request in one.requests)
    return cold, warm


def hits(measured: Round) -> int:
    return sum(request.cached_tokens or 0 for request in measured.requests)


def assert_proven(outcome: Outcome) -> None:
    """No check is broken, and the store's own counters carry those that matter."""
    evidence = outcome.judgement.evidence
    assert [e for e in evidence if e.status is Status.BROKEN] == []
    held = {e.id for e in evidence if e.status is Status.HELD and e.rung is Rung.STORE}
    assert {"cold_no_store_hits", "cold_all_stored", "warm_store_hits"} <= held


@pytest.mark.parametrize(
    ("name", "requests"), [("kb-qa", "12"), ("customer-chat", "16"), ("code-assistant", "12"), ("mixed", "28")]
)
def test_a_scenario_reuses_what_it_states(stack: StackView, tmp_path: Path, name: str, requests: str) -> None:
    outcome = run(stack, tmp_path / "run", name, requests=requests, prompt_tokens="2048", output_tokens="16")
    cold, warm = rounds_of(outcome)
    planned = cold.planned
    assert planned is not None
    asked = sum(kind.weight * kind.prompt.scale * kind.reuse for kind in outcome.recorded.plan.workload.traffic)
    asked /= sum(kind.weight * kind.prompt.scale for kind in outcome.recorded.plan.workload.traffic)
    assert abs(asked * planned.chunks - planned.cold_chunks) <= planned.requests, "asked and planned"
    assert 0 <= planned.cold_cached_tokens - hits(cold) <= planned.requests * CHUNK_TOKENS, "planned and observed"
    assert hits(warm) == planned.warm_cached_tokens
    assert_proven(outcome)


def test_conversations_carry_the_engines_own_answers_and_are_found_again(stack: StackView, tmp_path: Path) -> None:
    workload = tmp_path / "talk.yaml"
    workload.write_text(
        "kind: scenario\nrequests: 8\nconcurrency: 2\nprompt_tokens: 2048\noutput_tokens: 32\n"
        "traffic:\n  - {name: talk, reuse: 0.6, turns: 4, reply: real}\n"
    )
    cold, warm = rounds_of(outcome := run(stack, tmp_path / "run", str(workload)))
    assert cold.planned is not None
    assert hits(warm) == cold.planned.warm_cached_tokens
    assert 0 <= cold.planned.cold_cached_tokens - hits(cold) <= 8 * CHUNK_TOKENS
    assert_proven(outcome)


@pytest.mark.usefixtures("_more_time")
def test_five_minutes_of_a_trace_hit_what_an_infinite_cache_would(stack: StackView, tmp_path: Path) -> None:
    part = "start_s=600&duration_s=300&schedule=none&max_prompt_tokens=768&max_output_tokens=2"
    cold, warm = rounds_of(outcome := run(stack, tmp_path / "run", f"trace:{TRACE}?{part}", concurrency="1"))
    planned = cold.planned
    assert planned is not None
    assert planned.requests > 900
    assert planned.in_order
    # a chunk is there when its put has ended, which is after the answer: on a busy machine the next request, sent at
    # once, may come before it (quiet: every token, 549,184 of 549,184)
    assert 0.99 * planned.cold_cached_tokens <= hits(cold) <= planned.cold_cached_tokens
    assert hits(warm) == planned.warm_cached_tokens
    assert_proven(outcome)


def test_a_trace_keeps_its_schedule(stack: StackView, tmp_path: Path) -> None:
    # 1000 ends within a chunk: several prefills at once may end in a step of one token, which LMCache does not store
    part = "start_s=600&duration_s=40&speed=0.8&max_prompt_tokens=1000&max_output_tokens=4"
    cold, warm = rounds_of(outcome := run(stack, tmp_path / "run", f"trace:{TRACE}?{part}"))
    for one in (cold, warm):
        assert all((request.sent_ns or 0) >= request.intended_ns for request in one.requests)
    offsets = [[request.intended_ns - one.requests[0].intended_ns for request in one.requests] for one in (cold, warm)]
    assert offsets[0] == offsets[1]
    assert cold.planned is not None
    assert hits(cold) <= cold.planned.cold_cached_tokens
    assert hits(warm) == cold.planned.warm_cached_tokens
    assert_proven(outcome)
