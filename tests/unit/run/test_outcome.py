"""What the history said of a run lies in the run's record: its report can be made again without the history."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from pytest_mooncake.analysis import judge
from pytest_mooncake.analysis.regression.alarm import PastRun, compare_release
from pytest_mooncake.analysis.regression.release import finding_of
from pytest_mooncake.errors import JournalError
from pytest_mooncake.history.prior_runs import LATEST
from pytest_mooncake.journal import EVENTS_FILE, HISTORY, append_event, read
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.report.content.document import TrendRun
from pytest_mooncake.report.formats.html import render
from pytest_mooncake.run.runner import reported
from tests.support.judged_chains import Script, record

LEVEL = {"warm.ttft_mean_ms": 400.0, "warm.hit_share": 1.0}
RUNS = tuple(
    TrendRun(
        run_id=f"r{day}",
        release=f"v{day}",
        started_at=datetime(2026, 1, day, 12, tzinfo=UTC),
        verdict="PASS",
        metrics={**LEVEL, "warm.ttft_mean_ms": 400.0 + day % 3},
        rounds={"warm.ttft_mean_ms": (399.0, 401.0)},
        found=("an alarm",) if day == 12 else (),
    )
    for day in range(1, 15)
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(judge, "round_evidence", Script().round_evidence)
    plan: Plan = resolve(Options(stack="simulated", evidence="timing"), tmp_path)
    record(plan, tmp_path)
    return tmp_path / LATEST


def test_release_and_trend_come_back_out_of_the_record_and_the_page_is_the_same_every_time(directory: Path) -> None:
    assert reported(read(directory))[0].release is None
    past = [PastRun(run_id=one.run_id, release=one.release, fingerprint="f", metrics=one.metrics) for one in RUNS]
    found = finding_of(compare_release(past[-1], past[:-1]), None)
    append_event(directory, HISTORY, release=found, runs=RUNS)
    first, second = (reported(read(directory))[0] for _ in range(2))
    assert first.release == found
    assert first.past == RUNS
    assert 'id="trend"' in render(first)
    assert render(first) == render(second)
    assert orjson.dumps(first.to_json()["release"]) == orjson.dumps(found.to_json())


def test_an_event_that_cannot_be_read_is_said_in_one_line(directory: Path) -> None:
    append_event(directory, HISTORY, release={"verdict": "GOOD"}, runs=[])
    with pytest.raises(JournalError, match="its event 'history' cannot be read") as caught:
        reported(read(directory))
    assert "\n" not in str(caught.value)
    assert (directory / EVENTS_FILE).read_bytes().endswith(b"\n")
