"""A stack that does not start again for further trials: what was measured before stands, the reason comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.errors import StackError
from pytest_mooncake.journal import FAILED, read
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import StackView, Verdict
from pytest_mooncake.report import exit_codes
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import conduct, open_stack, reported

PACED = """\
kind: simulated
simulated: {base_ms: 60, prefill_us_per_token: 250, cached_us_per_token: 25, decode_ms_per_token: 2}
"""


def fails() -> StackView:
    raise StackError("vLLM did not become ready in 600 s", ("INFO starting", "CUDA out of memory"))


def test_trials_before_a_restart_that_fails_are_judged_as_far_as_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paced.yaml").write_text(PACED, encoding="utf-8")
    sizes = {"requests": "4", "prompt_tokens": "512", "output_tokens": "8", "concurrency": "2"}
    plan = resolve(Options(stack="paced.yaml", trials="2", sessions="2", **sizes), tmp_path)  # type: ignore[arg-type]
    with open_stack(plan, tmp_path / "logs", Silent()) as view:
        outcome = conduct(plan, view, tmp_path / "run", Silent(), fails)

    assert outcome.judgement.verdict is not Verdict.PASS
    assert len(outcome.judgement.trials) == 1
    assert outcome.judgement.reasons[0] == (
        "the run ended before it was decided: the stack did not start again for further trials: "
        "vLLM did not become ready in 600 s; CUDA out of memory"
    )
    assert exit_codes.of_pytest(outcome.report) == 1
    recorded = read(tmp_path / "run")
    assert recorded.end == FAILED
    assert reported(recorded)[0].judgement == outcome.judgement
    assert {"report.json", "report.md", "report.html"} <= {path.name for path in (tmp_path / "run").iterdir()}
