"""Sharing workloads through the whole suite: what was asked, what was planned and what was observed are one figure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_mooncake.journal import read
from pytest_mooncake.records import Kind, Status
from tests.plugin.conftest import Run

TRACE = Path(__file__).parents[1] / "data" / "traces" / "conversation_trace.jsonl.gz"
QUICK = ("--mooncake-stack=simulated", "--mooncake-quick")
SMALL = (*QUICK, "--mooncake-prompt-tokens=1536", "--mooncake-output-tokens=40")
"""Answers take longer than stores, so that what a request stores is there when the next one asks for it."""


def run_of(pytester: pytest.Pytester) -> Path:
    return pytester.path / "mooncake-report" / "latest"


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("kb-qa", 12),
        pytest.param("customer-chat", 16, marks=pytest.mark.full),
        pytest.param("code-assistant", 12, marks=pytest.mark.full),
        pytest.param("mixed", 28, marks=pytest.mark.full),
    ],
)
def test_a_scenario_reuses_what_was_planned_cold_and_warm(
    suite: Run, pytester: pytest.Pytester, name: str, requests: int
) -> None:
    kept = pytester.path / "fixtures" / "workloads" / f"{name}.yaml"
    kept.write_text(re.sub(r"think_time_s: [\d.]+", "think_time_s: 0", kept.read_text()), encoding="utf-8")
    suite(*SMALL, f"--mooncake-workload={name}", f"--mooncake-requests={requests}")
    recorded = read(run_of(pytester))
    for measured in recorded.rounds:
        planned = measured.planned
        assert planned is not None
        assert planned.requests == len(measured.requests) == requests
        reused = planned.cold_cached_tokens if measured.kind is Kind.COLD else planned.warm_cached_tokens
        assert sum(request.cached_tokens or 0 for request in measured.requests) == reused > 0
    report = json.loads((run_of(pytester) / "report.json").read_text(encoding="utf-8"))
    assert [item for item in report["evidence"] if item["status"] == Status.BROKEN] == []
    assert {"cold_own_reuse", "cold_all_stored"} <= {item["id"] for item in report["evidence"]}


@pytest.mark.full
def test_a_trace_is_replayed_from_the_command_line(suite: Run, pytester: pytest.Pytester) -> None:
    value = f"trace:{TRACE}?start_s=600&duration_s=8&speed=4&max_prompt_tokens=1536&max_output_tokens=4"
    suite(*QUICK, f"--mooncake-workload={value}")
    cold, warm = read(run_of(pytester)).rounds
    offsets = [[request.intended_ns - one.requests[0].intended_ns for request in one.requests] for one in (cold, warm)]
    assert offsets[0] == offsets[1]
    assert len(offsets[0]) > 20
    assert offsets[0][-1] < 2_000_000_000
    assert all(request.error is None for one in (cold, warm) for request in one.requests)
    assert warm.planned is not None
    assert sum(request.cached_tokens or 0 for request in warm.requests) == warm.planned.warm_cached_tokens
    report = json.loads((run_of(pytester) / "report.json").read_text(encoding="utf-8"))
    assert [item for item in report["evidence"] if item["status"] == Status.BROKEN] == []
    assert any("cut to the limits" in reason for reason in report["reasons"])


def test_reuse_that_cannot_be_had_ends_with_exit_code_4_and_what_would_do(
    suite: Run, pytester: pytest.Pytester
) -> None:
    result = suite(*SMALL, "--mooncake-workload=kb-qa", "--mooncake-requests=2")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*kb-qa: 2 requests of about 1536 tokens reuse at most*give --mooncake-requests*"])
    assert not list(run_of(pytester).glob("logs/*")), "no stack was started for it"


def test_a_dry_run_refuses_what_the_run_would_refuse(suite: Run) -> None:
    result = suite("--mooncake-dry-run", "--mooncake-workload=kb-qa", "--mooncake-requests=2")
    assert result.ret == 4
    said = [line for line in result.stdout.lines if "reuse at most" in line]
    assert len(said) == 1
    assert said[0].startswith("ERROR: nothing could be measured: kb-qa: 2 requests")


@pytest.mark.full
def test_a_steady_state_is_served_what_an_lru_of_its_size_keeps(suite: Run, pytester: pytest.Pytester) -> None:
    small = (
        "kind: simulated\nstore: {nodes: 2, segment_bytes: 1048576, lease_ttl_ms: 1}\nsimulated: {store_delay_ms: 1}\n"
    )
    (pytester.path / "fixtures" / "stacks" / "small.yaml").write_text(small, encoding="utf-8")
    kept = pytester.path / "fixtures" / "workloads" / "customer-chat.yaml"
    kept.write_text(re.sub(r"think_time_s: [\d.]+", "think_time_s: 0", kept.read_text()), encoding="utf-8")
    numbers = ("--mooncake-requests=32", "--mooncake-prompt-tokens=1536", "--mooncake-output-tokens=6")
    suite(
        "--mooncake-stack=small",
        "--mooncake-quick",
        "--mooncake-steady",
        "--mooncake-settle=fixed:0.2",
        "--mooncake-workload=customer-chat",
        "--mooncake-concurrency=1",
        *numbers,
    )
    warm = read(run_of(pytester)).rounds[1]
    planned = warm.planned
    assert planned is not None
    assert planned.steady_store_chunks == 16
    hits = sum(request.cached_tokens or 0 for request in warm.requests) / planned.chunk_tokens
    assert 0 < planned.steady_warm_chunks <= hits + 1 < planned.chunks
    report = json.loads((run_of(pytester) / "report.json").read_text(encoding="utf-8"))
    assert [item for item in report["evidence"] if item["status"] == Status.BROKEN] == []
    assert any(reason.startswith("workload: steady state: the store holds 16 of the") for reason in report["reasons"])


def test_a_dry_run_tells_what_a_scenario_shares(suite: Run) -> None:
    result = suite("--mooncake-dry-run", "--mooncake-workload=kb-qa", "--mooncake-requests=40")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*reuse*90.0% of 1,280 chunks within a cold round*", "*note*documents are used*"])
