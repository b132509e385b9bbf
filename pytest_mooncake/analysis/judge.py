"""What a run comes to: evidence of every round, validity of every trial, claims, audit, verdict.

A pure function of plan, stack and rounds, used after each trial while measuring and again on any recorded run, so that
the verdict of a run and of its replay cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_mooncake.analysis.audit.external_figures import machine_from_mapping
from pytest_mooncake.analysis.audit.run_audit import audit_rounds
from pytest_mooncake.analysis.claims.client_validity import (
    BiasedRound,
    closed_loop_slots,
    coarseness,
    idle_share,
    saturation,
)
from pytest_mooncake.analysis.claims.combine import combine, failures_claim, hit_share_claim
from pytest_mooncake.analysis.claims.gates import gates_of, unmade
from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.claims.remarks import remarks
from pytest_mooncake.analysis.evidence.checks.correctness import probe_evidence
from pytest_mooncake.analysis.evidence.checks.refusals import is_refused_round
from pytest_mooncake.analysis.evidence.faults import Blame, Seen, blamed_on
from pytest_mooncake.analysis.evidence.hit_share import warm_hit_share
from pytest_mooncake.analysis.evidence.round_evidence import attribution_table, round_evidence
from pytest_mooncake.analysis.evidence.rungs import RungJudgement, judge_rung
from pytest_mooncake.analysis.figures.summary import summarise
from pytest_mooncake.analysis.outlook.guidance import feasibility_of, outlook_of, settlement_of, trial_seconds
from pytest_mooncake.analysis.trials import (
    RoundFindings,
    repeats_allowed,
    rounds_of_valid_trials,
    too_many_repeats,
    trials_of,
)
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import (
    DECIDED,
    TIME_LIMIT,
    AuditFinding,
    Claim,
    Evidence,
    Fault,
    Judgement,
    Kind,
    Phase,
    Round,
    Rung,
    RunNotes,
    StackView,
    Status,
    Trial,
    Verdict,
)

_HOW = {DECIDED: None, TIME_LIMIT: "time_limit"}
"""What reports call the way in which a run ended; of one that is over, everything else is an interruption."""


def judge_round(measured: Round, rounds: Sequence[Round], view: StackView, plan: Plan) -> RoundFindings:
    """Evidence of one round, and its product and instrument faults.

    Args:
        measured: the round.
        rounds: the run so far; the cold round before a warm one is what its server times are compared with.
        view: the stack it ran on.
        plan: the run's plan; its targets say which share of warm hits is enough.
    """
    evidence = round_evidence(
        measured,
        view,
        reference=_reference(measured, rounds),
        warm_hit_share=plan.targets.warm_hit_share,
        planned=measured.planned.requests if measured.planned else plan.workload.requests,
        rounds=rounds,
    )
    return RoundFindings(
        evidence=evidence,
        product_faults=_broken(evidence, Fault.PRODUCT, measured),
        instrument_faults=(*_broken(evidence, Fault.INSTRUMENT, measured), *_client_faults(measured, plan)),
        refusal=measured.requests[-1].error if is_refused_round(measured, view) else None,
    )


def _reference(measured: Round, rounds: Sequence[Round]) -> Round | None:
    """The cold round that a warm one repeats; for a cold round, any other (it tells what the server shows at all)."""
    if measured.kind is Kind.COLD:
        return next((r for r in rounds if r.round != measured.round), None)
    return next((r for r in reversed(rounds) if r.round < measured.round and r.kind is Kind.COLD), None)


def _broken(evidence: Sequence[Evidence], fault: Fault, measured: Round) -> tuple[str, ...]:
    return tuple(
        f"round {measured.round} ({measured.kind}): {_sentence(e)}"
        for e in evidence
        if e.status is Status.BROKEN and e.fault is fault
    )


def _sentence(evidence: Evidence) -> str:
    said = f"{evidence.id}: expected {evidence.expected}, observed {evidence.observed}"
    return f"{said}; {evidence.detail}" if evidence.detail else said


def _client_faults(measured: Round, plan: Plan) -> tuple[str, ...]:
    ttft_mean_ms = summarise((measured,)).ttft_ms.mean
    reason = saturation(measured, slots=closed_loop_slots(plan), ttft_mean_ms=ttft_mean_ms)
    return (f"round {measured.round} ({measured.kind}): {reason}",) if reason else ()


def judge(
    plan: Plan,
    view: StackView,
    rounds: Sequence[Round],
    *,
    ended: str | None = None,
    run_notes: RunNotes = RunNotes(),  # noqa: B008 - frozen
) -> Judgement:
    """Judge all rounds of a run, measured wholly or in part.

    Args:
        plan: the run's plan.
        view: the stack it ran on.
        rounds: in the order they were sent, the left-out one included.
        ended: how the run ended, as the journal says; `None` while it goes on: what comes after its rounds (gates, its
            end) is not missing yet.
        run_notes: what is known beside the rounds, once they are over.
    """
    found, gate = _found(plan, view, rounds), probe_evidence(run_notes.probes)
    seen = _seen_of_all(plan, found, run_notes.damage)
    product = (*_product_faults(found.findings, gate), *blamed_on(Blame.PRODUCT, seen))
    faulty = bool(product) or any(c.verdict is Verdict.FAIL for c in found.product_claims)
    gates = gates_of(plan, run_notes, rounds, product_fault=faulty, decided=ended == DECIDED) if ended else ()
    unfinished = _unfinished(plan, ended, run_notes.failure)
    claims, missing = (*found.claims, *found.product_claims), (*unmade(gates), *unfinished)
    verdict, why = combine(claims, product_faults=product, invalid=blamed_on(Blame.INSTRUMENT, seen), missing=missing)
    why = _with_end(why, unfinished, first=run_notes.failure is not None and not faulty)
    return Judgement(
        verdict=verdict,
        reasons=(*why, *_notes(found.rung, run_notes)),
        claims=claims,
        evidence=(*_evidence_of(rounds, found.findings), *gate),
        trials=found.trials,
        audit=found.audit,
        gates=gates,
        details=_state(plan, view, found)
        | _ending(ended, run_notes.failure, product_fault=faulty)
        | {"attribution": attribution_table(rounds, view)}
        | _beside(plan, rounds, found, open_run=verdict is Verdict.INCONCLUSIVE),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the rounds of a run show, whatever came after them."""

    findings: Mapping[int, RoundFindings]
    trials: tuple[Trial, ...]
    claims: tuple[Claim, ...]
    product_claims: tuple[Claim, ...]
    rung: RungJudgement
    audit: tuple[AuditFinding, ...]


