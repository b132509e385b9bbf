"""`acceptance/test_regression.py`: skipped in words without a past, INCONCLUSIVE on an alarm, said in every report."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from pytest_mooncake.history.store import open_history
from tests.plugin.conftest import SIMULATED, Run

URL = "sqlite:///kept.sqlite"
SUITE = "acceptance/test_regression.py"


def test_a_release_is_held_against_its_history(suite: Run, pytester: pytest.Pytester) -> None:
    first = suite(
        *SIMULATED, "--mooncake-trials=2", "--mooncake-report=run", f"--mooncake-history={URL}", "-rs", where=SUITE
    )
    first.stdout.fnmatch_lines(["*SKIPPED*nothing to compare with: the history holds no earlier run*"])
    first.stdout.fnmatch_lines(["*SKIPPED*only one endpoint was measured*"])

    with open_history(URL, base=pytester.path) as history:
        (run,) = history.runs()
        faster = {**run.metrics, "warm.ttft_mean_ms": run.metrics["warm.ttft_mean_ms"] / 2}
        past = (
            replace(run, id=f"past-{n:02}", started_at=f"2020-01-{n:02}T00:00:00+00:00", metrics=faster)
            for n in range(1, 13)
        )
        history.add(*past)
    again = suite("--mooncake-replay=run", "--mooncake-report=again", f"--mooncake-history={URL}", where=SUITE)
    elsewhere = suite(
        "--mooncake-replay=run", "--mooncake-report=other", f"--mooncake-history={URL}",
        where="acceptance/test_correctness.py",
    )  # fmt: skip
    report = orjson.loads((pytester.path / "again" / "report.json").read_bytes())

    assert (first.ret, again.ret, elsewhere.ret) == (0, 1, 1), "whatever tests were selected"
    assert "failed" not in elsewhere.parseoutcomes()
    elsewhere.stdout.fnmatch_lines(["with its release held against the past: INCONCLUSIVE"])
    again.stdout.fnmatch_lines(["*INCONCLUSIVE: warm mean TTFT +100.0 % against 12 rolling runs: alarm*"])
    again.stdout.fnmatch_lines(["release against its history: INCONCLUSIVE: *"])
    assert report["release"]["verdict"] == "INCONCLUSIVE"
    assert report["release"]["comparison"]["compared"] == 5
    assert "compared 5 of 5 metrics with 12 runs" in (pytester.path / "again" / "report.md").read_text(encoding="utf-8")
    with open_history(URL, base=pytester.path) as history:
        assert history.findings() == ()
