"""Runs to be reported: a few records of each verdict, made by hand so that every expected figure is known."""

from __future__ import annotations

from dataclasses import replace

from pytest_mooncake.plan.models import EconomicsPlan, Plan, StackPlan, Target, TargetsPlan, WorkloadPlan
from pytest_mooncake.records import (
    CORRECTNESS,
    AuditFinding,
    Claim,
    ClientHealth,
    Engine,
    Evidence,
    Fault,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    KVGeometry,
    Phase,
    RequestRecord,
    Round,
    Rung,
    Settle,
    StackView,
    Status,
    Store,
    Trial,
    Verdict,
)
from pytest_mooncake.report.content.build import build
from pytest_mooncake.report.content.document import Report

MS = 1_000_000
TARGETS = TargetsPlan(
    name="spec",
    claims=(
        Target(metric="ttft_mean", title="mean TTFT", direction="lower", ratio=0.40, stated="-60 %"),
        Target(metric="request_throughput", title="throughput", direction="higher", ratio=2.5, stated="+150 %"),
        Target(metric="tpot_mean", title="mean TPOT", direction="lower", ratio=1.10, stated="stable"),
    ),
)
ENVIRONMENT = {
    "pytest_mooncake": "0.1.0",
    "started_at": "2026-11-24T20:00:00+00:00",
    "python": "3.11.7",
    "os": "Linux",
    "cpu": "A CPU",
    "cpu_cores": 2,
    "memory_bytes": 8_000_000_000,
    "git_commit": "0123456789ab",
    "git_dirty": "yes",
}
HOSTILE = "<script>alert(1)</script>|`*_[x](javascript:y)\n\x1b[31m@everyone"


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "run_id": "20261124-2000-abcd",
        "stack": StackPlan(name="local", kind="local"),
        "workload": WorkloadPlan(name="long-document", requests=4, concurrency=2),
        "targets": TARGETS,
        "evidence": Rung.STORE,
        "economics": EconomicsPlan(),
    }
    return Plan.model_validate({**values, **changes})


def view(**changes: object) -> StackView:
    known = StackView(
        name="local",
        provisioned=True,
        engines=(Engine(url="http://127.0.0.1:8000"),),
        model="tiny",
        store=Store(master_url="http://127.0.0.1:9003", rpc_address="127.0.0.1:50051"),
        kv=KVGeometry(bytes_per_token=1024),
        versions={"vllm": "0.32.0", "lmcache": "0.5.6"},
        components={"master": "mooncake_master 0.3.13"},
        notes=("tiny model on a CPU: figures do not transfer",),
    )
    return replace(known, **changes)  # type: ignore[arg-type]  # names are checked by dataclasses.replace


def request(number: int, kind: Kind, index: int, *, ttft_ms: float, error: str | None = None) -> RequestRecord:
    sent = (number * 100_000 + index * 500) * MS
    first = sent + int(ttft_ms * MS)
    return RequestRecord(
        round=number,
        kind=kind,
        phase=Phase.CHAIN,
        index=index,
        prompt_tokens_planned=16384,
        output_tokens_planned=3,
        intended_ns=sent,
        sent_ns=sent,
        first_token_ns=None if error else first,
        last_token_ns=None if error else first + 20 * MS,
        prompt_tokens=16384,
        output_tokens=3,
        cached_tokens=16128 if kind is Kind.WARM else 0,
        chunk_ns=() if error else (first, first + 10 * MS, first + 20 * MS),
        chunk_tokens=() if error else (1, 1, 1),
        error=error,
    )


def chain_round(number: int, *, requests: int = 4, error: str | None = None, phase: Phase = Phase.CHAIN) -> Round:
    kind = Kind.WARM if number % 2 == 0 and phase is Phase.CHAIN else Kind.COLD
    ttft_ms = 400.0 if kind is Kind.WARM else 1200.0
    records = tuple(
        replace(request(number, kind, i, ttft_ms=ttft_ms + i, error=error if i == 0 else None), phase=phase)
        for i in range(requests)
    )
    return Round(
        round=number,
        kind=kind,
        phase=phase,
        segment=0 if phase is Phase.LEFT_OUT else 1,
        position=max(0, number - 1),
        nonce=f"n{number}",
        started_ns=number * 100_000 * MS,
        ended_ns=(number * 100_000 + 4000) * MS,
        requests=records,
        settle=Settle(seconds=1.25, settled=True, how="puts started = finished"),
        client=ClientHealth(
            loop_lag_p50_ms=0.1,
            loop_lag_p99_ms=0.4,
            loop_lag_max_ms=1.0,
            send_delay_mean_ms=0.2,
            send_delay_p99_ms=0.5,
            send_delay_max_ms=0.9,
            cpu_s=0.012,
            cpu_peak_share=0.2,
            chunks=12,
            bias_ms=0.05,
            error_p99_ms=0.2,
        ),
    )