def _found(plan: Plan, view: StackView, rounds: Sequence[Round]) -> _Found:
    """Judge the rounds by themselves: evidence of each, trials, claims, the rung that was reached, the audit."""
    findings = {r.round: judge_round(r, rounds, view, plan) for r in rounds}
    trials, claims = _trials_and_claims(plan, view, rounds, findings)
    valid_rounds = rounds_of_valid_trials(rounds, trials)
    return _Found(
        findings=findings,
        trials=trials,
        claims=claims,
        product_claims=_product_claims(plan, view, rounds, sum(t.valid for t in trials)),
        rung=judge_rung(plan.evidence, view, _evidence_of(valid_rounds or rounds, findings)),
        audit=_audited(plan, valid_rounds),
    )


def _ending(ended: str | None, failure: str | None, *, product_fault: bool) -> dict[str, Any]:
    """How the run ended, as reports call it, and whether the product had to answer for it."""
    return {
        "unfinished": "failed" if failure else _HOW.get(ended or DECIDED, "interrupted"),
        "failure": failure,
        "product_fault": product_fault,
    }


def _audited(plan: Plan, rounds: Sequence[Round]) -> tuple[AuditFinding, ...]:
    cap = plan.workload.in_flight_cap
    if plan.machine is None:
        return audit_rounds(rounds, cap)
    model, hardware = machine_from_mapping(plan.machine.model_dump(exclude={"name"}))
    return audit_rounds(rounds, cap, model=model, hardware=hardware)


def _seen_of_all(plan: Plan, found: _Found, damage: Sequence[str]) -> tuple[Seen, ...]:
    """What is wrong with the run as a whole: a damaged record, evidence too weak, too many repeats, a broken law."""
    damaged = (("record/damaged", f"the record is damaged: {one}") for one in damage)
    weak = () if found.rung.enough or not found.trials else (("run/rung", found.rung.reason),)
    repeats = (("run/repeats", one) for one in too_many_repeats(plan, found.trials))
    broken = (("audit/broken", f"audit: {a.law}: {a.detail}") for a in found.audit if a.status == "broken")
    return (*damaged, *weak, *repeats, *broken)


