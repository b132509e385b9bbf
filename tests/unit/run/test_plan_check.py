"""What cannot be had is refused before a stack is started for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.errors import MooncakeError, PlanError, UsageError, WorkloadError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.run.plan_check import check_plan, misfit
from tests.support.scripted_world import view

SMALL_STORE = "kind: simulated\nstore:\n  nodes: 2\n  segment_bytes: 8388608\n"


def plan_of(tmp_path: Path, **options: object) -> Plan:
    (tmp_path / "small.yaml").write_text(SMALL_STORE, encoding="utf-8")
    (tmp_path / "bad.jsonl").write_text("no trace\n", encoding="utf-8")
    options = {key: v.format(here=tmp_path) if isinstance(v, str) else v for key, v in options.items()}
    return resolve(Options(**options), tmp_path)  # type: ignore[arg-type] # options are what varies


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workload": "kb-qa", "requests": "2"}, WorkloadError, "give --mooncake-requests"),
        ({"prompt_tokens": "40000"}, WorkloadError, "but the model takes 32768"),
        ({"workload": "trace:{here}/bad.jsonl"}, PlanError, "bad.jsonl:1: not JSON"),
        ({"steady": True}, UsageError, "holds 65,536 chunks, a round works on 1,920"),
    ],
)
def test_what_cannot_be_made_is_refused(
    tmp_path: Path, options: dict[str, object], error: type[MooncakeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_plan(plan_of(tmp_path, **options))


def test_what_can_be_made_is_let_through(tmp_path: Path) -> None:
    check_plan(plan_of(tmp_path))
    check_plan(plan_of(tmp_path, stack="small.yaml", steady=True))


def test_an_endpoint_that_runs_is_asked_itself(tmp_path: Path) -> None:
    check_plan(plan_of(tmp_path, url=("http://127.0.0.1:1",), workload="kb-qa", requests="2"))


def test_only_a_running_store_tells_how_much_it_holds(tmp_path: Path) -> None:
    store = ("mooncakestore://127.0.0.1:50051",)
    check_plan(plan_of(tmp_path, url=store, steady=True, allow_clear="2"))


LINE = '{"timestamp": %d, "input_length": %d, "output_length": 64, "hash_ids": %s}\n'
SPREAD = """\
kind: scenario
requests: 60
prompt_tokens: 8192
output_tokens: 32
traffic:
  - {name: a, reuse: 0.5, documents: 4, prompt: {shape: lognormal, spread: 1.0, most: 6.0}}
"""


def fitting(plan: Plan, context: int | None) -> str | None:
    return misfit(plan, replace(view(), max_model_len=context))


def test_a_trace_that_is_cut_to_the_context_fits_it(tmp_path: Path) -> None:
    lines = (
        LINE % (second * 1000, tokens, list(range(-(-tokens // 512)))) for second, tokens in ((0, 600), (1, 90_000))
    )
    (tmp_path / "day.jsonl").write_text("".join(lines), encoding="utf-8")
    plan = plan_of(tmp_path, url=("http://127.0.0.1:1",), workload="trace:{here}/day.jsonl")
    assert fitting(plan, 2048) is None
    assert fitting(plan, None) is None


def test_a_trace_that_fits_although_the_usual_prompt_would_not_is_let_through(tmp_path: Path) -> None:
    (tmp_path / "day.jsonl").write_text(LINE % (0, 600, "[0, 1]"), encoding="utf-8")
    plan = plan_of(tmp_path, url=("http://127.0.0.1:1",), workload="trace:{here}/day.jsonl")
    assert plan.workload.prompt_tokens > 4096, "the plan's mean says nothing of a trace"
    assert fitting(plan, 4096) is None


def test_the_longest_of_spread_lengths_decides_not_their_mean(tmp_path: Path) -> None:
    (tmp_path / "spread.yaml").write_text(SPREAD, encoding="utf-8")
    plan = plan_of(tmp_path, url=("http://127.0.0.1:1",), workload="{here}/spread.yaml")
    assert "but the model takes 10000; give --mooncake-prompt-tokens" in str(fitting(plan, 10_000))
    assert fitting(plan, 60_000) is None


def test_prompt_and_answer_are_held_to_the_context_together(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, url=("http://127.0.0.1:1",), prompt_tokens="4000", output_tokens="96")
    assert fitting(plan, 4096) is None
    assert "request 0 needs 4000 + 96 = 4096 tokens, but the model takes 4095" in str(fitting(plan, 4095))


def test_a_workload_that_cannot_be_made_fits_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, url=("http://127.0.0.1:1",), workload="trace:{here}/bad.jsonl")
    assert "not JSON" in str(fitting(plan, 4096))
