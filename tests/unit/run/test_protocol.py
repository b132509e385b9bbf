"""The protocol: which rounds are sent in which order, and what ends a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pytest_mooncake.analysis.claims.gates import ENDED_BY_FAULT
from pytest_mooncake.analysis.trials import RoundFindings, trials_of
from pytest_mooncake.errors import EndpointError
from pytest_mooncake.load.spec import RoundResult
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import (
    CORRECTNESS,
    ClientHealth,
    Engine,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    Phase,
    PlannedRequest,
    PlannedReuse,
    ProbeAnswer,
    ProbeRole,
    RequestRecord,
    Round,
    Scrape,
    Settle,
    StackView,
    Verdict,
)
from pytest_mooncake.run.protocol import Experiment, Sent, Step

VIEW = StackView(name="s", provisioned=True, engines=(Engine(url="http://127.0.0.1:1"),), model="m")


@dataclass
class World:
    """A world in which rounds cost nothing; what the evidence and the claims say is scripted."""

    plan: Plan
    product_fault_in: int | None = None
    instrument_fault_in: frozenset[int] = frozenset()
    refusal: str | None = None
    verdict_at: dict[int, Verdict] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    planned: PlannedReuse | None = None

    @property
    def names(self) -> list[str]:
        return [step.name for step in self.steps]

    def requests(self, nonce: str, kind: Kind) -> Sequence[PlannedRequest]:
        return (PlannedRequest(index=0, prompt=nonce, prompt_tokens=1, output_tokens=1),)

    async def send(
        self, step: Step, requests: Sequence[PlannedRequest], on_record: Callable[[RequestRecord], None]
    ) -> Sent:
        self.steps.append(step)
        record = RequestRecord(
            round=step.round,
            kind=step.kind,
            phase=step.phase,
            index=0,
            prompt_tokens_planned=1,
            output_tokens_planned=1,
            intended_ns=0,
        )
        on_record(record)
        return Sent(result=RoundResult(started_ns=0, ended_ns=1, health=ClientHealth()), records=(record,))

    async def scrape(self) -> tuple[Scrape, ...]:
        return ()

    async def prepare(self, step: Step) -> None:
        self.told.append(f"prepares {step.name}")

    async def probe(self) -> tuple[tuple[ProbeAnswer, ...], Gate]:
        answer = ProbeAnswer(case="document", role=ProbeRole.COLD, engine=0, prompt_tokens=1)
        return (answer,), Gate(id=CORRECTNESS, status=GateStatus.MADE)

    async def settle(self, step: Step, before: tuple[Scrape, ...]) -> Settle:
        return Settle(seconds=0.0, settled=True, how="scripted")

    def nonce(self, number: int) -> str:
        return f"nonce-{number}"

    def judge_round(self, measured: Round, *_: object) -> RoundFindings:
        return RoundFindings(
            evidence=(),
            product_faults=("warm miss",) if measured.round == self.product_fault_in else (),
            instrument_faults=("lag",) if measured.round in self.instrument_fault_in else (),
            refusal=self.refusal,
        )

    def judge(self, rounds: tuple[Round, ...]) -> Judgement:
        trials = trials_of(rounds, {r.round: self.judge_round(r) for r in rounds}, quick=self.plan.quick)
        valid = sum(t.valid for t in trials)
        return Judgement(
            verdict=self.verdict_at.get(valid, Verdict.INCONCLUSIVE),
            reasons=(),
            claims=(),
            evidence=(),
            trials=trials,
            details={
                "valid_trials": valid,
                "invalid_trials": len(trials) - valid,
                "product_fault": False,
                "rung_out_of_reach": False,
            },
        )

    def round_starts(self, step: Step, planned: int) -> None:
        self.told.append(f"starts {step.name} {planned}")

    def request_done(self, record: RequestRecord) -> None:
        self.told.append(f"request {record.round}")

    def round_done(self, step: Step, measured: Round) -> None:
        self.told.append(f"done {step.name} {len(measured.requests)}")

    def probed(self, answers: tuple[ProbeAnswer, ...], gate: Gate) -> None:
        self.told.append(f"probed {len(answers)} {gate.status} {gate.reason}".rstrip())

    def judged(self, judgement: Judgement) -> None:
        self.told.append(f"judged {judgement.details['valid_trials']}")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return resolve(Options(), tmp_path)


async def lived(world: World, earlier: Sequence[Round] = (), *, decided: bool = True) -> Experiment:
    one = Experiment(world.plan, world, world, earlier)
    assert await one.run() is decided
    return one


async def test_a_run_is_one_round_left_out_and_a_chain_until_the_first_deciding_look(plan: Plan) -> None:
    world = World(plan, verdict_at={3: Verdict.PASS})
    await lived(world)
    assert world.names == ["left-out", "C0", "W1", "C1", "W2", "C2", "W3", "C3"]
    assert [s.phase for s in world.steps] == [Phase.LEFT_OUT] + [Phase.CHAIN] * 7


async def test_an_endpoint_that_refuses_all_of_the_first_round_ends_the_run_with_its_words(plan: Plan) -> None:
    world = World(plan, refusal="HTTP 400: unknown field ignore_eos")
    with pytest.raises(EndpointError, match="refused every request of the first round"):
        await lived(world)
    assert world.names == ["left-out"]


async def test_warm_rounds_repeat_the_prompts_of_the_cold_round_before_and_cold_rounds_never_do(plan: Plan) -> None:
    world = World(plan, verdict_at={3: Verdict.PASS})
    await lived(world)
    for before, step in zip(world.steps, world.steps[1:], strict=False):
        assert (step.nonce == before.nonce) == (step.kind is Kind.WARM)
    cold = [s.nonce for s in world.steps if s.kind is Kind.COLD]
    assert len(set(cold)) == len(cold)


async def test_a_verdict_between_looks_does_not_end_the_run(plan: Plan) -> None:
    world = World(plan, verdict_at={1: Verdict.PASS, 2: Verdict.FAIL, 7: Verdict.PASS, 8: Verdict.FAIL})
    await lived(world)
    assert world.names[-1] == "C8"


async def test_an_undecided_run_ends_at_the_last_look(plan: Plan) -> None:
    world = World(plan)
    await lived(world)
    assert world.names[-1] == "C10"
    assert len(world.names) == 22


@pytest.mark.parametrize("number", [0, 1, 2, 3])
async def test_a_product_fault_ends_the_run_with_the_round_it_was_found_in(plan: Plan, number: int) -> None:
    world = World(plan, product_fault_in=number)
    one = await lived(world)
    assert len(world.steps) == len(one.rounds) == number + 1


async def test_the_correctness_gate_runs_once_after_the_chain_unless_a_fault_was_found(plan: Plan) -> None:
    world = World(plan, verdict_at={3: Verdict.PASS})
    await lived(world)
    assert world.told[-1] == "probed 1 made"
    assert world.told.count("probed 1 made") == 1


async def test_a_gate_that_a_product_fault_makes_superfluous_is_said_not_to_apply(plan: Plan) -> None:
    broken = World(plan, product_fault_in=2)
    await lived(broken)
    assert broken.told[-1] == f"probed 0 not_applicable {ENDED_BY_FAULT}"


async def test_quick_runs_make_the_gate_too(plan: Plan) -> None:
    world = World(plan.model_copy(update={"quick": True}))
    await lived(world)
    assert world.told[-1] == "probed 1 made"


async def test_every_round_is_prepared_before_it_starts(plan: Plan) -> None:
    world = World(plan.model_copy(update={"quick": True}))
    await lived(world)
    starts = [line for line in world.told if line.startswith(("prepares", "starts"))]
    assert starts == ["prepares C0", "starts C0 1", "prepares W1", "starts W1 1"]


async def test_an_invalid_trial_starts_a_new_chain_with_a_fresh_cold_round(plan: Plan) -> None:
    world = World(plan, instrument_fault_in=frozenset({2}), verdict_at={3: Verdict.PASS})
    await lived(world)
    assert world.names[:5] == ["left-out", "C0", "W1", "C1", "C0"]
    assert [s.segment for s in world.steps[:5]] == [0, 1, 1, 1, 2]
    assert world.names[-1] == "C3"


async def test_more_than_a_third_of_the_trials_invalid_ends_the_run(plan: Plan) -> None:
    world = World(replace_looks(plan, (3,)), instrument_fault_in=frozenset(range(1, 100)))
    await lived(world)
    assert sum(name.startswith("W") for name in world.names) == 2, "one invalid trial may be repeated, two may not"


async def test_a_quick_run_is_the_specs_two_rounds(plan: Plan) -> None:
    world = World(plan.model_copy(update={"quick": True}))
    await lived(world)
    assert world.names == ["C0", "W1"]


async def test_records_are_told_one_by_one_and_rounds_when_they_end(plan: Plan) -> None:
    world = World(plan.model_copy(update={"quick": True}))
    await lived(world)
    rounds = [line for line in world.told if not line.startswith(("prepares", "probed"))]
    assert rounds == ["starts C0 1", "request 0", "done C0 1", "starts W1 1", "request 1", "done W1 1"]


def replace_looks(plan: Plan, looks: tuple[int, ...]) -> Plan:
    return plan.model_copy(update={"looks": looks})


def test_a_trial_without_its_last_cold_round_is_not_one_yet() -> None:
    base = Round(
        round=0,
        kind=Kind.COLD,
        phase=Phase.CHAIN,
        segment=1,
        position=0,
        nonce="n",
        started_ns=0,
        ended_ns=1,
        requests=(),
    )
    rounds = (base, replace(base, round=1, kind=Kind.WARM, position=1))
    nothing = RoundFindings(evidence=(), product_faults=(), instrument_faults=())
    assert trials_of(rounds, {0: nothing, 1: nothing}, quick=False) == ()
    (quick,) = trials_of(rounds, {0: nothing, 1: nothing}, quick=True)
    assert (quick.cold, quick.warm, quick.cold_after, quick.valid) == (0, 1, None, True)


async def test_a_start_that_has_had_its_share_of_trials_hands_its_rounds_to_the_next(plan: Plan) -> None:
    world = World(plan.model_copy(update={"sessions": 2}), verdict_at={3: Verdict.PASS})
    first = await lived(world, decided=False)
    assert world.names == ["left-out", "C0", "W1", "C1", "W2", "C2"]
    assert not any(line.startswith("probed") for line in world.told)

    world.steps.clear()
    second = await lived(world, first.rounds)
    assert world.names == ["left-out", "C0", "W1", "C1"]
    assert [r.round for r in second.rounds] == list(range(10))
    assert [r.segment for r in second.rounds] == [0, 1, 1, 1, 1, 1, 0, 2, 2, 2]
    assert world.told[-2:] == ["judged 3", "probed 1 made"]


async def test_only_valid_trials_of_its_own_count_towards_the_share_of_a_start(plan: Plan) -> None:
    world = World(plan.model_copy(update={"sessions": 2}), instrument_fault_in=frozenset({2}))
    first = await lived(world, decided=False)
    assert world.names == ["left-out", "C0", "W1", "C1", "C0", "W1", "C1", "W2", "C2"]
    world.steps.clear()
    await lived(world, first.rounds, decided=False)
    assert world.names == ["left-out", "C0", "W1", "C1", "W2", "C2"]


@pytest.mark.parametrize(
    ("first_look", "sessions", "share"),
    [(3, 1, None), (3, 2, 2), (3, 3, 1), (4, 2, 2), (4, 3, 1), (5, 2, 3), (10, 2, 5), (10, 4, 3), (7, 5, 1), (9, 4, 2)],
)
def test_the_share_of_a_start_lets_the_first_look_rest_on_as_many_starts_as_asked(
    plan: Plan, first_look: int, sessions: int, share: int | None
) -> None:
    spread = plan.model_copy(update={"sessions": sessions, "looks": (first_look, first_look + 5)})
    assert spread.trials_per_start == share
    assert share is None or -(-first_look // share) >= sessions