def _product_faults(findings: Mapping[int, RoundFindings], gate: Sequence[Evidence]) -> tuple[str, ...]:
    wrong = (f"correctness gate: {_sentence(e)}" for e in gate if e.status is Status.BROKEN)
    return (*(fault for f in findings.values() for fault in f.product_faults), *wrong)


def _trials_and_claims(
    plan: Plan, view: StackView, rounds: Sequence[Round], findings: Mapping[int, RoundFindings]
) -> tuple[tuple[Trial, ...], tuple[Claim, ...]]:
    """All trials with what makes some of them invalid, and the claims as the valid ones show them."""
    trials = trials_of(rounds, findings, quick=plan.quick)
    return _claims_of_fine_trials(plan, rounds, tuple(_with_rung(t, findings, view, plan) for t in trials))


def _state(plan: Plan, view: StackView, found: _Found) -> dict[str, Any]:
    return {
        "valid_trials": sum(t.valid for t in found.trials),
        "invalid_trials": sum(not t.valid for t in found.trials),
        "rung": found.rung.reached,
        "rung_out_of_reach": bool(found.trials) and not is_within_reach(plan, view),
    }


def _beside(plan: Plan, rounds: Sequence[Round], found: _Found, *, open_run: bool) -> dict[str, Any]:
    """What stands beside the verdict: remarks, feasibility, and of an undecided run its outlook and what settles it."""
    used, valid = rounds_of_valid_trials(rounds, found.trials), sum(t.valid for t in found.trials)
    sides: dict[str, Any] = dict.fromkeys(("remarks", "feasibility", "outlook", "settlement"))
    if not valid:
        return sides | {"remarks": []}
    starts = sum(r.phase is Phase.LEFT_OUT for r in rounds)  # the first round of every start of the stack
    sides["remarks"] = [asdict(one) for one in remarks(plan.targets, used, sessions=starts)]
    if plan.workload.in_flight_cap is not None:  # the formula is that of a closed loop
        sides["feasibility"] = feasibility_of(plan.targets, used)
    if open_run and not plan.quick:
        sides["outlook"] = outlook_of(plan.targets, plan.looks, found.claims, used, valid)
        sides["settlement"] = settlement_of(found.claims, trial_seconds(used))
    return sides


def _claims_of_fine_trials(
    plan: Plan, rounds: Sequence[Round], trials: tuple[Trial, ...]
) -> tuple[tuple[Trial, ...], tuple[Claim, ...]]:
    """The claims, judged without the trials for which the client was too coarse; these are invalid."""
    claims = _claims(plan, rounds, trials)
    checked = tuple(_with_bias(plan, claims, rounds, trial) for trial in trials)
    return checked, claims if checked == trials else _claims(plan, rounds, checked)


def _claims(plan: Plan, rounds: Sequence[Round], trials: Sequence[Trial]) -> tuple[Claim, ...]:
    if not trials:
        return _described(plan, rounds)
    valid = sum(t.valid for t in trials)
    used = rounds_of_valid_trials(rounds, trials)
    return judge_claims(plan.targets, used, looks=plan.looks, trials=valid, quick=plan.quick)


def _described(plan: Plan, rounds: Sequence[Round]) -> tuple[Claim, ...]:
    """A run that ended before its first trial was complete: its claims are described, never judged."""
    chain = tuple(r for r in rounds if r.phase is Phase.CHAIN)
    claims = judge_claims(plan.targets, chain, looks=plan.looks, trials=0, quick=True)
    why, why_zh = "the run ended before its first trial was complete", "运行在第一组试验完成之前已结束"
    return tuple(
        replace(
            claim,
            verdict=Verdict.INCONCLUSIVE,
            reason=f"{claim.title}: not tested: {why}",
            details={**claim.details, "reason_zh": f"{claim.title}：未检验：{why_zh}"},
        )
        for claim in claims
    )


def _with_bias(plan: Plan, claims: Sequence[Claim], rounds: Sequence[Round], trial: Trial) -> Trial:
    """A trial whose claims the client's own measured bias could have moved too far is invalid."""
    at = {r.round: r for r in rounds}
    cold, warm = at[trial.cold], at[trial.warm]
    if not trial.valid:
        return trial
    slots = closed_loop_slots(plan)
    sides = [_biased(one, slots) for one in (cold, warm)]
    if cold.client.bias_ms is None or warm.client.bias_ms is None:  # what is not known is held against nobody
        sides = [replace(one, bias_ms=0.0, itl_bias_ms=0.0, error_p99_ms=None) for one in sides]
    reason = coarseness(plan.targets.claims, claims, *sides)
    return replace(trial, valid=False, reasons=(*trial.reasons, reason)) if reason else trial


