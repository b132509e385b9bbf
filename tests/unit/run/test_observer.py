"""What people are told as a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.journal import Journal, read
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import CORRECTNESS, Gate, GateStatus, Judgement, ProbeAnswer, ProbeRole, Trial, Verdict
from pytest_mooncake.run.observer import RunObserver


class Said:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def tick(self, text: str) -> None:
        """Nobody watches."""


def after(trials: int, feasibility: dict[str, Any] | None) -> Judgement:
    return Judgement(
        verdict=Verdict.INCONCLUSIVE,
        reasons=(),
        claims=(),
        evidence=(),
        trials=(Trial(index=trials, segment=1, cold=1, warm=2, cold_after=3, valid=True),),
        details={"valid_trials": trials, "feasibility": feasibility},
    )


@pytest.mark.parametrize(
    ("found", "warnings"),
    [(None, 0), ({"feasible": True, "text": "fine"}, 0), ({"feasible": False, "text": "×1.4"}, 1)],
)
def test_targets_that_cannot_be_met_together_are_warned_of_once_and_early(
    tmp_path: Path, found: dict[str, Any] | None, warnings: int
) -> None:
    said = Said()
    with Journal(tmp_path / "run", resolve(Options(stack="simulated"), tmp_path)) as journal:
        observer = RunObserver(journal, said)
        observer.judged(after(1, found))
        observer.judged(after(2, found))
    assert [line for line in said.lines if line.startswith("after")] == [
        "after 1 trial, so far: INCONCLUSIVE",
        "after 2 trials, so far: INCONCLUSIVE",
    ]
    warned = [line for line in said.lines if line.startswith("WARNING: ×1.4")]
    assert len(warned) == warnings
    assert said.lines[1:2] == warned or not warned, "right after the first trial"


def test_what_is_going_to_be_cleared_is_said_once_and_before(tmp_path: Path) -> None:
    said = Said()
    with Journal(tmp_path / "run", resolve(Options(stack="simulated"), tmp_path)) as journal:
        observer = RunObserver(journal, said)
        for plan in (("a", "b"), ("a", "b"), ("a",)):
            observer.note("clearing", plan=plan)
            observer.note("cleared", plan=plan, outcome=())
    start = "clearing, as --mooncake-allow-clear permits: "
    assert said.lines == [f"{start}a; b", f"{start}a"]


def test_a_need_of_the_store_that_nobody_could_work_out_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    said = Said()
    with Journal(tmp_path / "run", resolve(Options(stack="simulated"), tmp_path)) as journal:
        observer = RunObserver(journal, said)
        observer.note("store_budget", sentence="the run will store 1 GB of at most 2 GB", known=True)
        observer.note("store_budget", sentence="how many bytes the run will store is not known", known=False)
    assert said.lines == ["WARNING: how many bytes the run will store is not known"]


def test_a_gate_and_its_answers_are_on_record_with_what_became_of_it(tmp_path: Path) -> None:
    said = Said()
    plan = resolve(Options(stack="simulated"), tmp_path)
    answer = ProbeAnswer(case="document", role=ProbeRole.COLD, engine=0, prompt_tokens=1, error="HTTP 500")
    made, other = Gate(id=CORRECTNESS, status=GateStatus.MADE), GateStatus.NOT_APPLICABLE
    with Journal(tmp_path / "run", plan) as journal:
        RunObserver(journal, said).probed((answer, answer), made)
    with Journal(tmp_path / "text", plan) as journal:
        RunObserver(journal, said).probed((), Gate(id=CORRECTNESS, status=other, reason="prompts were sent as text"))
    assert read(tmp_path / "run").run_notes.gates == (made,)
    assert read(tmp_path / "run").run_notes.probes == (answer, answer)
    assert read(tmp_path / "text").run_notes.gates[0].status is other
    assert read(tmp_path / "text").run_notes.probes == ()
    assert said.lines == [
        "correctness gate: 2 short requests, 2 FAILED",
        "correctness gate: not applicable: prompts were sent as text",
    ]
