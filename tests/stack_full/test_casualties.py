"""An engine that dies while it is measured: the run ends by itself, names it, and keeps what was measured."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pytest_mooncake.journal import read
from pytest_mooncake.records import Kind, Verdict
from pytest_mooncake.run.runner import conduct, open_stack
from tests.support.sabotage import Saboteur, plan_of

pytestmark = [pytest.mark.stack, pytest.mark.full]

ENDS_S = 120.0
"""Far above what the requests left take to fail, far below their time limits: nobody waits for a dead engine."""


@dataclass
class Killer(Saboteur):
    """Kills the engine when the first warm round is in its middle."""

    killed_at_s: float | None = None

    def tick(self, text: str) -> None:
        middle = re.search(r"\bW1\b.*?\b(\d+)/24\b", text)
        if self.view is not None and self.killed_at_s is None and middle and int(middle[1]) >= 4:
            self.killed_at_s = time.monotonic()
            os.kill(self.view.details["pids"]["vllm-0"], signal.SIGKILL)


def test_an_engine_killed_in_the_middle_of_a_warm_round_is_named_and_what_was_measured_stays(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, requests="24", output_tokens="64")
    killer = Killer(plan)
    with open_stack(plan, tmp_path / "logs", killer) as view:
        killer.view = view
        started = psutil.Process().children(recursive=True)
        outcome = conduct(plan, view, tmp_path / "run", killer)
        ended_s = time.monotonic()
    assert killer.killed_at_s is not None, killer.said
    assert ended_s - killer.killed_at_s < ENDS_S
    assert [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []

    reasons = "\n".join(outcome.judgement.reasons)
    assert outcome.judgement.verdict is Verdict.FAIL, reasons
    assert "vllm-0 is no longer running" in reasons, reasons
    cold, warm = [one for one in read(tmp_path / "run").rounds if one.position <= 1 and one.segment == 1]
    assert (cold.kind, warm.kind) == (Kind.COLD, Kind.WARM)
    assert all(request.error is None for request in cold.requests)
    finished = [request for request in warm.requests if request.error is None]
    assert 4 <= len(finished) < 24
    assert len(warm.requests) == 24, "failed requests count, nothing is dropped"
    assert all(request.error for request in warm.requests if request not in finished)
