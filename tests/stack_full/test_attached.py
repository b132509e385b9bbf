"""The suite as a user runs it, against a vLLM that somebody else started: only its address is known."""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.cli.scaffold import write_suite
from pytest_mooncake.run.runner import open_stack
from pytest_mooncake.stack.namespace import inside
from tests.support.sabotage import Saboteur, plan_of

pytestmark = [pytest.mark.stack, pytest.mark.full]

SMALL = (
    "--mooncake-requests=6",
    "--mooncake-prompt-tokens=8100",
    "--mooncake-output-tokens=16",
    "--mooncake-concurrency=2",
)
LONGEST_S = 900


@dataclass(frozen=True)
class Ended:
    """How pytest ended, what it printed and what it reported."""

    code: int
    printed: str
    report: dict[str, Any]

    def verdict_of(self, claim: str) -> str:
        return next(str(c["verdict"]) for c in self.report["claims"] if c["id"] == claim)


def accept(tmp_path: Path, stack: str) -> Ended:
    """Start engines after `stack`, then run `pytest acceptance/` in a user's repository, in a process of its own."""
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)  # ten trials take longer than a test usually may
    write_suite(tmp_path)
    plan = plan_of(tmp_path, stack)
    with open_stack(plan, tmp_path / "logs", Saboteur(plan)) as view, inside(view.details["netns"]):
        where = ("--mooncake-url", view.engines[0].url, "--mooncake-report", "report")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "acceptance", "-p", "no:cacheprovider", *where, *SMALL],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    return Ended(code=done.returncode, printed=done.stdout, report=report)


def test_with_a_connector_it_is_accepted_by_what_the_engine_itself_says(tmp_path: Path) -> None:
    ended = accept(tmp_path, "")
    assert (ended.report["verdict"], ended.code) == ("PASS", 0), ended.printed
    assert ended.report["summary"]["warm"]["cached_tokens"] > 0
    assert ended.report["summary"]["cold"]["cached_tokens"] == 0
    assert "broken" not in {e["status"] for e in ended.report["evidence"]}


def test_without_one_the_claims_fail_and_the_evidence_says_that_nothing_was_served(tmp_path: Path) -> None:
    ended = accept(tmp_path, "connector:\n  kind: none\n")
    assert (ended.report["verdict"], ended.code) == ("FAIL", 1), ended.printed
    assert ended.report["summary"]["warm"]["cached_tokens"] == 0
    assert ended.verdict_of("warm_hit_share") == "FAIL"
    assert any(e["status"] == "broken" and e["id"].startswith("warm_") for e in ended.report["evidence"])
