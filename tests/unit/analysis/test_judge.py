"""From evidence and claims to a verdict: whose fault it is decides, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pytest_mooncake.analysis import judge as judge_module
from pytest_mooncake.analysis.judge import is_decided, is_within_reach, judge
from pytest_mooncake.analysis.trials import repeats_allowed, rounds_of_valid_trials
from pytest_mooncake.journal import CRASHED, DECIDED, FAILED, INTERRUPTED, KILLED, TIME_LIMIT
from pytest_mooncake.plan.hardware import Machine
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import (
    CORRECTNESS,
    ClientHealth,
    Engine,
    Evidence,
    Fault,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    Phase,
    PlannedReuse,
    ProbeAnswer,
    ProbeRole,
    Round,
    Rung,
    RunNotes,
    StackView,
    Verdict,
)
from tests.support.judged_chains import VIEW, Script, a_round, chain, claim, noisy_chain


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return resolve(Options(), tmp_path)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    one = Script()
    monkeypatch.setattr(judge_module, "round_evidence", one.round_evidence)
    monkeypatch.setattr(judge_module, "judge_claims", one.judge_claims)
    return one


def test_claims_that_pass_on_sound_evidence_are_a_pass(plan: Plan, script: Script) -> None:
    judgement = judge(plan, VIEW, chain(3))
    assert judgement.verdict is Verdict.PASS
    assert script.judged == (1, 2, 3, 4, 5, 6, 7), "the left-out round enters no figure"
    assert script.trials == 3
    assert is_decided(plan, judgement)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_product_fault_in_any_round_is_a_fail_even_of_the_left_out_one(
    plan: Plan, script: Script, number: int
) -> None:
    script.faults = {number: Fault.PRODUCT}
    judgement = judge(plan, VIEW, chain(3))
    assert judgement.verdict is Verdict.FAIL
    assert f"round {number}" in judgement.reasons[0]
    assert "scripted: expected 0, observed 7; why" in judgement.reasons[0]
    assert is_decided(plan, judgement)


def test_an_instrument_fault_makes_its_trials_invalid_and_leaves_the_others(plan: Plan, script: Script) -> None:
    script.faults = {2: Fault.INSTRUMENT}
    judgement = judge(plan, VIEW, chain(3))
    assert [t.valid for t in judgement.trials] == [False, True, True]
    assert judgement.verdict is Verdict.PASS
    assert script.judged == (3, 4, 5, 6, 7)


def test_a_fault_in_a_shared_cold_round_makes_both_its_trials_invalid(plan: Plan, script: Script) -> None:
    script.faults = {3: Fault.INSTRUMENT}
    assert [t.valid for t in judge(plan, VIEW, chain(3)).trials] == [False, False, True]


def test_product_faults_come_before_instrument_faults(plan: Plan, script: Script) -> None:
    script.faults = {number: Fault.INSTRUMENT for number in range(1, 12)} | {12: Fault.PRODUCT}
    assert judge(plan, VIEW, chain(6)).verdict is Verdict.FAIL


def test_more_invalid_trials_than_may_be_repeated_make_the_run_invalid(plan: Plan, script: Script) -> None:
    assert repeats_allowed(plan) == 3
    script.faults = {2: Fault.INSTRUMENT, 4: Fault.INSTRUMENT, 6: Fault.INSTRUMENT}
    assert judge(plan, VIEW, chain(6)).verdict is Verdict.PASS
    script.faults[8] = Fault.INSTRUMENT
    judgement = judge(plan, VIEW, chain(6))
    assert judgement.verdict is Verdict.INVALID
    assert "4 trials were invalid, 3 may be repeated" in judgement.reasons[0]
    assert is_decided(plan, judgement)


def test_invalid_comes_before_a_missed_claim(plan: Plan, script: Script) -> None:
    script.claims = (claim(Verdict.FAIL),)
    script.faults = {number: Fault.INSTRUMENT for number in (2, 4, 6, 8)}
    assert judge(plan, VIEW, chain(6)).verdict is Verdict.INVALID


def test_a_missed_claim_is_a_fail_with_its_reason(plan: Plan, script: Script) -> None:
    script.claims = (claim(Verdict.PASS), claim(Verdict.FAIL), claim(Verdict.INCONCLUSIVE))
    judgement = judge(plan, VIEW, chain(3))
    assert judgement.verdict is Verdict.FAIL
    assert any("it is FAIL" in reason for reason in judgement.reasons)


def test_an_undecided_claim_leaves_the_run_open_until_the_last_look(plan: Plan, script: Script) -> None:
    script.claims = (claim(Verdict.INCONCLUSIVE),)
    early, late = judge(plan, VIEW, chain(3)), judge(plan, VIEW, chain(10))
    assert early.verdict is late.verdict is Verdict.INCONCLUSIVE
    assert not is_decided(plan, early)
    assert is_decided(plan, late)


def test_nothing_is_decided_between_two_looks(plan: Plan, script: Script) -> None:
    assert not is_decided(plan, judge(plan, VIEW, chain(2)))
    assert not is_decided(plan, judge(plan, VIEW, chain(7)))
    assert is_decided(plan, judge(plan, VIEW, chain(8)))


def test_a_trial_whose_counters_could_not_be_read_is_invalid_not_failed(plan: Plan, script: Script) -> None:
    script.unreadable = {2}
    judgement = judge(plan, VIEW, chain(3))
    assert [t.valid for t in judgement.trials] == [False, True, True]
    assert "scrape failed" in judgement.trials[0].reasons[0]
    assert judgement.verdict is Verdict.PASS


def test_a_rung_that_cannot_be_reached_makes_the_run_invalid_and_says_what_would_accept_less(
    plan: Plan, script: Script
) -> None:
    script.unreadable = set(range(20))
    judgement = judge(plan, replace(VIEW, store=None), chain(1))
    assert judgement.verdict is Verdict.INVALID
    assert "--mooncake-evidence" in judgement.reasons[0]
    assert is_decided(plan, judgement)


def test_a_pass_below_the_stores_counters_says_that_the_tier_is_unproven(plan: Plan, script: Script) -> None:
    script.unreadable = set(range(20))
    accepting = plan.model_copy(update={"evidence": Rung.TIMING})
    judgement = judge(accepting, replace(VIEW, store=None), chain(3))
    assert judgement.verdict is Verdict.PASS
    assert any("tier unproven" in reason for reason in judgement.reasons)


def test_a_saturated_client_makes_the_trial_invalid(plan: Plan, script: Script) -> None:
    rounds = list(chain(3))
    rounds[4] = replace(rounds[4], client=ClientHealth(cpu_peak_share=0.99))
    judgement = judge(plan, VIEW, rounds)
    assert [t.valid for t in judgement.trials] == [True, False, True]
    assert "the client was the limit" in judgement.trials[1].reasons[0]


def test_wrong_text_from_the_cache_fails_a_run_whose_claims_all_pass(plan: Plan, script: Script) -> None:
    cold = ProbeAnswer(
        case="document",
        role=ProbeRole.COLD,
        engine=0,
        prompt_tokens=9,
        cached_tokens=0,
        tokens=("a",),
        logprobs=(-0.1,),
        top=({"a": -0.1, "b": -3.0},),
    )
    right = replace(cold, role=ProbeRole.WARM, cached_tokens=8)
    wrong = replace(right, tokens=("b",), top=({"b": -0.1, "a": -3.0},))
    assert judge(plan, VIEW, chain(3), run_notes=RunNotes(probes=(cold, right))).verdict is Verdict.PASS
    judgement = judge(plan, VIEW, chain(3), run_notes=RunNotes(probes=(cold, wrong)))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reasons[0].startswith(
        "correctness gate: correct_text: expected log-probabilities as without cache"
    )
    assert judgement.details["product_fault"]
    assert {e.id for e in judgement.evidence if e.round is None} >= {"correct_text", "probes_answered"}


def test_what_stays_in_the_store_is_said_with_any_verdict(plan: Plan, script: Script) -> None:
    note = "keys of this run stay in the store: no RPC"
    judgement = judge(plan, VIEW, chain(3), run_notes=RunNotes(store_notes=(note,)))
    assert judgement.verdict is Verdict.PASS
    assert note in judgement.reasons


def test_a_component_that_died_is_named_before_what_stays_in_the_store(plan: Plan, script: Script) -> None:
    dead, note = "vllm-0 is no longer running; its log: a.log; Killed", "keys of this run stay in the store: no RPC"
    judgement = judge(plan, VIEW, chain(3), run_notes=RunNotes(store_notes=(note,), casualties=(dead,)))
    assert judgement.reasons[-2:] == (dead, note)


def test_an_interrupted_run_says_so(plan: Plan, script: Script) -> None:
    script.claims = (claim(Verdict.INCONCLUSIVE),)
    judgement = judge(plan, VIEW, chain(1), ended="interrupted")
    assert "interrupted" in judgement.reasons[-1]
    assert judgement.details["unfinished"] == "interrupted"
    assert judge(plan, VIEW, chain(1)).details["unfinished"] is None


def test_a_run_whose_time_was_over_says_so_and_which_option_gives_it_more(plan: Plan, script: Script) -> None:
    script.claims = (claim(Verdict.INCONCLUSIVE),)
    judgement = judge(plan, VIEW, chain(1), ended=TIME_LIMIT)
    assert judgement.reasons[-1].startswith("the run's time limit of 21600 s was reached before it was decided: raise")
    assert "--mooncake-timeout run=S" in judgement.reasons[-1]
    assert judgement.details["unfinished"] == "time_limit"


def test_what_of_the_workload_was_not_as_asked_is_said_with_the_verdict(plan: Plan, script: Script) -> None:
    judgement = judge(plan, VIEW, chain(3), run_notes=RunNotes(workload_notes=("qa: 1 of 8 documents are used",)))
    assert judgement.verdict is Verdict.PASS
    assert "workload: qa: 1 of 8 documents are used" in judgement.reasons


def test_what_the_client_lacked_is_said_with_the_verdict(plan: Plan, script: Script) -> None:
    judgement = judge(plan, VIEW, chain(3), run_notes=RunNotes(client_notes=("stamped late",)))
    assert judgement.verdict is Verdict.PASS
    assert "stamped late" in judgement.reasons


def test_requests_are_counted_against_what_the_round_planned(plan: Plan, script: Script) -> None:
    judge(plan, VIEW, chain(3))
    assert script.planned == plan.workload.requests
    planned = PlannedReuse(
        requests=7,
        chunk_tokens=256,
        chunks=1,
        distinct_chunks=1,
        cold_chunks=0,
        cold_cached_tokens=0,
        warm_cached_tokens=0,
    )
    judge(plan, VIEW, tuple(replace(one, planned=planned) for one in chain(3)))
    assert script.planned == 7


def test_a_quick_run_with_an_instrument_fault_is_invalid(plan: Plan, script: Script) -> None:
    script.faults = {1: Fault.INSTRUMENT}
    quick = plan.model_copy(update={"quick": True})
    judgement = judge(quick, VIEW, chain(1)[1:3])
    assert judgement.verdict is Verdict.INVALID


def test_figures_are_made_of_the_members_of_valid_trials_only(plan: Plan, script: Script) -> None:
    script.faults = {5: Fault.INSTRUMENT}
    judgement: Judgement = judge(plan, VIEW, chain(4))
    assert [r.round for r in rounds_of_valid_trials(chain(4), judgement.trials)] == [1, 2, 3, 7, 8, 9]


def test_two_claims_need_no_test_and_stand_after_the_targets(plan: Plan, script: Script) -> None:
    judgement = judge(plan, VIEW, chain(3))
    assert [(c.id, c.verdict, c.gating) for c in judgement.claims[-2:]] == [
        ("failures", Verdict.PASS, True),
        ("warm_hit_share", Verdict.PASS, True),
    ]
    assert "0 of 8 requests failed" in judgement.claims[-2].reason
    assert judgement.claims[-1].details["shares"] == (1.0, 1.0, 1.0)


def test_one_failed_request_of_any_round_fails_the_run_even_beside_invalid_trials(plan: Plan, script: Script) -> None:
    rounds = list(chain(3))
    rounds[0] = replace(rounds[0], requests=(replace(rounds[0].requests[0], error="refused"),))
    script.faults = {number: Fault.INSTRUMENT for number in range(1, 8)}
    judgement = judge(plan, VIEW, rounds)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reasons == ("1 of 8 requests failed; none may",)
    assert is_decided(plan, judgement)


def test_one_warm_round_that_was_not_served_fails_the_run(plan: Plan, script: Script) -> None:
    rounds = list(chain(3))
    rounds[4] = replace(rounds[4], requests=(replace(rounds[4].requests[0], cached_tokens=505),))
    judgement = judge(plan, VIEW, rounds)
    assert judgement.verdict is Verdict.FAIL
    assert "worst warm round served 98.83 % of the expected tokens; at least 99 % asked" in judgement.reasons[0]
    assert is_decided(plan, judgement)


def test_the_share_of_hits_that_is_asked_for_is_the_targets(plan: Plan, script: Script) -> None:
    rounds = list(chain(3))
    rounds[4] = replace(rounds[4], requests=(replace(rounds[4].requests[0], cached_tokens=505),))
    lenient = plan.model_copy(update={"targets": plan.targets.model_copy(update={"warm_hit_share": 0.98})})
    assert judge(lenient, VIEW, rounds).verdict is Verdict.PASS


def test_a_server_that_tells_nothing_of_its_cache_leaves_the_share_open_not_failed(plan: Plan, script: Script) -> None:
    silent = [replace(r, requests=(replace(r.requests[0], cached_tokens=None),)) for r in chain(3)]
    judgement = judge(plan, VIEW, silent)
    share = judgement.claims[-1]
    assert (share.verdict, share.gating) == (Verdict.INCONCLUSIVE, False)
    assert judgement.verdict is Verdict.PASS


def test_without_a_gating_target_a_sound_run_is_not_accepted(plan: Plan, script: Script) -> None:
    script.claims = (replace(claim(Verdict.PASS), gating=False),)
    judgement = judge(plan, VIEW, chain(3))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "no claim of the targets gates" in judgement.reasons[0]


@pytest.fixture
def evidence_only(monkeypatch: pytest.MonkeyPatch) -> Script:
    one = Script()
    monkeypatch.setattr(judge_module, "round_evidence", one.round_evidence)
    return one


def test_what_stands_beside_the_verdict_is_plain_and_in_both_languages(plan: Plan, evidence_only: Script) -> None:
    details = judge(plan, VIEW, noisy_chain(3, 30)).details
    assert orjson.loads(orjson.dumps(details))["remarks"][-1]["id"] == "confidence"
    assert {"control", "tail", "prompts", "confidence"} <= {one["id"] for one in details["remarks"]}
    assert all(one["text"] and one["text_zh"] for one in details["remarks"])
    assert details["feasibility"]["k"] == pytest.approx(0.1, rel=0.05)
    assert details["feasibility"]["asked_ratio"] == 2.5
    assert "TTFT cut of 70 %" in details["feasibility"]["text"]


def test_an_undecided_run_says_how_long_it_will_take_and_after_the_last_look_what_would_settle_it(
    plan: Plan, evidence_only: Script
) -> None:
    early, late = judge(plan, VIEW, noisy_chain(3, 34)), judge(plan, VIEW, noisy_chain(10, 34))
    assert early.verdict is late.verdict is Verdict.INCONCLUSIVE
    assert early.details["outlook"]["trials"][0] >= 4
    assert early.details["outlook"]["binding"] in {"ttft_mean", "request_throughput", "tpot_mean"}
    assert early.details["outlook"]["minutes"][1] >= early.details["outlook"]["minutes"][0] > 0
    assert late.details["outlook"] is None
    assert late.details["settlement"]["binding"] in {"ttft_mean", "request_throughput"}
    assert late.details["settlement"]["text_zh"]


def test_before_the_first_look_and_after_a_decision_there_is_no_outlook(plan: Plan, evidence_only: Script) -> None:
    waiting, decided = judge(plan, VIEW, noisy_chain(1, 30)), judge(plan, VIEW, noisy_chain(3, 20))
    assert (waiting.verdict, decided.verdict) == (Verdict.INCONCLUSIVE, Verdict.PASS)
    assert waiting.details["outlook"] is decided.details["outlook"] is None
    assert waiting.details["settlement"] is decided.details["settlement"] is None
    assert waiting.details["feasibility"] is not None, "it warns before more time is spent"


def test_a_client_too_coarse_for_a_claim_makes_its_trials_invalid(plan: Plan, evidence_only: Script) -> None:
    fine, coarse = noisy_chain(3, 30, bias_ms=0.1), noisy_chain(3, 30, bias_ms=8.0)
    assert [t.valid for t in judge(plan, VIEW, fine).trials] == [True, True, True]
    judgement = judge(plan, VIEW, coarse)
    assert [t.valid for t in judgement.trials] == [False, False, False]
    assert "the client was too coarse for mean TTFT: its bias of +8.00 ms" in judgement.trials[0].reasons[0]
    assert judgement.verdict is not Verdict.PASS
    assert judgement.details["valid_trials"] == 0


def test_only_the_trials_with_that_bias_are_invalid_and_the_claims_are_judged_again(
    plan: Plan, evidence_only: Script
) -> None:
    rounds = list(noisy_chain(4, 30, bias_ms=0.1))
    rounds[8] = replace(rounds[8], client=ClientHealth(bias_ms=8.0))
    judgement = judge(plan, VIEW, rounds)
    assert [t.valid for t in judgement.trials] == [True, True, True, False]
    assert judgement.claims[0].trials == 3
    assert judgement.verdict is Verdict.PASS


def test_a_bias_that_is_not_known_is_not_held_against_anybody(plan: Plan, evidence_only: Script) -> None:
    rounds = [replace(r, client=ClientHealth(bias_ms=8.0 if r.kind is Kind.COLD else None)) for r in noisy_chain(3, 30)]
    assert all(t.valid for t in judge(plan, VIEW, rounds).trials)


def test_a_warm_round_is_compared_with_the_cold_one_before_it_and_a_cold_one_with_any_other(
    plan: Plan, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, int | None] = {}

    def evidence(
        this: Round, view: StackView, *, reference: Round | None, planned: int, **_: object
    ) -> tuple[Evidence, ...]:
        seen[this.round] = None if reference is None else reference.round
        return script.round_evidence(this, view, planned=planned)

    monkeypatch.setattr(judge_module, "round_evidence", evidence)
    judge(plan, VIEW, chain(2))
    assert seen == {0: 1, 1: 0, 2: 1, 3: 0, 4: 3, 5: 0}
    seen.clear()
    judge(plan, VIEW, chain(1)[:1])
    assert seen == {0: None}


@pytest.mark.parametrize(
    ("rung", "store", "metrics", "reachable"),
    [
        (Rung.STORE, True, False, True), (Rung.STORE, False, True, False), (Rung.ENGINE, False, True, True),
        (Rung.ENGINE, True, False, False), (Rung.USAGE, False, False, True), (Rung.TIMING, False, False, True),
    ],
)  # fmt: skip
def test_a_rung_is_within_reach_where_its_counters_are(
    plan: Plan, rung: Rung, store: bool, metrics: bool, reachable: bool
) -> None:
    engine = Engine(url="http://127.0.0.1:1", metrics_url="x" if metrics else None)
    view = replace(VIEW, engines=(engine,), store=VIEW.store if store else None)
    assert is_within_reach(plan.model_copy(update={"evidence": rung}), view) is reachable


def test_a_warm_round_without_its_cold_neighbours_is_no_trial(plan: Plan, script: Script) -> None:
    whole = chain(2)
    without_first = tuple(r for r in whole if r.round != 1)
    assert [t.warm for t in judge(plan, VIEW, without_first).trials] == [4]
    unfinished = whole[:-1]
    assert [t.warm for t in judge(plan, VIEW, unfinished).trials] == [2]
    quick = plan.model_copy(update={"quick": True})
    assert [(t.warm, t.cold_after) for t in judge(quick, VIEW, whole[1:3]).trials] == [(2, None)]
    assert judge(quick, VIEW, whole[2:3]).trials == ()


def test_as_many_invalid_trials_as_may_be_repeated_leave_the_run_open(plan: Plan, script: Script) -> None:
    script.claims = (claim(Verdict.INCONCLUSIVE),)
    script.faults = {2: Fault.INSTRUMENT, 4: Fault.INSTRUMENT, 6: Fault.INSTRUMENT}
    judgement = judge(plan, VIEW, chain(6))
    assert (judgement.details["invalid_trials"], judgement.details["valid_trials"]) == (3, 3)
    assert not is_decided(plan, judgement)


def test_the_reason_of_too_many_repeats_tells_the_first_fault(plan: Plan, script: Script) -> None:
    script.faults = dict.fromkeys((2, 4, 6, 8), Fault.INSTRUMENT)
    reason = judge(plan, VIEW, chain(6)).reasons[0]
    assert reason == (
        "4 trials were invalid, 3 may be repeated (first: round 2 (warm): scripted: expected 0, observed 7; why)"
    )


def test_two_starts_of_the_stack_are_seen_by_their_left_out_rounds(plan: Plan, evidence_only: Script) -> None:
    one = noisy_chain(3, 30)
    other = a_round(20, Kind.COLD, 0, phase=Phase.LEFT_OUT, segment=0)
    told = [judge(plan, VIEW, rounds).details["remarks"][-1]["text"] for rounds in (one, (*one, other))]
    assert ["one engine start" in text for text in told] == [True, False]


def test_a_run_is_audited_against_the_machines_it_names(plan: Plan, evidence_only: Script) -> None:
    machine = Machine(
        name="m", hardware={"gpus": 1, "peak_tflops_per_gpu": 0.001}, model={"parameters": 1e9}, network_gbps=1
    )
    judgement = judge(plan.model_copy(update={"machine": machine}), VIEW, noisy_chain(3, 30))
    assert judgement.verdict is Verdict.INVALID
    assert any(reason.startswith("audit: compute:") for reason in judgement.reasons)
    assert {a.law: a.status for a in judge(plan, VIEW, noisy_chain(3, 30)).audit}["compute"] == "not_applicable"


def with_gate() -> RunNotes:
    answer = ProbeAnswer(case="document", role=ProbeRole.COLD, engine=0, prompt_tokens=1)
    return RunNotes(probes=(answer,), gates=(Gate(id=CORRECTNESS, status=GateStatus.MADE),))


@pytest.fixture
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "probe_evidence", lambda _answers: ())


def test_a_run_that_ended_by_itself_with_its_gate_is_a_pass(plan: Plan, script: Script, no_checks: None) -> None:
    judgement = judge(plan, VIEW, chain(3), ended=DECIDED, run_notes=with_gate())
    assert judgement.verdict is Verdict.PASS
    assert [gate.status for gate in judgement.gates] == [GateStatus.MADE]


@pytest.mark.parametrize("ended", [DECIDED, TIME_LIMIT, INTERRUPTED, FAILED, CRASHED, KILLED])
@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_a_run_without_its_gate_is_invalid_however_it_ended(
    plan: Plan, script: Script, ended: str, verdict: Verdict
) -> None:
    script.claims = (claim(verdict),)
    judgement = judge(plan, VIEW, chain(3), ended=ended)
    assert judgement.verdict is Verdict.INVALID
    assert judgement.reasons[0].startswith("the correctness gate was planned and not made")


@pytest.mark.parametrize("ended", [TIME_LIMIT, INTERRUPTED, FAILED, CRASHED, KILLED])
def test_a_run_that_has_its_gate_but_no_end_is_no_pass(plan: Plan, script: Script, no_checks: None, ended: str) -> None:
    judgement = judge(plan, VIEW, chain(3), ended=ended, run_notes=with_gate())
    assert judgement.verdict is Verdict.INVALID
    assert "before it was decided" in judgement.reasons[0]
    assert len(judgement.reasons) == len(set(judgement.reasons))


def test_a_run_that_was_undecided_anyway_stays_so_and_says_that_its_gate_is_missing(plan: Plan, script: Script) -> None:
    script.claims = (claim(Verdict.INCONCLUSIVE),)
    judgement = judge(plan, VIEW, chain(2), ended=KILLED)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("correctness gate was planned and not made" in reason for reason in judgement.reasons)


def test_a_product_fault_stays_a_fail_without_gate_and_without_end(plan: Plan, script: Script) -> None:
    script.faults = {2: Fault.PRODUCT}
    judgement = judge(plan, VIEW, chain(3)[:3], ended=KILLED)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.gates[0].status is GateStatus.NOT_APPLICABLE


def test_text_prompts_pass_without_the_gate_and_say_why(plan: Plan, script: Script) -> None:
    text = Gate(id=CORRECTNESS, status=GateStatus.NOT_APPLICABLE, reason="prompts were sent as text")
    judgement = judge(plan, VIEW, chain(3), ended=DECIDED, run_notes=RunNotes(gates=(text,)))
    assert (judgement.verdict, judgement.gates) == (Verdict.PASS, (text,))


def test_while_a_run_goes_on_its_gate_is_not_missing_yet(plan: Plan, script: Script) -> None:
    judgement = judge(plan, VIEW, chain(3))
    assert (judgement.verdict, judgement.gates) == (Verdict.PASS, ())


def test_what_broke_down_is_said_first_unless_the_product_is_at_fault(plan: Plan, script: Script) -> None:
    broke = RunNotes(failure="the stack did not start again for further trials: vllm died")
    script.claims = (claim(Verdict.INCONCLUSIVE),)
    judgement = judge(plan, VIEW, chain(2), ended=FAILED, run_notes=broke)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons[0] == f"the run ended before it was decided: {broke.failure}"
    assert judgement.details["unfinished"] == "failed"
    script.faults = {1: Fault.PRODUCT}
    assert "scripted" in judge(plan, VIEW, chain(2), ended=FAILED, run_notes=broke).reasons[0]
