from __future__ import annotations

import re

import pytest

from pytest_mooncake.plan.models import Lengths, Traffic, WorkloadPlan
from pytest_mooncake.workload.build import layout_of
from pytest_mooncake.workload.describe import describe
from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse
from pytest_mooncake.workload.reuse.stack_distance import size_curve

DEFAULT = WorkloadPlan(name="long-document", description="thirty documents")
QUESTIONS = WorkloadPlan(
    name="qa",
    kind="scenario",
    requests=40,
    prompt_tokens=2560,
    traffic=(Traffic(name="qa", reuse=0.7, documents=20, prompt=Lengths(shape="lognormal", spread=0.5)),),
)


def test_the_default_workload_needs_the_161_gb_that_a_72b_model_is_known_to_need() -> None:
    text = describe(DEFAULT, layout_of(DEFAULT), kv_bytes_per_token=327_680)
    assert "30 requests, 4 in flight" in text
    assert "working set: 1,920 distinct chunks, 491,520 tokens, 161.06 GB at 327,680 bytes a token" in text
    assert re.search(r"prompt +16,384 +16,384 +16,384 +16,384 +16,384 +491,520\n", text)
    assert re.search(r"prompt tokens +8,193 to +16,384 +30 +#{40}\n", text)
    assert re.search(r"161\.06 GB +0\.0% +100\.0%  #{40}\n", text)


def test_reuse_is_printed_as_planned_beside_what_was_asked() -> None:
    layout = layout_of(QUESTIONS)
    text = describe(QUESTIONS, layout)
    ratio = planned_reuse(layout).cold_ratio
    assert ratio == pytest.approx(0.7, abs=0.005)
    assert re.search(rf"cold round +{ratio:.1%}  of chunks, .*\(asked: qa 70%\)", text)
    assert re.search(r"warm round +100\.0%", text)
    assert f"note: {layout.notes[0]}" in text


def test_without_a_model_sizes_are_in_tokens_and_the_curve_is_the_computed_one() -> None:
    layout = layout_of(QUESTIONS)
    curve, reuse = size_curve(layout), planned_reuse(layout)
    half = round(reuse.distinct_chunks / 2)
    text = describe(QUESTIONS, layout)
    assert re.search(rf"{half * 256:,} tokens +{curve.hit_ratio(half):.1%} ", text)
    assert f"90 % of the reuse within a round needs {curve.chunks_for(0.9) * 256:,} tokens" in text
    assert "GB" not in text


def test_a_small_model_is_measured_in_megabytes() -> None:
    plan = WorkloadPlan(name="tiny", requests=2, prompt_tokens=1024)
    assert "2,048 tokens, 2.10 MB at 1,024 bytes" in describe(plan, layout_of(plan), kv_bytes_per_token=1024)


def test_prompts_without_a_whole_chunk_have_no_curve() -> None:
    plan = WorkloadPlan(name="short", requests=3, prompt_tokens=100)
    text = describe(plan, layout_of(plan))
    assert "working set: 0 distinct chunks" in text
    assert re.search(r"warm round +0\.0%", text)
    assert "hit rate" not in text


@pytest.mark.parametrize("tokens", [16, 17, 32, 1000, 1024, 1025])
def test_every_prompt_stands_in_one_bar_whose_bounds_hold_it(tokens: int) -> None:
    plan = WorkloadPlan(name="w", requests=5, prompt_tokens=tokens)
    bars = re.findall(r"prompt tokens +([\d,]+) to +([\d,]+) +5 ", describe(plan, layout_of(plan)))
    assert len(bars) == 1
    low, high = (int(bound.replace(",", "")) for bound in bars[0])
    assert low <= tokens <= high


def test_nothing_trails_and_no_line_is_wider_than_a_terminal_that_people_use() -> None:
    lines = describe(QUESTIONS, layout_of(QUESTIONS), kv_bytes_per_token=327_680).splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert max(map(len, lines)) <= 120
