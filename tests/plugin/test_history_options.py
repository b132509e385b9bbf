"""`--mooncake-history` and `--mooncake-baseline`: a run goes into a history, and what stands in its way."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_mooncake.analysis.regression.fingerprint import plan_parts
from pytest_mooncake.errors import HistoryError
from pytest_mooncake.history.store import History, open_history
from pytest_mooncake.history.stored_run import StoredRound, StoredRun
from pytest_mooncake.journal import read
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.report.formats.html import render
from pytest_mooncake.run.runner import reported
from tests.plugin.conftest import SIMULATED, Run

ONE_TEST = "acceptance/test_correctness.py"
URL = "sqlite:///kept.sqlite"
NOBODY = "http://127.0.0.1:1"


def test_a_run_goes_into_the_history_and_its_replay_does_not(suite: Run, pytester: pytest.Pytester) -> None:
    options = (f"--mooncake-history={URL}", "--mooncake-label=v1")
    first = suite(*SIMULATED, "--mooncake-quick", "--mooncake-report=run", *options, where=ONE_TEST)
    replay = suite("--mooncake-replay=run", "--mooncake-report=again", *options, where=ONE_TEST)
    held = json.loads((pytester.path / "run" / "report.json").read_text(encoding="utf-8"))
    again = json.loads((pytester.path / "again" / "report.json").read_text(encoding="utf-8"))
    with open_history(URL, base=pytester.path, must_exist=True) as history:
        (run,) = history.runs()

    page, _ = reported(read(pytester.path / "run"))
    assert render(page) == (pytester.path / "run" / "report.html").read_text(encoding="utf-8"), "from the record alone"
    assert held["release"] is not None
    assert (first.ret, replay.ret) == (0, 0)  # a quick run without a fault; the history changes nothing of that
    first.stdout.fnmatch_lines(["history: sqlite:///*kept.sqlite, the first run of its kind"])
    assert (run.label, run.verdict) == ("v1", held["verdict"])
    assert run.metrics["warm.ttft_mean_ms"] == held["summary"]["warm"]["ttft_ms"]["mean"]
    assert run.metrics["warm.hit_share"] > 0.9
    assert run.parts["workload.prompt_tokens"] == 1024
    assert run.fingerprint == held["environment"]["fingerprint"] == again["environment"]["fingerprint"]


def test_a_baseline_alone_writes_the_default_history_and_a_failure_to_store_costs_nothing_but_a_line(
    suite: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_later(self: History, *runs: object) -> int:
        if runs:
            raise HistoryError("history sqlite:///mooncake-history.sqlite: disk is full")
        return 0

    monkeypatch.setattr(History, "add", fails_later)
    result = suite(*SIMULATED, "--mooncake-quick", "--mooncake-report=run", "--mooncake-baseline=v0", where=ONE_TEST)

    assert result.ret == 0
    result.stdout.fnmatch_lines(["WARNING: the run is not in the history: *disk is full"])
    assert (pytester.path / "run" / "report.json").is_file()
    assert (pytester.path / "mooncake-history.sqlite").is_file()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://me:s3cret@127.0.0.1:1/db", "*history postgresql+psycopg://me:[*][*][*]@127.0.0.1:1/db: *"),
        ("kept.sqlite", "*the history's address cannot be read: expected sqlite:///FILE or *"),
    ],
)
def test_a_history_that_cannot_be_reached_is_told_before_anything_is_measured(
    suite: Run, pytester: pytest.Pytester, url: str, line: str
) -> None:
    result = suite(*SIMULATED, f"--mooncake-history={url}", where=ONE_TEST)
    assert result.ret == 4
    result.stderr.fnmatch_lines([line])
    assert "s3cret" not in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not (pytester.path / "mooncake-report").exists()


def test_a_dry_run_forecasts_from_the_histories_runs_of_its_kind(suite: Run, pytester: pytest.Pytester) -> None:
    options = (*SIMULATED, "--mooncake-quick", f"--mooncake-history={URL}")
    suite(*options, "--mooncake-report=run", where=ONE_TEST)
    with open_history(URL, base=pytester.path, must_exist=True) as history:
        (run,) = history.runs()
        more = [
            replace(one, round=10 + one.round, figures={n: v * 1.05 for n, v in one.figures.items()})
            for one in run.rounds
        ]
        ratios = {"ratio.ttft_mean": 0.2, "ratio.request_throughput": 4.0, "ratio.tpot_mean": 1.0}
        parts = {name: value for name, value in run.parts.items() if name != "client.quick"}
        run = replace(run, parts=parts)
        history.remove([run.id])
        history.add(run, replace(run, id="of-two-trials", rounds=(*run.rounds, *more), metrics=ratios))
    result = suite(*SIMULATED, "--mooncake-dry-run", f"--mooncake-history={URL}", where=ONE_TEST)
    result.stdout.fnmatch_lines(["*if it goes as in 2 runs of the history (3 trials): a verdict after *"])


@pytest.mark.parametrize(("decode_ms", "warns"), [(10.0, False), (2000.0, True)])
def test_targets_that_an_earlier_run_could_not_meet_together_are_warned_of_before_anything_is_started(
    suite: Run, pytester: pytest.Pytester, decode_ms: float, warns: bool
) -> None:
    plan = resolve(Options(url=(NOBODY,)), pytester.path)
    metrics = {
        "cold.ttft_mean_ms": 1000.0,
        "warm.ttft_mean_ms": 100.0,
        "cold.e2e_mean_ms": 1000 + decode_ms,
        "warm.e2e_mean_ms": 100 + decode_ms,
        "ratio.ttft_mean": 0.1,
        "ratio.request_throughput": 2.0,
        "ratio.tpot_mean": 1.0,
    }
    figures = {"ttft_mean_ms": 9.0, "request_throughput": 9.0, "tpot_mean_ms": 9.0}
    rounds = tuple(
        StoredRound(round=number, kind=kind, requests=1, failed=0, figures=figures)
        for number, kind in enumerate(("cold", "warm", "cold", "warm"))
    )
    run = StoredRun(
        id="earlier",
        label=None,
        started_at="2026-01-01T00:00:00+00:00",
        verdict="FAIL",
        fingerprint="f" * 24,
        parts=plan_parts(plan, {}),
        metrics=metrics,
        rounds=rounds,
    )
    with open_history(URL, base=pytester.path) as history:
        history.add(run)
    result = suite(f"--mooncake-url={NOBODY}", f"--mooncake-history={URL}", where=ONE_TEST)
    assert result.ret == 4
    warned = [
        line for line in result.outlines if "WARNING: as in 1 run of the history (2 trials): with k = 2.00" in line
    ]
    assert len(warned) == warns


def test_a_dry_run_touches_no_history(suite: Run, pytester: pytest.Pytester) -> None:
    result = suite(*SIMULATED, "--mooncake-dry-run", f"--mooncake-history={URL}", where=ONE_TEST)
    assert result.ret == 0
    assert not (pytester.path / "kept.sqlite").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--mooncake-releases-per-year=12",), "*--mooncake-releases-per-year needs a history: *"),
        (("--mooncake-releases-per-year=0", f"--mooncake-history={URL}"), "*expected a positive number such as 52"),
        (("--mooncake-releases-per-year=often", f"--mooncake-history={URL}"), "*expected a positive number such as 52"),
    ],
)
def test_a_release_rate_that_makes_no_sense_is_refused(suite: Run, options: tuple[str, ...], line: str) -> None:
    result = suite(*SIMULATED, *options, where=ONE_TEST)
    assert result.ret == 4
    result.stderr.fnmatch_lines([line])
