"""However the measurement ends, its end is on record, and what stands is judged or kept."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from pytest_mooncake.analysis import judge
from pytest_mooncake.errors import StackError, UsageError
from pytest_mooncake.journal import (
    CRASHED,
    DECIDED,
    FAILED,
    INTERRUPTED,
    TIME_LIMIT,
    Journal,
    Recorded,
    append_event,
    read,
)
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import CORRECTNESS, Crash, Gate, GateStatus, ProbeAnswer, ProbeRole, Round, Verdict
from pytest_mooncake.report import exit_codes
from pytest_mooncake.report.formats.terminal import summary_lines
from pytest_mooncake.run import runner
from pytest_mooncake.run.observer import RunObserver
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import Outcome, conduct, reported
from tests.support.judged_chains import VIEW, Script, noisy_chain

ANSWER = ProbeAnswer(case="document", role=ProbeRole.COLD, engine=0, prompt_tokens=1)
End = Callable[[], None]


def nothing() -> None:
    """Goes on to the end."""


def raising(error: BaseException) -> End:
    def end() -> None:
        raise error

    return end


class Runs:
    """Runs whose rounds are there already: they end before, after or beside their gate as a test likes."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory / "run"
        self._patch = monkeypatch
        self.plan: Plan = resolve(Options(stack="simulated", evidence="timing"), directory)
        self.handed: list[Outcome] = []
        monkeypatch.setattr(judge, "round_evidence", Script().round_evidence)
        monkeypatch.setattr(judge, "probe_evidence", lambda _answers: ())

    def then(self, outcome: Outcome) -> Outcome:
        self.handed.append(outcome)
        return outcome

    def conduct(self, *, trials: int = 4, before_gate: End = nothing, after_gate: End = nothing) -> Outcome:
        def measure(_plan: Plan, _view: object, observer: RunObserver, _restart: object) -> int:
            rounds = noisy_chain(trials, 30)
            for one in rounds if trials else ():
                keep(observer, one)
            before_gate()
            observer.probed((ANSWER,), Gate(id=CORRECTNESS, status=GateStatus.MADE))
            after_gate()
            return len(rounds)

        self._patch.setattr(runner, "_measure", measure)
        return conduct(self.plan, VIEW, self.directory, Silent(), then=self.then)

    @property
    def record(self) -> Recorded:
        return read(self.directory)

    @property
    def verdict(self) -> int:
        return exit_codes.of_command(reported(self.record)[0])


def keep(observer: RunObserver, one: Round) -> None:
    for request in one.requests:
        observer._journal.request(request)
    observer._journal.round(one)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_a_run_that_is_decided_has_its_gate_on_record_before_its_end_and_is_handed_on(runs: Runs) -> None:
    outcome = runs.conduct()
    names = [orjson.loads(line)["event"] for line in (runs.directory / "events.jsonl").read_bytes().splitlines()]
    assert names[-3:] == ["probes", "gate", "run_end"]
    assert outcome.judgement.verdict is Verdict.PASS
    assert (runs.record.end, runs.verdict, runs.handed) == (DECIDED, 0, [outcome])


def test_a_run_whose_time_is_over_in_the_gate_is_invalid_and_says_so_first(runs: Runs) -> None:
    outcome = runs.conduct(before_gate=raising(runner._TimeIsOver()))
    assert outcome.judgement.verdict is Verdict.INVALID
    assert outcome.judgement.reasons[0].startswith("the correctness gate was planned and not made")
    assert (runs.record.end, runs.verdict, len(runs.handed)) == (TIME_LIMIT, 11, 1)


def test_a_run_that_is_interrupted_in_the_gate_is_reported_but_no_pass_and_not_handed_on(runs: Runs) -> None:
    with pytest.raises(KeyboardInterrupt):
        runs.conduct(before_gate=raising(KeyboardInterrupt()))
    assert (runs.record.end, runs.verdict, runs.handed) == (INTERRUPTED, 11, [])
    assert orjson.loads((runs.directory / "report.json").read_bytes())["verdict"] == "INVALID"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_what_is_done_with_the_outcome_ends_the_run_after_it(runs: Runs, number: signal.Signals) -> None:
    done = []

    def then(outcome: Outcome) -> Outcome:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        done.append(outcome.judgement.verdict)
        return outcome

    runs.then = then  # type: ignore[method-assign] # what a session would do
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            runs.conduct()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (runs.record.end, runs.verdict, done) == (DECIDED, 0, [Verdict.PASS])


def test_a_late_calibration_that_spoils_the_trials_is_in_the_one_judgement_that_everything_shows(runs: Runs) -> None:
    def calibrate() -> None:
        append_event(runs.directory, "calibration", when="after", bias_ms=50.0, itl_bias_ms=0.0, error_p99_ms=60.0)

    outcome = runs.conduct(before_gate=calibrate)
    assert outcome.judgement.verdict is Verdict.INVALID
    assert not any(trial.valid for trial in outcome.judgement.trials)
    assert reported(runs.record)[0].judgement == outcome.judgement
    told = orjson.loads((runs.directory / "verdict.json").read_bytes())
    assert (told["verdict"], told["exit_code"], runs.verdict) == ("INVALID", 11, 11)
    assert exit_codes.of_pytest(outcome.report) == 1
    assert "Verdict: INVALID" in summary_lines(outcome.report)


