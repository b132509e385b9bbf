"""From `--mooncake-workload` and its overrides to a workload, or one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import MOST_TRACE_REQUESTS, WorkloadPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.sources.workload import workload_of

LINE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n'


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "traces").mkdir()
    for name in ("day.jsonl", "day.jsonl.gz"):
        (tmp_path / "traces" / name).write_text(LINE, encoding="utf-8")
    return tmp_path


def of(here: Path, workload: str | None = None, **numbers: str) -> WorkloadPlan:
    return workload_of(Options(workload=workload, **numbers), here)  # type: ignore[arg-type]  # numbers are text


def test_a_trace_is_named_by_its_path_and_sent_whole_on_its_schedule(here: Path) -> None:
    for file in ("traces/day.jsonl", "traces/day.jsonl.gz"):
        plan = of(here, f"trace:{file}")
        assert (plan.kind, plan.name, plan.requests) == ("trace", "day", MOST_TRACE_REQUESTS)
        assert plan.trace is not None
        assert (plan.trace.path, plan.trace.speed, plan.in_flight_cap) == (file, 1.0, None)


def test_which_part_of_a_trace_and_how_fast_stands_behind_a_question_mark(here: Path) -> None:
    plan = of(here, "trace:traces/day.jsonl?start_s=600&duration_s=300&speed=10&schedule=none&max_prompt_tokens=4096")
    assert plan.trace is not None
    assert (plan.trace.start_s, plan.trace.duration_s, plan.trace.speed) == (600, 300, 10)
    assert (plan.trace.schedule, plan.trace.max_prompt_tokens, plan.in_flight_cap) == ("none", 4096, 4)


def test_lengths_of_a_trace_can_be_cut_and_its_requests_limited_by_the_usual_options(here: Path) -> None:
    plan = of(here, "trace:traces/day.jsonl?speed=2", requests="50", prompt_tokens="2,048", output_tokens="8")
    assert plan.trace is not None
    assert (plan.trace.max_prompt_tokens, plan.trace.max_output_tokens, plan.trace.speed) == (2048, 8, 2)
    assert plan.requests == 50


def test_a_trace_without_its_schedule_takes_a_concurrency(here: Path) -> None:
    assert of(here, "trace:traces/day.jsonl?schedule=none", concurrency="9").in_flight_cap == 9


@pytest.mark.parametrize(
    ("value", "numbers", "message"),
    [
        ("trace:", {}, "no such file"),
        ("trace:gone.jsonl", {}, r"no such file \(.*gone.jsonl\); write trace:PATH"),
        ("trace:traces/day.jsonl?sped=3", {}, "unknown key 'sped'; did you mean 'speed'?"),
        ("trace:traces/day.jsonl?path=x", {}, "unknown key 'path'; known keys: speed, schedule, start_s"),
        ("trace:traces/day.jsonl?speed=fast", {}, r"trace\.speed: input should be a valid number"),
        ("trace:traces/day.jsonl?speed=0", {}, r"trace\.speed: input should be greater than 0"),
        ("trace:traces/day.jsonl?schedule=later", {}, r"trace\.schedule: input should be 'recorded' or 'none'"),
        ("trace:traces/day.jsonl", {"concurrency": "4"}, "recorded schedule.*schedule=none"),
        ("kb-qa", {"requests": "many"}, "--mooncake-requests many: expected a whole number"),
        ("kb-qa", {"requests": "0"}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_one_line_that_says_what_to_do(
    here: Path, value: str, numbers: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        of(here, value, **numbers)
    assert "\n" not in str(refused.value)


def test_paths_in_a_file_start_at_that_file_and_are_kept_relative(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "t.yaml").write_text("kind: trace\ntrace: {path: ../traces/day.jsonl, speed: 3}\n")
    (here / "mine" / "d.yaml").write_text("documents: texts/*.md\n")
    (here / "mine" / "a.yaml").write_text("documents: /srv/texts/*.md\n")
    trace = of(here, "mine/t.yaml", requests="7")
    assert trace.trace is not None
    assert (trace.trace.path, trace.trace.speed, trace.requests) == (str(Path("traces/day.jsonl")), 3, 7)
    assert of(here, "mine/d.yaml").documents == str(Path("mine/texts/*.md"))
    assert of(here, "mine/a.yaml").documents == "/srv/texts/*.md"


def test_overrides_scale_a_scenario_and_keep_its_traffic(here: Path) -> None:
    whole, part = of(here, "customer-chat"), of(here, "customer-chat", requests="16", prompt_tokens="2048")
    assert (part.requests, part.prompt_tokens, part.traffic) == (16, 2048, whole.traffic)
    assert part.in_flight_cap == whole.concurrency
