"""Trials spread over several starts of the stack: each start has a round left out, and the statistics know."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import SIMULATED, Run


@pytest.mark.full
def test_a_run_over_two_starts_is_one_run(suite: Run, pytester: pytest.Pytester) -> None:
    result = suite(*SIMULATED, "--mooncake-sessions=2", "--mooncake-report=spread")
    held = json.loads((pytester.path / "spread" / "report.json").read_text(encoding="utf-8"))
    events = [json.loads(line) for line in (pytester.path / "spread" / "events.jsonl").read_text().splitlines()]
    rounds = [(e["phase"], e["segment"], e["position"]) for e in events if e["event"] == "round"]
    claim = next(c for c in held["claims"] if c["id"] == "ttft_mean")

    assert result.ret == 0
    assert [phase for phase, *_ in rounds].count("left_out") == 2
    assert {segment for _, segment, _ in rounds} == {0, 1, 2}
    assert sum(e["event"] == "restart" for e in events) == 1
    assert (claim["verdict"], claim["trials"], claim["details"]["n_warm"]) == ("PASS", 3, 3)
    assert "all trials come from one engine start" not in json.dumps(held["beside"])
    assert (pytester.path / "spread" / "logs" / "start-2").is_dir()


@pytest.mark.full
def test_one_start_says_what_it_cannot_see(suite: Run, pytester: pytest.Pytester) -> None:
    suite(*SIMULATED, "--mooncake-trials=2", "--mooncake-report=one")
    held = json.loads((pytester.path / "one" / "report.json").read_text(encoding="utf-8"))
    assert "all trials come from one engine start" in held["beside"]["remarks"][-1]["text"]
