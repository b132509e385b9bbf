"""Chains of rounds to be judged, with evidence and claims that a test scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_mooncake.history.prior_runs import LATEST
from pytest_mooncake.journal import Journal
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import (
    Claim,
    ClientHealth,
    Engine,
    Evidence,
    Fault,
    Kind,
    Phase,
    RequestRecord,
    Round,
    Rung,
    StackView,
    Status,
    Store,
    Verdict,
)

VIEW = StackView(
    name="s",
    provisioned=True,
    engines=(Engine(url="http://127.0.0.1:1", metrics_url="http://127.0.0.1:1/metrics"),),
    model="m",
    store=Store(master_url="http://127.0.0.1:2"),
)
DECISIVE = {Kind.COLD: "cold_no_store_hits", Kind.WARM: "warm_store_hits"}


def a_round(number: int, kind: Kind, position: int, *, phase: Phase = Phase.CHAIN, segment: int = 1) -> Round:
    request = RequestRecord(
        round=number,
        kind=kind,
        phase=phase,
        index=0,
        prompt_tokens_planned=512,
        output_tokens_planned=2,
        intended_ns=0,
        sent_ns=0,
        first_token_ns=100_000_000,
        last_token_ns=110_000_000,
        prompt_tokens=512,
        output_tokens=2,
        cached_tokens=512 if kind is Kind.WARM else 0,
        chunk_ns=(100_000_000, 110_000_000),
        chunk_tokens=(1, 1),
    )
    return Round(
        round=number,
        kind=kind,
        phase=phase,
        segment=segment,
        position=position,
        nonce=str(number),
        started_ns=0,
        ended_ns=110_000_000,
        requests=(request,),
    )


def chain(trials: int) -> tuple[Round, ...]:
    left_out = a_round(0, Kind.COLD, 0, phase=Phase.LEFT_OUT, segment=0)
    alternating = [a_round(i + 1, Kind.WARM if i % 2 else Kind.COLD, i) for i in range(2 * trials + 1)]
    return (left_out, *alternating)


class Script:
    """Says what evidence and claims there are."""

    def __init__(self) -> None:
        self.faults: dict[int, Fault] = {}
        self.unreadable: set[int] = set()
        self.claims: tuple[Claim, ...] = (claim(Verdict.PASS),)
        self.judged: tuple[int, ...] = ()
        self.trials = 0
        self.planned: int | None = None

    def round_evidence(self, this: Round, view: StackView, *, planned: int | None, **_: object) -> tuple[Evidence, ...]:
        self.planned = planned
        status = Status.UNAVAILABLE if this.round in self.unreadable else Status.HELD
        found = [self.evidence(this, DECISIVE[this.kind], status, Fault.PRODUCT, detail="scrape failed")]
        if this.round in self.faults:
            found.append(self.evidence(this, "scripted", Status.BROKEN, self.faults[this.round], detail="why"))
        return tuple(found)

    @staticmethod
    def evidence(this: Round, name: str, status: Status, fault: Fault, *, detail: str) -> Evidence:
        return Evidence(
            id=name, status=status, rung=Rung.STORE, expected="0", observed="7", fault=fault, round=this.round,
            detail=detail,
        )  # fmt: skip

    def judge_claims(self, targets: object, rounds: Sequence[Round], *, trials: int, **_: object) -> tuple[Claim, ...]:
        self.judged = tuple(r.round for r in rounds)
        self.trials = trials
        return self.claims


def claim(verdict: Verdict) -> Claim:
    return Claim(id="ttft_mean", title="mean TTFT", gating=True, verdict=verdict, reason=f"it is {verdict}")


def noisy_chain(trials: int, warm_ms: float, *, bias_ms: float | None = None) -> tuple[Round, ...]:
    """A chain whose warm rounds take `warm_ms` where cold ones take 100 ms; rounds differ by 1 and 2 %."""
    made = []
    for r in chain(trials):
        first = round((warm_ms if r.kind is Kind.WARM else 100) * 1e6 * (1 + r.round % 3 / 100))
        last = first + 10_000_000 + r.round % 3 * 100_000
        request = replace(r.requests[0], first_token_ns=first, last_token_ns=last, chunk_ns=(first, last))
        made.append(replace(r, requests=(request,), ended_ns=last, client=ClientHealth(bias_ms=bias_ms)))
    return tuple(made)


def record(plan: Plan, directory: Path, trials: int = 4, *, view: bool = True) -> None:
    """Write a run that was decided after `trials`, as its journal would have been; without `view`, of no stack."""
    with Journal(directory / LATEST, plan) as journal:
        if view:
            journal.event("stack", view=VIEW)
        for measured in noisy_chain(trials, 30):
            for request in measured.requests:
                journal.request(request)
            journal.round(measured)
        journal.event("run_end", reason="decided")
