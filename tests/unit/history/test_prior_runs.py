"""A forecast rests on the last run of the same kind and on no other."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.analysis import judge
from pytest_mooncake.analysis.regression.fingerprint import Part, plan_parts
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.history import prior_runs
from pytest_mooncake.history.prior_runs import LATEST, past_in_history, past_of
from pytest_mooncake.history.store import open_history
from pytest_mooncake.history.stored_run import StoredRound, StoredRun
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from tests.support.judged_chains import Script, record


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return resolve(Options(stack="simulated", evidence="timing"), tmp_path)


def test_the_last_run_of_the_same_kind_is_what_a_forecast_rests_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "round_evidence", Script().round_evidence)
    record(plan, tmp_path)
    found = past_of(resolve(Options(stack="simulated", targets="default"), tmp_path), tmp_path)
    assert found is not None
    assert (found.name, found.df) == (f"{plan.run_id} (4 trials)", 6)
    assert found.trial_s == pytest.approx(0.15, rel=0.1)
    assert found.assumed[0].id == "ttft_mean"


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


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("events.jsonl", '"kind":"cold"', '"kind":"lukewarm"'),
        ("events.jsonl", '"engines":', '"replicas":'),
        ("events.jsonl", '{"event":"round"', '[{"event":"round"'),
        ("requests.jsonl", '"chunk_ns":[', '"chunk_ns":null,"gone":['),
        ("plan.json", '"version": 1', '"version": 2'),
        ("plan.json", "journal/2", "journal/9"),
    ],
)
def test_a_record_that_another_version_wrote_is_passed_over_with_a_note(
    plan: Plan, tmp_path: Path, file: str, old: str, new: str
) -> None:
    record(plan, tmp_path)
    path = tmp_path / LATEST / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    notes: list[str] = []
    assert past_of(plan, tmp_path, notes.append) is None
    (note,) = notes
    assert note.startswith("no forecast from mooncake-report/latest, a record that this version cannot read (")


def test_a_directory_without_a_record_is_nothing_to_speak_of(plan: Plan, tmp_path: Path) -> None:
    notes: list[str] = []
    assert past_of(plan, tmp_path, notes.append) is None
    assert notes == []


def test_a_record_too_large_to_read_in_a_moment_is_left_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(plan, tmp_path)
    monkeypatch.setattr(prior_runs, "MOST_BYTES", 10)
    assert past_of(plan, tmp_path) is None


MACHINE: dict[str, Part] = {"cpu": "one", "cpu_cores": 2, "memory_bytes": 2**34}
URL = "sqlite:///history.sqlite"


def stored(plan: Plan, name: str, ratio: float, colds: tuple[float, ...], decode_ms: float = 1.0) -> StoredRun:
    """A run whose cold rounds have mean TTFTs of `colds` ms, and its warm rounds `ratio` of that.

    A request decodes for `decode_ms`, and its first token takes 1 s when cold.
    """
    rounds: list[StoredRound] = []
    for cold in colds:
        for kind, scale in (("warm", ratio), ("cold", 1.0)):
            figures = {
                "ttft_mean_ms": cold * scale,
                "request_throughput": 1e3 / (cold * scale),
                "tpot_mean_ms": 10 + cold / 1e3,
                "makespan_s": 30 * scale,
            }
            rounds.append(StoredRound(round=len(rounds), kind=kind, requests=3, failed=0, figures=figures))
    return StoredRun(
        id=name,
        label=None,
        started_at=f"2026-01-0{name[-1]}T00:00:00+00:00",
        verdict="PASS",
        fingerprint="f" * 24,
        parts=plan_parts(plan, MACHINE),
        metrics={
            "ratio.ttft_mean": ratio,
            "ratio.request_throughput": 1 / ratio,
            "ratio.tpot_mean": 1.0,
            "cold.ttft_mean_ms": 1000.0,
            "warm.ttft_mean_ms": 1000 * ratio,
            "cold.e2e_mean_ms": 1000.0 + decode_ms,
            "warm.e2e_mean_ms": 1000 * ratio + decode_ms,
        },
        rounds=tuple(rounds),
    )


def keep(directory: Path, *runs: StoredRun) -> None:
    with open_history(URL, base=directory) as history:
        history.add(*runs)


def test_a_history_of_the_kind_tells_its_mean_ratio_and_its_pooled_noise(plan: Plan, tmp_path: Path) -> None:
    colds = (100.0, 110.0, 100.0)
    keep(tmp_path, stored(plan, "run-1", 0.1, colds), stored(plan, "run-2", 0.4, tuple(2 * cold for cold in colds)))
    found = past_in_history(plan, MACHINE, URL, tmp_path)
    assert found is not None
    assert found.name == "2 runs of the history (6 trials)"
    ttft = found.assumed[0]
    assert ttft.id == "ttft_mean"
    assert ttft.ratio == pytest.approx(0.2), "the mean on logs"
    spread = statistics.stdev(map(math.log, colds))
    assert ttft.sigma_w == pytest.approx(spread), "not that between runs"
    assert ttft.sigma_c == pytest.approx(spread)
    assert found.df == 2 * 2 * (len(colds) - 1)
    assert found.trial_s == pytest.approx(30 + (3 + 12) / 2)


def test_only_the_newest_runs_of_a_history_count(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_runs, "MOST_RUNS", 1)
    keep(tmp_path, stored(plan, "run-1", 0.1, (100.0, 110.0)), stored(plan, "run-2", 0.4, (100.0, 110.0)))
    found = past_in_history(plan, MACHINE, URL, tmp_path)
    assert found is not None
    assert found.name == "1 run of the history (2 trials)"
    assert found.assumed[0].ratio == pytest.approx(0.4)


@pytest.mark.parametrize("other", [{"requests": "7"}, {"workload": "kb-qa"}, {"stack": "local"}])
def test_runs_of_another_workload_stack_or_machine_are_left_aside(
    plan: Plan, tmp_path: Path, other: dict[str, str]
) -> None:
    keep(tmp_path, stored(plan, "run-1", 0.1, (100.0, 110.0)))
    assert past_in_history(plan, MACHINE | {"cpu_cores": 64}, URL, tmp_path) is None
    wanted = resolve(Options(**{"stack": "simulated", **other}), tmp_path)  # type: ignore[arg-type]
    assert past_in_history(wanted, MACHINE, URL, tmp_path) is None


def test_one_round_of_a_kind_or_an_unknown_metric_is_too_little(plan: Plan, tmp_path: Path) -> None:
    keep(tmp_path, stored(plan, "run-1", 0.1, (100.0,)))
    assert past_in_history(plan, MACHINE, URL, tmp_path) is None
    (tmp_path / "bare").mkdir()
    bare = replace(stored(plan, "run-2", 0.1, (100.0, 110.0)), metrics={"ratio.ttft_mean": 0.1})
    keep(tmp_path / "bare", bare)
    assert past_in_history(plan, MACHINE, URL, tmp_path / "bare") is None


def test_a_history_that_is_not_there_yet_is_not_made_and_one_that_is_none_is_said(plan: Plan, tmp_path: Path) -> None:
    assert past_in_history(plan, MACHINE, URL, tmp_path) is None
    assert not (tmp_path / "history.sqlite").exists()
    (tmp_path / "history.sqlite").write_text("no database", encoding="utf-8")
    with pytest.raises(MooncakeError, match=r"history\.sqlite"):
        past_in_history(plan, MACHINE, URL, tmp_path)


@pytest.mark.parametrize(("decode_ms", "feasible"), [(10.0, True), (2000.0, False)])
def test_a_history_tells_whether_the_targets_can_be_met_together(
    plan: Plan, tmp_path: Path, decode_ms: float, feasible: bool
) -> None:
    keep(tmp_path, stored(plan, "run-1", 0.1, (100.0, 110.0), decode_ms))
    found = past_in_history(plan, MACHINE, URL, tmp_path)
    assert found is not None
    assert found.feasibility is not None
    assert found.feasibility["feasible"] is feasible
    assert found.feasibility["k"] == pytest.approx(decode_ms / 1000)
    assert found.feasibility["rho"] == pytest.approx(1.0)
    open_loop = resolve(Options(stack="simulated", evidence="timing", rate="5"), tmp_path)
    keep(tmp_path, replace(stored(open_loop, "run-2", 0.1, (100.0, 110.0), decode_ms)))
    found = past_in_history(open_loop, MACHINE, URL, tmp_path)
    assert found is not None
    assert found.feasibility is None, "the formula is that of a closed loop"