def rounds(trials: int = 3, **changes: object) -> tuple[Round, ...]:
    left_out = chain_round(0, phase=Phase.LEFT_OUT)
    return (left_out, *(chain_round(n, **changes) for n in range(1, 2 * trials + 2)))  # type: ignore[arg-type]


def claim(claim_id: str, ratio: float, target: float, verdict: Verdict = Verdict.PASS) -> Claim:
    return Claim(
        id=claim_id,
        title=claim_id,
        gating=True,
        verdict=verdict,
        reason=f"{claim_id} says {verdict}",
        target_ratio=target,
        estimate_ratio=ratio,
        ci_ratio=(ratio * 0.95, ratio * 1.05),
        confidence=0.90,
        change_percent=(ratio - 1) * 100,
        trials=3,
    )


def judgement(verdict: Verdict = Verdict.PASS, **changes: object) -> Judgement:
    evidence = Evidence(
        id="warm_hits_external",
        status=Status.HELD,
        rung=Rung.STORE,
        expected="64,512 tokens",
        observed="64,512 tokens",
        fault=Fault.PRODUCT,
        round=2,
    )
    known = Judgement(
        verdict=verdict,
        reasons=() if verdict is Verdict.PASS else ("the recorded reason",),
        claims=(
            claim("ttft_mean", 1 / 3, 0.40, verdict),
            claim("request_throughput", 2.96, 2.5),
            claim("tpot_mean", 0.967, 1.10),
        ),
        evidence=(evidence, replace(evidence, round=4)),
        trials=tuple(
            Trial(index=i + 1, segment=1, cold=2 * i + 1, warm=2 * i + 2, cold_after=2 * i + 3, valid=True)
            for i in range(3)
        ),
        audit=(AuditFinding(law="little", status="held", left=3.9, right=4.0, detail="in flight <= concurrency"),),
        gates=(Gate(id=CORRECTNESS, status=GateStatus.MADE),),
    )
    return replace(known, **changes)  # type: ignore[arg-type]  # names are checked by dataclasses.replace


def report(verdict: Verdict = Verdict.PASS, **changes: object) -> Report:
    made = build(plan(), view(), rounds(), judgement(verdict), ENVIRONMENT, economics=EconomicsPlan())
    return replace(made, **changes)  # type: ignore[arg-type]  # names are checked by dataclasses.replace


def hostile_report(verdict: Verdict = Verdict.FAIL) -> Report:
    """Every text that a server, a file or a user could have written is an attack."""
    broken = Evidence(
        id=HOSTILE,
        status=Status.BROKEN,
        rung=Rung.USAGE,
        expected=HOSTILE,
        observed=HOSTILE,
        fault=Fault.PRODUCT,
        round=2,
        detail=HOSTILE,
    )
    bad = replace(claim("ttft_mean", 0.5, 0.4, verdict), reason=HOSTILE)
    unknown = replace(claim("x" + HOSTILE, 0.5, 0.4, verdict), title=HOSTILE)
    judged = judgement(
        verdict,
        reasons=(HOSTILE,),
        claims=(bad, unknown),
        evidence=(broken,),
        audit=(AuditFinding(law=HOSTILE, status="broken", left=1.0, right=2.0, detail=HOSTILE),),
    )
    hostile_view = view(model=HOSTILE, versions={HOSTILE: HOSTILE}, components={HOSTILE: HOSTILE}, notes=(HOSTILE,))
    hostile_plan = plan(label=HOSTILE, run_id="r" + HOSTILE)
    records = rounds(error=HOSTILE)
    environment = {**ENVIRONMENT, "cpu": HOSTILE, "git_commit": HOSTILE, "started_at": HOSTILE}
    economics = EconomicsPlan()
    return build(hostile_plan, hostile_view, records, judged, environment, economics=economics)
