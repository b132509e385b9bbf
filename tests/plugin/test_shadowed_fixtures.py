"""A project's own `run`, `stack` and `claim` count in its tests, and the suite beside them measures as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugin.conftest import Run

RECORD = Path(__file__).resolve().parents[1] / "data" / "records" / "journal-2"
THEIRS = """

import pytest


@pytest.fixture(params=["first", "second"])
def run(request):
    return request.param


@pytest.fixture
def stack(run):
    return f"the stack of the {run}"


@pytest.fixture(scope="session")
def claim():
    return "a claim of ours"
"""
TESTS = """
def test_ours_alone(run, stack):
    assert stack == f"the stack of the {run}"


def test_both(run, stack, mooncake_run, mooncake_stack, cold_round, mooncake_cold_round):
    assert run in {"first", "second"}
    assert mooncake_run.view is mooncake_stack
    assert cold_round is mooncake_cold_round


def test_claims(claim, mooncake_claim):
    assert claim == "a claim of ours"
    assert mooncake_claim.verdict == "PASS"
"""


def test_a_project_may_have_fixtures_of_its_own_by_the_short_names(suite: Run, pytester: pytest.Pytester) -> None:
    with (pytester.path / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(THEIRS)
    (pytester.path / "acceptance" / "test_own.py").write_text(TESTS, encoding="utf-8")
    result = suite(f"--mooncake-replay={RECORD}", "--mooncake-report=again", "-v")
    assert result.ret == 0
    outcomes = result.parseoutcomes()
    assert "failed" not in outcomes
    assert "errors" not in outcomes
    result.stdout.fnmatch_lines(
        ["*test_own.py::test_both?second? PASSED*", "*test_own.py::test_claims?ttft_mean? PASSED*"]
    )
    result.stdout.fnmatch_lines(["*test_performance.py::test_claim?request_throughput? PASSED*", "*Verdict: PASS*"])


def test_the_short_names_of_the_plugin_are_the_long_ones(suite: Run, pytester: pytest.Pytester) -> None:
    short = ("run", "stack", "cold_round", "warm_round", "release", "claim", "fail_unless_quick")
    names = ", ".join((*short, *(f"mooncake_{name}" for name in short)))
    same = " and ".join(f"{name} is mooncake_{name}" for name in short)
    text = f"def test_same({names}):\n    assert {same}\n"
    (pytester.path / "acceptance" / "test_own.py").write_text(text, encoding="utf-8")
    result = suite(f"--mooncake-replay={RECORD}", "--mooncake-report=again", where="acceptance/test_own.py")
    result.assert_outcomes(passed=2)
