"""What the judging makes of each observation over a run is what the catalogue of faults says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_mooncake.analysis import judge as judge_module
from pytest_mooncake.analysis.evidence.faults import CLIENT, RUN, Blame
from pytest_mooncake.analysis.judge import judge
from pytest_mooncake.analysis.regression.versus import NEW, OLD, compare_visits
from pytest_mooncake.journal import DECIDED, KILLED
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import (
    CORRECTNESS,
    AuditFinding,
    Claim,
    ClientHealth,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    Phase,
    ProbeAnswer,
    ProbeRole,
    Round,
    Rung,
    RunNotes,
    Verdict,
)
from tests.support import runs

MADE = Gate(id=CORRECTNESS, status=GateStatus.MADE)
ANSWERS = (ProbeAnswer(case="document", role=ProbeRole.COLD, engine=0, prompt_tokens=1),)
WHOLE = RunNotes(probes=ANSWERS, gates=(MADE,))
PLAN = runs.plan(evidence=Rung.TIMING, gates=(CORRECTNESS,))


def claim(verdict: Verdict = Verdict.PASS, **details: Any) -> Claim:
    return Claim(id="ttft_mean", title="TTFT", gating=True, verdict=verdict, reason=f"it is {verdict}", **details)


@pytest.fixture(autouse=True)
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong but what a test makes so."""
    monkeypatch.setattr(judge_module, "round_evidence", lambda *_args, **_options: ())
    monkeypatch.setattr(judge_module, "probe_evidence", lambda _answers: ())
    monkeypatch.setattr(judge_module, "judge_claims", lambda *_args, **_options: (claim(),))
    monkeypatch.setattr(judge_module, "warm_hit_share", lambda *_args, **_options: None)
    monkeypatch.setattr(judge_module, "audit_rounds", lambda *_args, **_options: ())


Make = Callable[[pytest.MonkeyPatch], Judgement]


def judged(rounds: tuple[Round, ...] = (), plan: Plan = PLAN, ended: str = DECIDED, **after: Any) -> Judgement:
    return judge(plan, runs.view(), rounds or runs.rounds(), ended=ended, run_notes=replace(WHOLE, **after))


def of_claims(monkeypatch: pytest.MonkeyPatch, made: Claim) -> Judgement:
    monkeypatch.setattr(judge_module, "judge_claims", lambda *_args, **_options: (made,))
    return judged()


def with_client(trials: int = 3, **health: Any) -> tuple[Round, ...]:
    return tuple(replace(one, client=ClientHealth(**health)) for one in runs.rounds(trials))


def unsound(monkeypatch: pytest.MonkeyPatch) -> Judgement:
    broken = AuditFinding(law="little", status="broken", left=4.0, right=8.0, detail="4 ≠ 8")
    monkeypatch.setattr(judge_module, "audit_rounds", lambda *_args, **_options: (broken,))
    return judged()


def unserved(monkeypatch: pytest.MonkeyPatch) -> Judgement:
    monkeypatch.setattr(judge_module, "warm_hit_share", lambda *_args, **_options: 0.5)
    return judged()


def coarse(monkeypatch: pytest.MonkeyPatch) -> Judgement:
    monkeypatch.setattr(judge_module, "coarseness", lambda *_args: "the client was too coarse")
    return judged()


def gate(status: GateStatus) -> Make:
    return lambda _: judged(gates=(Gate(id=CORRECTNESS, status=status, reason="prompts were text"),), probes=())


WORLDS: dict[str, tuple[Make, str]] = {
    "client/saturated": (lambda _: judged(with_client(cpu_peak_share=0.99)), "the client was the limit"),
    "client/too_coarse": (coarse, "the client was too coarse"),
    "trial/rung": (lambda _: judged(plan=PLAN.model_copy(update={"evidence": Rung.STORE})), "could not be had"),
    "record/damaged": (lambda _: judged(damage=("line 3 is altered",)), "the record is damaged: line 3"),
    "audit/broken": (unsound, "audit: little"),
    "run/rung": (lambda _: judged(plan=PLAN.model_copy(update={"evidence": Rung.STORE})), "could not be had"),
    "run/repeats": (lambda _: judged(with_client(5, cpu_peak_share=0.99)), "trials were invalid"),
    "run/gate_not_made": (gate(GateStatus.NOT_MADE), "planned and not made: prompts were text"),
    "run/gate_not_applicable": (gate(GateStatus.NOT_APPLICABLE), "it is PASS"),
    "run/cut": (lambda _: judged(ended=KILLED), "before it was decided"),
    "failures/failed": (lambda _: judged(runs.rounds(error="HTTP 500")), "requests failed; none may"),
    "warm_hit_share/claim": (unserved, "worst warm round served 50"),
    "claim/missed": (lambda patch: of_claims(patch, claim(Verdict.FAIL)), "it is FAIL"),
}
ELSEWHERE = {"failures/new_endpoint", "failures/old_endpoint", "internal_error/raised"}
"""What is not seen by judging a run's rounds: below, and in tests/unit/run/test_runner_ends.py."""
VERDICTS = {Blame.PRODUCT: Verdict.FAIL, Blame.INSTRUMENT: Verdict.INVALID, Blame.NONE: Verdict.PASS}


def test_every_observation_over_a_run_is_tried() -> None:
    assert {one.id for one in (*CLIENT, *RUN)} == {*WORLDS, *ELSEWHERE}
    assert judged().verdict is Verdict.PASS


@pytest.mark.parametrize("one", [one for one in (*CLIENT, *RUN) if one.id in WORLDS], ids=lambda one: one.id)
def test_what_is_seen_over_a_run_comes_to_what_the_catalogue_says(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make, said = WORLDS[one.id]
    found = make(monkeypatch)
    told = (*found.reasons, *(reason for trial in found.trials for reason in trial.reasons))
    assert any(said in reason for reason in told), told
    assert one.ours is one.shared
    if one.ours is Blame.UNKNOWN:
        assert found.verdict in {Verdict.INVALID, Verdict.INCONCLUSIVE}
    else:
        trials_alone = one in CLIENT and not any(trial.valid for trial in found.trials)
        assert trials_alone or found.verdict is VERDICTS[one.ours]


def test_a_cut_run_that_was_undecided_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "judge_claims", lambda *_args, **_options: (claim(Verdict.INCONCLUSIVE),))
    assert judged(ended=KILLED).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("segment", "name"), [(NEW, "failures/new_endpoint"), (OLD, "failures/old_endpoint")])
def test_failed_requests_of_a_comparison_are_blamed_on_the_endpoint_under_test_alone(segment: int, name: str) -> None:
    failed = runs.chain_round(1, error="HTTP 500")
    visit = [
        replace(failed, round=n, kind=kind, phase=Phase.VERSUS, segment=segment, position=1)
        for n, kind in enumerate(Kind)
    ]
    found = compare_visits(visit, (3, 4))
    blame = next(one.ours for one in RUN if one.id == name)
    assert found is not None
    assert found.verdict is (Verdict.FAIL if blame is Blame.PRODUCT else Verdict.INCONCLUSIVE)
