"""A forecast rests on the last run of the same kind and on no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake import judging, past
from pytest_mooncake.journal import Journal
from pytest_mooncake.options import Options
from pytest_mooncake.past import LATEST, past_of
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.resolve import resolve
from tests.unit.test_judging import VIEW, Script, noisy_chain


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return resolve(Options(stack="simulated", evidence="timing"), tmp_path)


def record(plan: Plan, directory: Path, trials: int = 4, *, view: bool = True) -> None:
    with Journal(directory / LATEST, plan) as journal:
        if view:
            journal.event("stack", view=VIEW)
        for measured in noisy_chain(trials, 30):
            for request in measured.requests:
                journal.request(request)
            journal.round(measured)
        journal.event("run_end", reason="decided")


def test_the_last_run_of_the_same_kind_is_what_a_forecast_rests_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "round_evidence", Script().round_evidence)
    record(plan, tmp_path)
    found = past_of(resolve(Options(stack="simulated", targets="default"), tmp_path), tmp_path)
    assert found is not None
    assert (found.name, found.trials) == (plan.run_id, 4)
    assert found.trial_s == pytest.approx(0.15, rel=0.1)
    assert found.claims[0].id == "ttft_mean"


@pytest.mark.parametrize("other", [{"requests": "7"}, {"workload": "kb-qa"}, {"stack": "local"}])
def test_another_workload_or_stack_tells_nothing(plan: Plan, tmp_path: Path, other: dict[str, str]) -> None:
    record(plan, tmp_path)
    assert past_of(resolve(Options(**{"stack": "simulated", **other}), tmp_path), tmp_path) is None  # type: ignore[arg-type]


def test_no_run_a_broken_one_and_one_without_a_stack_tell_nothing(plan: Plan, tmp_path: Path) -> None:
    assert past_of(plan, tmp_path) is None
    record(plan, tmp_path / "bare", view=False)
    assert past_of(plan, tmp_path / "bare") is None
    record(plan, tmp_path / "broken")
    (tmp_path / "broken" / LATEST / "plan.json").write_text("{", encoding="utf-8")
    assert past_of(plan, tmp_path / "broken") is None


def test_a_record_too_large_to_read_in_a_moment_is_left_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(plan, tmp_path)
    monkeypatch.setattr(past, "MOST_BYTES", 10)
    assert past_of(plan, tmp_path) is None
