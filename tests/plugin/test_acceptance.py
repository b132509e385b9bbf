"""The suite that users run, end to end on the simulated stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin.conftest import PACED, SIMULATED, Run


def test_a_healthy_cache_is_accepted_with_exit_code_0_and_all_files_and_its_record_says_so_again(
    suite: Run, pytester: pytest.Pytester
) -> None:
    result = suite(*SIMULATED, "--mooncake-trials=3,4,5")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*SIMULATED*", "*TTFT*", "*PASS*"])
    latest = pytester.path / "mooncake-report" / "latest"
    names = {path.name for path in latest.iterdir()}
    assert {"plan.json", "events.jsonl", "requests.jsonl", "report.json", "report.md"} <= names
    report = json.loads((latest / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "PASS"
    assert report["schema"] == "pytest-mooncake/report/1"
    assert len(report["trials"]) >= 3
    held = [e for e in report["evidence"] if e["status"] == "held" and e["rung"] == "store"]
    assert held, "a PASS on a stack started here rests on the store's own counters"
    judged_again_without_a_stack(suite, latest.resolve())


def judged_again_without_a_stack(suite: Run, first: Path) -> None:
    """The record alone gives the same report, and is left as it was."""
    before = {p.name: p.read_bytes() for p in first.iterdir() if p.is_file()}
    result = suite(f"--mooncake-replay={first}", "--mooncake-report=second", "-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*a replay sends nothing*"])
    second = first.parents[1] / "second" / "report.json"
    assert json.loads(second.read_text(encoding="utf-8")) == json.loads(before["report.json"])
    assert {p.name: p.read_bytes() for p in first.iterdir() if p.is_file()} == before


def test_a_cache_that_never_stores_is_rejected_with_figures_and_no_traceback(
    suite: Run, pytester: pytest.Pytester
) -> None:
    stack = pytester.path / "fixtures" / "stacks" / "broken.yaml"
    stack.write_text(PACED + "connector:\n  kind: none\n", encoding="utf-8")
    result = suite("--mooncake-stack=broken", *SIMULATED[1:], "--mooncake-trials=3,4,5")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*FAIL*"])
    text = result.stdout.str()
    assert "Traceback" not in text
    assert "cached" in text
    assert "INVALID" not in text, "the product failed, not the instrument"
    assert "mean TTFT: not tested: the run ended before its first trial was complete" in text


def test_a_quick_run_is_inconclusive_and_exits_0_without_a_fault(suite: Run) -> None:
    result = suite(*SIMULATED, "--mooncake-quick", where="acceptance/test_correctness.py")
    outcomes = result.parseoutcomes()
    assert "failed" not in outcomes
    assert outcomes["passed"] >= 4
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*"])


def test_preflight_alone_measures_nothing(suite: Run, pytester: pytest.Pytester) -> None:
    result = suite(*SIMULATED, where="acceptance/test_preflight.py")
    assert result.ret == 0
    assert not (pytester.path / "mooncake-report" / "latest" / "requests.jsonl").exists()


def test_preflight_looks_at_the_prompts_that_will_be_sent(suite: Run, pytester: pytest.Pytester) -> None:
    line = '{"timestamp": 0, "input_length": 90000, "output_length": 8, "hash_ids": [%s]}\n'
    trace = pytester.path / "day.jsonl"
    trace.write_text(line % ", ".join(map(str, range(176))), encoding="utf-8")
    stack = pytester.path / "fixtures" / "stacks" / "paced.yaml"
    stack.write_text(f"{stack.read_text()}engine:\n  max_model_len: 4096\n", encoding="utf-8")
    options = ("--mooncake-stack=paced", f"--mooncake-workload=trace:{trace}")
    assert suite(*options, where="acceptance/test_preflight.py").ret == 0, "it is cut to the context"


def test_a_dry_run_prints_the_plan_and_sends_nothing(suite: Run, pytester: pytest.Pytester) -> None:
    result = suite("--mooncake-dry-run")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*start 1 Mooncake master, 2 storage nodes, 1 vLLM engine*", "*30 requests of 16,384*"]
    )
    assert not list(pytester.path.glob("mooncake-report/*"))


def test_users_own_tests_may_use_the_fixtures_asynchronous_ones_too(suite: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        **{
            "acceptance/test_own": """
                import pytest

                def test_sync(cold_round, warm_round, run):
                    assert cold_round.summary.requests == warm_round.summary.requests == 6
                    assert run.judgement.verdict == "INCONCLUSIVE"

                @pytest.mark.asyncio
                async def test_async(warm_round):
                    assert warm_round.summary.ttft_ms.mean > 0
            """
        }
    )
    for _ in range(3):
        result = suite(*SIMULATED, "--mooncake-quick", where="acceptance/test_own.py")
        # A machine that stands still for 40 ms makes a run of six requests INVALID, rightly; that is not tested here.
        if "the client was the limit" not in result.stdout.str():
            break
    result.assert_outcomes(passed=2)


def test_the_suite_runs_without_other_plugins(suite: Run) -> None:
    """The cache provider is off in every run here."""
    result = suite("-p", "no:asyncio", *SIMULATED, "--mooncake-quick", where="acceptance/test_correctness.py")
    assert "failed" not in result.parseoutcomes()
    assert result.parseoutcomes()["passed"] >= 4