def _biased(measured: Round, slots: int | None) -> BiasedRound:
    client = measured.client
    return BiasedRound(
        summary=summarise((measured,)),
        bias_ms=client.bias_ms or 0.0,
        itl_bias_ms=client.itl_bias_ms,
        error_p99_ms=client.error_p99_ms,
        idle_share=0.0 if slots is None else idle_share(measured.requests, slots),
    )


def _product_claims(plan: Plan, view: StackView, rounds: Sequence[Round], trials: int) -> tuple[Claim, ...]:
    """What no test is needed for: nothing failed, and every warm round was served. All rounds count, none is rerun."""
    requests = [record for r in rounds if not is_refused_round(r, view) for record in r.requests]
    failed = sum(record.error is not None for record in requests)
    shares = [
        warm_hit_share(r, view, reference=_reference(r, rounds), least=plan.targets.warm_hit_share, rounds=rounds)
        for r in rounds
        if r.kind is Kind.WARM and r.phase is Phase.CHAIN
    ]
    return (
        failures_claim(failed, len(requests), trials=trials),
        hit_share_claim(shares, plan.targets.warm_hit_share, trials=trials),
    )


def _evidence_of(rounds: Sequence[Round], findings: Mapping[int, RoundFindings]) -> tuple[Evidence, ...]:
    return tuple(e for r in rounds for e in findings[r.round].evidence)


def _with_rung(trial: Trial, findings: Mapping[int, RoundFindings], view: StackView, plan: Plan) -> Trial:
    """A trial whose own evidence ends below the least rung is invalid: a scrape failed, a counter vanished."""
    members = (number for number in (trial.cold, trial.warm, trial.cold_after) if number is not None)
    rung = judge_rung(plan.evidence, view, tuple(e for number in members for e in findings[number].evidence))
    if rung.enough:
        return trial
    return replace(trial, valid=False, reasons=(*trial.reasons, rung.reason))


def is_within_reach(plan: Plan, view: StackView) -> bool:
    """Whether the least rung can be reached on this stack at all: repeating a trial cannot bring counters about."""
    if plan.evidence is Rung.STORE:
        return view.store is not None
    if plan.evidence is Rung.ENGINE:
        return any(engine.metrics_url for engine in view.engines)
    return True


def _notes(rung: RungJudgement, run_notes: RunNotes) -> tuple[str, ...]:
    tier = (rung.reason,) if rung.enough and rung.reason else ()
    workload = (f"workload: {note}" for note in run_notes.workload_notes)
    return (*tier, *run_notes.casualties, *workload, *run_notes.client_notes, *run_notes.store_notes)


def _unfinished(plan: Plan, ended: str | None, failure: str | None) -> tuple[str, ...]:
    """What stopped a run before it was decided, as a sentence."""
    if ended is None or ended == DECIDED:
        return ()
    if ended == TIME_LIMIT:
        limit = f"the run's time limit of {plan.timeouts.run_s:g} s was reached before it was decided"
        return (f"{limit}: raise --mooncake-timeout run=S, or send fewer or shorter requests",)
    if failure:
        return (f"the run ended before it was decided: {failure}",)
    return ("the run was interrupted before it was decided",)


def _with_end(why: Sequence[str], unfinished: Sequence[str], *, first: bool) -> tuple[str, ...]:
    """The reasons with how the run ended: before them where it broke down, among them where that decided, else last."""
    others = tuple(reason for reason in why if reason not in unfinished)
    if first:
        return (*unfinished, *others)
    return tuple(why) if len(others) < len(why) else (*others, *unfinished)


def is_decided(plan: Plan, judgement: Judgement) -> bool:
    """Whether more trials could not change the verdict, or may not be run."""
    details = judgement.details
    if details["product_fault"] or details["rung_out_of_reach"] or details["invalid_trials"] > repeats_allowed(plan):
        return True
    if any(claim.verdict is Verdict.FAIL and claim.details.get("abort_on_fail") for claim in judgement.claims):
        return True
    valid = details["valid_trials"]
    if valid >= max(plan.looks):
        return True
    return valid in plan.looks and judgement.verdict in {Verdict.PASS, Verdict.FAIL, Verdict.INVALID}
