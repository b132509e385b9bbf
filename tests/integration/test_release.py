"""A run against a history in SQLite: what counts as its past, and which findings are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_mooncake.analysis.regression.release import ReleaseFinding
from pytest_mooncake.analysis.regression.versus import Versus, VersusMetric
from pytest_mooncake.history.compare_release import compare_with_history
from pytest_mooncake.history.store import open_history
from pytest_mooncake.history.stored_run import Finding, StoredRun
from pytest_mooncake.records import Verdict

URL = "sqlite:///kept.sqlite"
TTFT = "warm.ttft_mean_ms"
METRICS = {
    TTFT: 400.0,
    "warm.tpot_mean_ms": 15.0,
    "warm.request_throughput": 7.0,
    "cold.ttft_mean_ms": 1200.0,
    "warm.hit_share": 1.0,
}


def stored(number: int, *, ttft: float = 1.0, verdict: str = "PASS", fingerprint: str = "f") -> StoredRun:
    wobble = 1 + 0.01 * (number % 4)
    metrics = {name: value if name == "warm.hit_share" else value * wobble for name, value in METRICS.items()}
    return StoredRun(
        id=f"run-{number:02}",
        label=f"v{number}",
        started_at=f"2026-01-{number:02}T00:00:00+00:00",
        verdict=verdict,
        fingerprint=fingerprint,
        metrics=metrics | {TTFT: metrics[TTFT] * ttft},
    )


def compared(
    path: Path, past: Sequence[StoredRun], run: StoredRun, *, baseline: str | None = None, keep: bool = True,
    slower: bool = False,
) -> tuple[ReleaseFinding, tuple[Finding, ...]]:  # fmt: skip
    one = VersusMetric(metric=TTFT, title="TTFT", ratio=1.5, ci_ratio=(1.4, 1.6), standing="slower")
    versus = Versus(visits=3, confidence=0.9, metrics=(one,)) if slower else None
    with open_history(URL, base=path) as history:
        history.add(*past, run)
    found = compare_with_history(URL, path, run, baseline=baseline, versus=versus, keep=keep)
    with open_history(URL, base=path) as history:
        return found, history.findings("f")


def test_a_confirmed_alarm_fails_and_both_findings_are_kept_with_their_runs(tmp_path: Path) -> None:
    past = [stored(n) for n in range(1, 13)]
    found, kept = compared(tmp_path, past, stored(20, ttft=1.5), slower=True)
    assert (found.verdict, found.confirmed) == (Verdict.FAIL, (TTFT,))
    assert {one.kind for one in kept} == {"alarm", "confirmation"}
    assert kept[0].run_ids == (*(one.id for one in past), "run-20")
    assert (kept[0].run_id, kept[0].metric) == ("run-20", TTFT)


def test_an_alarm_that_is_not_confirmed_is_inconclusive_and_kept(tmp_path: Path) -> None:
    found, kept = compared(tmp_path, [stored(n) for n in range(1, 13)], stored(20, ttft=1.5))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert [one.kind for one in kept] == ["alarm"]


def test_a_release_like_its_past_leaves_no_finding(tmp_path: Path) -> None:
    found, kept = compared(tmp_path, [stored(n) for n in range(1, 13)], stored(20))
    assert (found.verdict, kept) == (Verdict.PASS, ())


def test_a_replay_keeps_nothing(tmp_path: Path) -> None:
    found, kept = compared(tmp_path, [stored(n) for n in range(1, 13)], stored(20, ttft=1.5), keep=False)
    assert (found.verdict, kept) == (Verdict.INCONCLUSIVE, ())


def test_failed_and_invalid_runs_later_ones_and_other_machines_are_no_past(tmp_path: Path) -> None:
    past = [
        *(stored(n) for n in range(1, 10)),
        stored(10, verdict="FAIL"), stored(11, verdict="INVALID"), stored(12, fingerprint="g"), stored(25),
    ]  # fmt: skip
    found, _ = compared(tmp_path, past, stored(20, ttft=1.5))
    assert found.verdict is None
    assert found.words.startswith("not compared: 9 comparable runs")


def test_a_baseline_by_label_is_the_anchor(tmp_path: Path) -> None:
    past = [stored(n) for n in range(1, 13)]
    found, _ = compared(tmp_path, past, stored(20), baseline="v3")
    assert {one.baseline for one in found.comparison.metrics} == {"rolling", "anchored"}


def test_the_first_run_may_name_the_baseline_that_later_ones_will_have(tmp_path: Path) -> None:
    found, _ = compared(tmp_path, [], stored(1), baseline="v1")
    assert found.verdict is None
    assert found.words.startswith("nothing to compare with")


def test_the_false_alarms_to_expect_follow_the_release_rate(tmp_path: Path) -> None:
    past = [stored(n) for n in range(1, 13)]
    compared(tmp_path, past, stored(20))
    weekly, daily = (
        compare_with_history(URL, tmp_path, stored(20), baseline=None, versus=None, keep=False, per_year=rate)
        for rate in (52.0, 260.0)
    )
    assert daily.comparison.false_alarms_a_year == pytest.approx(5 * weekly.comparison.false_alarms_a_year)
