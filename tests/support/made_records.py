"""Records made for tests: one of a run that passes, and any record as the first versions wrote it."""

from __future__ import annotations

import random
from pathlib import Path

import orjson

from pytest_mooncake.journal import EVENTS_FILE, PLAN_FILE, REQUESTS_FILE, Journal
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import (
    CORRECTNESS,
    ClientHealth,
    Engine,
    GateStatus,
    Kind,
    KVGeometry,
    Phase,
    PlannedReuse,
    RequestRecord,
    Round,
    Settle,
    StackView,
)

MS = 1_000_000
REQUESTS, PROMPT, OUTPUT = 4, 1025, 4
VIEW = StackView(
    name="attached",
    provisioned=False,
    engines=(Engine(url="http://127.0.0.1:1"),),
    model="m",
    kv=KVGeometry(bytes_per_token=512, chunk_tokens=256),
)


def request(number: int, kind: Kind, phase: Phase, index: int, chance: random.Random) -> RequestRecord:
    """One request: a warm one has its first token in a third of the time and all whole chunks cached."""
    sent = (number * 2000 + index * (150 if kind is Kind.COLD else 40)) * MS
    first = sent + round((100 if kind is Kind.COLD else 30) * MS * chance.uniform(0.98, 1.02))
    chunks = tuple(first + round(i * 10 * MS * chance.uniform(0.99, 1.01)) for i in range(OUTPUT))
    return RequestRecord(
        round=number,
        kind=kind,
        phase=phase,
        index=index,
        request_id=f"r{number}-i{index}",
        prompt_tokens_planned=PROMPT,
        output_tokens_planned=OUTPUT,
        intended_ns=sent,
        ready_ns=sent,
        connected_ns=sent,
        sent_ns=sent,
        first_byte_ns=first,
        first_token_ns=first,
        last_token_ns=chunks[-1],
        usage_ns=chunks[-1],
        done_ns=chunks[-1],
        prompt_tokens=PROMPT,
        output_tokens=OUTPUT,
        cached_tokens=PROMPT - 1 if kind is Kind.WARM else 0,
        chunk_ns=chunks,
        chunk_tokens=(1,) * OUTPUT,
        finish_reason="length",
        output_sha256=str(index) * 64,
        http_status=200,
    )


def a_round(number: int, kind: Kind, phase: Phase, segment: int, position: int) -> Round:
    """A round with all that is known of it."""
    chance = random.Random(number)
    requests = tuple(request(number, kind, phase, index, chance) for index in range(REQUESTS))
    return Round(
        round=number,
        kind=kind,
        phase=phase,
        segment=segment,
        position=position,
        nonce=f"n{number}",
        started_ns=requests[0].sent_ns or 0,
        ended_ns=requests[-1].done_ns or 0,
        requests=requests,
        settle=Settle(seconds=0.1, settled=True, how="counters"),
        client=ClientHealth(cpu_s=0.01, chunks=REQUESTS * OUTPUT),
        planned=PlannedReuse(
            requests=REQUESTS,
            chunk_tokens=256,
            chunks=REQUESTS * (PROMPT // 256),
            distinct_chunks=REQUESTS * (PROMPT // 256),
            cold_chunks=0,
            cold_cached_tokens=0,
            warm_cached_tokens=REQUESTS * (PROMPT - 1),
        ),
    )


def passing_rounds(trials: int = 3) -> tuple[Round, ...]:
    """The rounds of a run whose warm requests are served in a third of the time."""
    chain = (
        a_round(place + 1, Kind.WARM if place % 2 else Kind.COLD, Phase.CHAIN, 1, place)
        for place in range(2 * trials + 1)
    )
    return (a_round(0, Kind.COLD, Phase.LEFT_OUT, 0, 0), *chain)


def passing_plan(place: Path) -> Plan:
    """The plan of that run."""
    sizes = {"requests": str(REQUESTS), "prompt_tokens": str(PROMPT), "output_tokens": str(OUTPUT)}
    return resolve(Options(stack="simulated", evidence="usage", trials="3", **sizes), place)  # type: ignore[arg-type]


def passing(directory: Path, plan: Plan | None = None, *, end: str | None = "decided") -> Path:
    """The record of a run that passes; without `end`, of one that was killed."""
    with Journal(directory, plan or passing_plan(directory.parent)) as journal:
        journal.event("environment", environment={"python": "3.11"})
        journal.event("stack", view=VIEW)
        for measured in passing_rounds():
            journal.event("round_start", round=measured.round, kind=measured.kind, phase=measured.phase)
            for record in reversed(measured.requests):
                journal.request(record)
            journal.round(measured)
        journal.event("look", verdict="PASS", trials=3)
        journal.event("gate", id=CORRECTNESS, status=GateStatus.NOT_APPLICABLE, reason="no log-probabilities here")
        if end:
            journal.event("run_end", reason=end)
    return directory


def as_first_version(directory: Path) -> Path:
    """Rewrite a record as the first versions wrote it: without numbers, checksums and counts."""
    plan = orjson.loads((directory / PLAN_FILE).read_bytes())
    (directory / PLAN_FILE).write_bytes(orjson.dumps({**plan, "schema": "pytest-mooncake/journal/1"}))
    for name in (EVENTS_FILE, REQUESTS_FILE):
        lines = [orjson.loads(line) for line in (directory / name).read_bytes().splitlines()]
        kept = [line for line in lines if line.get("event") not in {"journal", "closed"}]
        for line in kept:
            for key in ("n", "crc", "requests_before", "requests"):
                line.pop(key, None)
        (directory / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in kept))
    return directory