def test_a_stack_that_breaks_down_after_a_trial_is_judged_on_what_stands(runs: Runs) -> None:
    outcome = runs.conduct(trials=2, before_gate=raising(StackError("vllm did not start", ("a", "no memory"))))
    assert outcome.judgement.verdict is Verdict.INCONCLUSIVE
    assert outcome.judgement.reasons[0] == "the run ended before it was decided: vllm did not start; no memory"
    assert exit_codes.of_pytest(outcome.report) == 1
    assert (runs.record.end, runs.verdict, runs.handed) == (FAILED, 10, [outcome])
    assert "vllm did not start" in (runs.directory / "report.md").read_text(encoding="utf-8")


def test_a_stack_that_breaks_down_after_the_last_look_is_no_pass(runs: Runs) -> None:
    assert runs.conduct(before_gate=raising(StackError("it died"))).judgement.verdict is Verdict.INVALID


def test_nothing_is_judged_of_a_run_that_broke_down_before_its_first_trial(runs: Runs) -> None:
    with pytest.raises(StackError, match="it died"):
        runs.conduct(trials=0, before_gate=raising(StackError("it died")))
    assert runs.record.end == FAILED
    assert runs.handed == []


def test_a_directory_that_holds_another_run_is_left_alone(runs: Runs) -> None:
    runs.conduct()
    kept = {path: path.read_bytes() for path in runs.directory.iterdir()}
    with pytest.raises(UsageError, match="already holds a run"):
        runs.conduct()
    assert {path: path.read_bytes() for path in runs.directory.iterdir()} == kept


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("division by zero"),
        TimeoutError("a read"),
        OSError(28, "full"),
        asyncio.CancelledError("by nobody"),
        SystemExit(1),
    ],
)
def test_an_error_of_our_own_is_on_record_and_leaves_the_run_without_a_verdict(
    runs: Runs, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        runs.conduct(before_gate=raising(error))
    assert runs.record.end == CRASHED
    assert runs.record.crash == Crash(type=type(error).__name__, message=str(error))
    report, _ = reported(runs.record)
    told = report.to_json()
    assert (runs.verdict, runs.handed) == (4, [])
    assert (told["verdict"], told["internal_error"]["type"]) == (None, type(error).__name__)
    assert len(told["trials"]) == 4, "what was measured is kept"


async def test_only_the_runs_own_limit_is_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def __init__(self, *_: object) -> None:
            self.rounds: list[Round] = []

        async def run(self) -> bool:
            await asyncio.Event().wait()
            return True

    class Impatient(Endless):
        async def run(self) -> bool:
            raise TimeoutError

    monkeypatch.setattr("pytest_mooncake.run.instruments.instruments_for", Nothing)
    one_start: Any = runner._one_start
    world = (None, None, SimpleNamespace(note=None), ())
    monkeypatch.setattr(runner, "Experiment", Endless)
    with pytest.raises(runner._TimeIsOver):
        await one_start(*world, time.monotonic() - 1)
    monkeypatch.setattr(runner, "Experiment", Impatient)
    with pytest.raises(TimeoutError):
        await one_start(*world, time.monotonic() + 60)


class Nothing:
    """No instruments."""

    def __init__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


def cut(directory: Path, events: int) -> None:
    path = directory / "events.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:events]))


def test_wherever_the_record_is_cut_it_is_never_a_pass(runs: Runs) -> None:
    runs.conduct()
    whole = (runs.directory / "events.jsonl").read_bytes()
    events = len(whole.splitlines())
    found = []
    for kept in range(events, 3, -1):
        (runs.directory / "events.jsonl").write_bytes(whole)
        cut(runs.directory, kept)
        found.append(runs.verdict)
    assert found[:4] == [0, 11, 11, 11], "with its end, without it, without the gate, without its answers"
    assert 0 not in found[1:]


def test_a_gate_that_is_cut_out_of_the_record_is_never_a_pass(runs: Runs) -> None:
    runs.conduct()
    path = runs.directory / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for gone in (-1, -2, -3):
        path.write_bytes(b"".join(line for line in lines if line != lines[gone]))
        assert runs.verdict == 11


def test_why_a_part_beside_the_run_was_not_made_is_in_the_report(runs: Runs) -> None:
    runs.conduct()
    planned = runs.record.plan.model_copy(update={"cold_tax": True})
    other = runs.directory.with_name("other")
    with Journal(other, planned) as journal:
        for one in runs.record.rounds:
            for record in one.requests:
                journal.request(record)
        for line in (runs.directory / "events.jsonl").read_bytes().splitlines()[1:]:
            event = {
                k: v for k, v in orjson.loads(line).items() if k not in {"n", "crc", "requests_before", "requests"}
            }
            if event["event"] == "round":
                event["requests"] = sum(one.round == event["round"] for one in runs.record.rounds for _ in one.requests)
            journal.event(event.pop("event"), **event)
        journal.event("cold_tax", error="no memory for another engine")
    report, _ = reported(read(other))
    assert report.beside_not_made == {"cold_tax": "no memory for another engine"}
