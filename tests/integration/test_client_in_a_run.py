"""The client in a whole run on the simulated stack: it says how late it was, how wrong, and when it was the limit."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.journal import Journal
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import RequestRecord, Verdict
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import Outcome, conduct, open_stack

PACED = """\
kind: simulated
simulated: {prefill_us_per_token: 250, cached_us_per_token: 25, decode_ms_per_token: 2}
"""
SIZE = {"requests": "4", "prompt_tokens": "512", "output_tokens": "8"}


def run(directory: Path, stack: str, **options: str) -> tuple[Outcome, Mapping[str, Any]]:
    """A quick run, and the client's block of its report."""
    path = directory / "stack.yaml"
    path.write_text(stack, encoding="utf-8")
    plan = resolve(Options(stack=str(path), quick=True, **options), directory)  # type: ignore[arg-type]
    progress = Silent()
    with open_stack(plan, directory / "logs", progress) as view:
        outcome = conduct(plan, view, directory / "run", progress)
    client: Mapping[str, Any] = json.loads((directory / "run" / "report.json").read_bytes())["client"]
    return outcome, client


def trace_in(directory: Path) -> str:
    lines = ({"timestamp": 150 * i, "input_length": 512, "output_length": 8, "hash_ids": [i]} for i in range(4))
    (directory / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return "trace:trace.jsonl"


@pytest.mark.parametrize("arrivals", ["closed loop", "poisson", "trace"])
def test_every_kind_of_arrival_reports_how_late_requests_were_sent_and_how_wrong_the_client_is(
    arrivals: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"closed loop": {**SIZE, "concurrency": "2"}, "poisson": {**SIZE, "rate": "8"}}
    chosen = options.get(arrivals) or {"workload": trace_in(tmp_path)}
    outcome, client = run(tmp_path, PACED, **chosen)
    delays = client["send_delay_ms"]
    assert 0 <= delays["mean"] <= delays["max"]
    assert delays["p99"] <= delays["max"]
    assert client["bias_ms"] is not None
    assert client["error_p99_ms"] >= 0
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_bytes().splitlines()]
    assert [event["when"] for event in events if event["event"] == "calibration"] == ["before", "after"]
    cold, warm = outcome.recorded.rounds
    if arrivals != "closed loop":
        assert planned_times(cold.requests) == planned_times(warm.requests), "the warm round repeats the arrivals"


def planned_times(requests: Any) -> list[int]:
    """Intended times after the first, in ms."""
    return [round((one.intended_ns - requests[0].intended_ns) / 1e6) for one in requests]


def test_an_overloaded_client_is_said_to_be_the_limit_and_the_run_is_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever computes for 30 ms after each request keeps the next one waiting: the client's own doing."""
    write = Journal.request

    def write_slowly(journal: Journal, record: RequestRecord) -> None:
        until_s = time.thread_time() + 0.03
        while time.thread_time() < until_s:
            pass
        write(journal, record)

    monkeypatch.setattr(Journal, "request", write_slowly)
    load = {**SIZE, "requests": "16", "concurrency": "4"}
    outcome, client = run(tmp_path, PACED, **load)
    assert client["saturated"] is True
    assert outcome.judgement.verdict is Verdict.INVALID
    assert any("the client was the limit" in reason for reason in outcome.judgement.reasons)
    assert any("--mooncake-workers" in reason for reason in outcome.judgement.reasons)
