"""A recorded run that missed its place in the history gets it afterwards, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.analysis import judge
from pytest_mooncake.cli.history_add import add_recorded
from pytest_mooncake.errors import HistoryError, JournalError, UsageError
from pytest_mooncake.history.store import open_history
from pytest_mooncake.journal import CRASH, Journal, append_event, read
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import CORRECTNESS, GateStatus, ProbeAnswer, ProbeRole
from pytest_mooncake.run.runner import reported
from tests.support.judged_chains import VIEW, Script, noisy_chain

URL = "sqlite:///kept.sqlite"
ANSWER = ProbeAnswer(case="document", role=ProbeRole.COLD, engine=0, prompt_tokens=1)


def record(plan: Plan, directory: Path, *, began: str = "2026-01-01T00:00:00+00:00") -> None:
    with Journal(directory, plan) as journal:
        journal.event("environment", environment={"started_at": began})
        journal.event("stack", view=VIEW)
        for measured in noisy_chain(4, 30):
            for request in measured.requests:
                journal.request(request)
            journal.round(measured)
        journal.event("probes", answers=(ANSWER,))
        journal.event("gate", id=CORRECTNESS, status=GateStatus.MADE, reason="")
        journal.event("run_end", reason="decided")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judge, "round_evidence", Script().round_evidence)
    monkeypatch.setattr(judge, "probe_evidence", lambda _answers: ())
    record(resolve(Options(stack="simulated", evidence="timing", label="v7"), tmp_path), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_that_was_killed_before_its_history_gets_row_and_reports(directory: Path) -> None:
    lines = list(add_recorded(directory, URL, None))
    assert "added" in lines[0]
    assert lines[1].startswith("release against its history: not judged: nothing to compare with")
    assert (directory / "report.json").is_file()
    with open_history(URL) as history:
        (run,) = history.named("v7")
    assert run.id == read(directory).plan.run_id
    assert read(directory).history is not None


def test_adding_it_again_changes_nothing(directory: Path) -> None:
    list(add_recorded(directory, URL, None))
    kept = {path: path.read_bytes() for path in directory.iterdir()}
    lines = list(add_recorded(directory, URL, None))
    assert len(lines) == 1
    assert "was there already" in lines[0]
    assert {path: path.read_bytes() for path in directory.iterdir()} == kept
    with open_history(URL) as history:
        assert len(history.runs()) == 1


def test_it_is_held_against_the_runs_before_it_and_judged_so_ever_after(directory: Path) -> None:
    list(add_recorded(directory, URL, None))
    with open_history(URL) as history:
        (run,) = history.runs()
        faster = {**run.metrics, "warm.ttft_mean_ms": run.metrics["warm.ttft_mean_ms"] / 2}
        history.remove([run.id])
        past = (
            replace(run, id=f"past-{n:02}", started_at=f"2020-01-{n:02}T00:00:00+00:00", metrics=faster)
            for n in range(1, 13)
        )
        history.add(*(one for one in past))
    events = directory / "events.jsonl"
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))
    told = list(add_recorded(directory, URL, None))[1]
    assert told.startswith("release against its history: INCONCLUSIVE: warm mean TTFT +100")
    found = reported(read(directory))[0].release
    assert found is not None
    assert found.text == told
    with open_history(URL) as history:
        assert [one.kind for one in history.findings()] == ["alarm"]


def crashed(directory: Path) -> None:
    append_event(directory, CRASH, type="KeyError", message="x")


def killed(directory: Path) -> None:
    events = directory / "events.jsonl"
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(("spoil", "said"), [(crashed, "internal error"), (killed, "cut short")])
def test_a_run_that_did_not_come_to_its_end_has_no_place(
    directory: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(directory)
    with pytest.raises(UsageError, match=said):
        list(add_recorded(directory, URL, None))


def test_no_run_and_no_history_are_said_in_one_line(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no run"):
        list(add_recorded(tmp_path, URL, None))
    with pytest.raises((HistoryError, UsageError)):
        list(add_recorded(directory, f"sqlite:///{tmp_path}/no/such/place.sqlite", None))


def test_a_baseline_that_nothing_is_called_after_is_refused_before_anything_is_stored(directory: Path) -> None:
    list(add_recorded(directory, URL, "v7"))
    second = directory.with_name("second")
    record(read(directory).plan.model_copy(update={"run_id": "another", "label": None}), second)
    with pytest.raises(UsageError, match="no run and no label is called 'v6'"):
        list(add_recorded(second, URL, "v6"))
    with open_history(URL) as history:
        assert len(history.runs()) == 1


def test_a_record_that_lost_its_beginning_is_refused(directory: Path) -> None:
    record(read(directory).plan, directory.with_name("lost"), began="")
    with pytest.raises(UsageError, match="does not say when it began"):
        list(add_recorded(directory.with_name("lost"), URL, None))
