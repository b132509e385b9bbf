"""A request that continues a conversation waits for the answer before it, and carries it where that was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_mooncake.load.workers.pool import run_round_in_workers
from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.records import Kind, PlannedRequest, RequestRecord
from pytest_mooncake.workload.build import layout_of
from pytest_mooncake.workload.prompts import Planned, Workload
from pytest_mooncake.workload.tokens.pools import WordPool, pool_of_ids
from tests.support.faulty_server import FaultyServer
from tests.support.measured_rounds import measure, planned, spec_for
from tests.support.replies import Answering, Received, Reply, Stream, error, event, stream

COMPLETIONS = "/v1/completions"
MS = 1_000_000


def chain(*after: int | None, think_ms: int = 0, **fields: Any) -> tuple[PlannedRequest, ...]:
    """Requests of which the i-th waits for `after[i]`."""
    requests = planned(len(after), **fields)
    return tuple(replace(r, after=a, think_ns=think_ms * MS) for r, a in zip(requests, after, strict=True))


def in_order(records: list[RequestRecord]) -> list[RequestRecord]:
    return sorted(records, key=lambda record: record.index)


async def test_a_turn_is_sent_when_the_one_before_it_is_done_and_time_to_think_has_passed() -> None:
    requests = chain(None, 0, 1, None, think_ms=30)
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.02)}) as server:
        records, _ = await measure(spec_for(server.url, requests=requests, concurrency=4))
    first, second, third, alone = in_order(records)
    for before, turn in ((first, second), (second, third)):
        assert before.done_ns is not None
        assert turn.ready_ns == turn.intended_ns == before.done_ns + 30 * MS
        assert (turn.sent_ns or 0) >= turn.intended_ns
    assert (alone.sent_ns or 0) < (first.done_ns or 0), "who waits for nothing is not held up by those who do"


async def test_a_turn_that_is_over_before_its_slot_is_free_costs_no_time() -> None:
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.01)}) as server:
        records, _ = await measure(spec_for(server.url, requests=chain(None, None, 0, 0), concurrency=1))
    done = {record.index: record.done_ns for record in records}
    assert [record.ready_ns for record in in_order(records)[1:]] == [done[0], done[1], done[2]]


async def test_in_an_open_loop_a_turn_keeps_its_time_unless_the_answer_comes_later() -> None:
    requests = chain(None, 0, 0, offsets=[0, 5 * MS, 200 * MS])
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.05)}) as server:
        records, _ = await measure(spec_for(server.url, requests=requests, concurrency=None))
    first, early, late = in_order(records)
    assert early.intended_ns == first.done_ns
    assert late.intended_ns == first.intended_ns + 200 * MS


async def test_with_a_cap_a_turn_is_ready_when_it_has_its_slot_and_its_answer() -> None:
    requests = chain(None, 0, offsets=[0, 0])
    async with FaultyServer({COMPLETIONS: Stream(first_token_s=0.03)}) as server:
        records, _ = await measure(spec_for(server.url, requests=requests, concurrency=2))
    first, second = in_order(records)
    assert second.ready_ns == first.done_ns


async def test_a_conversation_goes_on_after_a_request_that_failed() -> None:
    replies: list[Answering] = [error(500), Stream(), Stream()]
    async with FaultyServer({COMPLETIONS: replies}) as server:
        records, result = await measure(spec_for(server.url, requests=chain(None, 0, 1), concurrency=2))
    assert [record.error is None for record in in_order(records)] == [False, True, True]
    assert result.cut_short is None


@pytest.mark.parametrize("slots", [1, 3])
async def test_a_round_in_which_everything_fails_ends_although_others_wait(slots: int) -> None:
    async with FaultyServer({COMPLETIONS: error(503)}) as server:
        records, result = await measure(spec_for(server.url, requests=chain(None, 0, 0, 0, 1, 2), concurrency=slots))
    assert len(records) == slots
    assert result.cut_short is not None


def conversation(**fields: Any) -> Workload:
    """Three turns of about 120 tokens each."""
    kind = {"name": "talk", "reuse": 0.5, "turns": 3, "reply": "real", **fields}
    plan = WorkloadPlan.model_validate(
        {"name": "w", "kind": "scenario", "requests": 3, "prompt_tokens": 120, "output_tokens": 4, "traffic": [kind]}
    )
    return Workload(plan, layout_of(plan, chunk_tokens=16), pool_of_ids(range(100, 400), "test"), run_id="r")


class Telling:
    """A server that answers with ids of its own choice and remembers what it was asked."""

    def __init__(self, ids: tuple[int, ...] | None = (9001, 9002, 9003, 9004)) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._ids = ids

    def __call__(self, received: Received) -> Reply:
        body = received.json()
        self.bodies.append(body)
        steps = []
        for place in range(4):
            choice: dict[str, Any] = {"index": 0, "text": f" t{place}", "finish_reason": None}
            if self._ids is not None and body.get("return_token_ids"):
                choice["token_ids"] = [self._ids[place]]
            steps.append(event({"choices": [choice]}))
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 4}
        return stream(*steps, event({"choices": [], "usage": usage}), b"data: [DONE]\n\n")


async def spoken(work: Workload, server: Telling, kind: Kind = Kind.COLD) -> list[RequestRecord]:
    async with FaultyServer({COMPLETIONS: server}) as faulty:
        spec = replace(spec_for(faulty.url, requests=work.requests("n"), concurrency=2), kind=kind)
        records, _ = await measure(spec)
    assert [record.error for record in records] == [None] * 3
    return in_order(records)


async def test_the_servers_own_answer_is_part_of_the_next_prompt() -> None:
    work, server = conversation(), Telling()
    await spoken(work, server)
    first, second, third = (body["prompt"] for body in server.bodies)
    assert second[: len(first)] == first
    assert second[len(first) : len(first) + 4] == [9001, 9002, 9003, 9004]
    assert third[: len(second)] == second
    assert third[len(second) : len(second) + 4] == [9001, 9002, 9003, 9004]


async def test_a_repetition_sends_the_same_prompts_whatever_is_answered_then() -> None:
    work, cold, warm = conversation(), Telling(), Telling(ids=(8001, 8002, 8003, 8004))
    await spoken(work, cold)
    await spoken(work, warm, Kind.WARM)
    assert [body["prompt"] for body in warm.bodies] == [body["prompt"] for body in cold.bodies]


async def test_a_server_that_tells_no_ids_is_answered_with_the_planned_text() -> None:
    real, fixed, mute = conversation(), conversation(reply="fixed"), Telling(ids=None)
    await spoken(real, mute)
    assert [tuple(body["prompt"]) for body in mute.bodies] == [request.prompt for request in fixed.requests("n")]


async def test_fixed_answers_are_known_before_the_round() -> None:
    requests = conversation(reply="fixed").requests("n")
    assert [requests.outline(index) for index in range(3)] == [None] * 3
    outlines = [conversation().requests("n").outline(index) for index in range(3)]
    assert [outline is None for outline in outlines] == [True, False, False]
    assert outlines[1] is not None
    assert (outlines[1].prompt, outlines[1].after) == ("", 0)


def test_prompts_of_text_carry_fixed_answers_since_answers_come_as_ids() -> None:
    ids = conversation()
    text = Workload(ids.plan, ids.layout, WordPool(overhead_tokens=1), run_id="r")
    assert [text.requests("n").outline(index) for index in range(3)] == [None] * 3
    assert all(request.body == {} for request in text.requests("n"))


async def test_rounds_with_turns_are_sent_by_one_process_whatever_number_was_asked_for() -> None:
    work = conversation(reply="fixed")
    records: list[RequestRecord] = []
    async with FaultyServer({COMPLETIONS: Telling()}) as server:
        spec = spec_for(server.url, requests=work.requests("n"), concurrency=2)
        assert spec.is_chained
        await run_round_in_workers(spec, workers=2, on_record=records.append)
    first, second, _ = in_order(records)
    assert (second.sent_ns or 0) >= (first.done_ns or 0)


def test_only_rounds_with_turns_are_chained() -> None:
    plan = WorkloadPlan(name="w", requests=2, prompt_tokens=64)
    apart = Workload(plan, layout_of(plan), pool_of_ids(range(100), "test"))
    assert not apart.requests("n").is_chained
    assert isinstance(apart.requests("n"), Planned)
    assert not spec_for("http://127.0.0.1:1", requests=planned(2)).is_chained
