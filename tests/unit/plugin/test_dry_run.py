"""The dry run says what a run would put into the store and take out of it, without asking anybody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_mooncake.errors import UsageError, WorkloadError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plugin.dry_run import plan_lines


def lines(tmp_path: Path, **options: object) -> dict[str, str]:
    printed = plan_lines(resolve(Options(**options), tmp_path))  # type: ignore[arg-type] # options are what varies
    return {line.split()[0]: " ".join(line.split()[1:]) for line in printed}


def test_the_bytes_and_objects_of_a_cold_round_are_told(tmp_path: Path) -> None:
    said = lines(tmp_path)["stores"]
    assert "252 MB of KV a cold round, 1,920 objects (512 B a token), into 8.6 GB of store" in said
    assert "removed again" in said


def test_what_lies_above_the_budget_would_be_refused(tmp_path: Path) -> None:
    assert lines(tmp_path)["budget"] == "the run will store 0.252 GB of at most 8.59 GB"
    with pytest.raises(UsageError, match=r"the run would store 0.252 GB, the budget is 0.1 GB"):
        lines(tmp_path, store_budget="100MB")


def test_an_attached_store_gives_a_fifth_of_what_is_free(tmp_path: Path) -> None:
    said = lines(tmp_path, url=("http://127.0.0.1:1",))
    assert said["budget"].startswith("20% of what is free in the store")
    assert "how many bytes is not known: give --mooncake-hardware FILE with model.kv_bytes_per_token" in said["stores"]
    told = lines(tmp_path, url=("http://127.0.0.1:1",), store_budget="1GB")["budget"]
    assert told.startswith("how many bytes the run will store is not known, so --mooncake-store-budget cannot be kept")


def test_the_hardware_file_tells_what_an_attached_model_stores(tmp_path: Path) -> None:
    (tmp_path / "qwen.yaml").write_text("model: {kv_bytes_per_token: 327680}\n", encoding="utf-8")
    attached = {"url": ("http://127.0.0.1:1",), "hardware": "qwen.yaml"}
    said = lines(tmp_path, **attached)
    assert said["stores"] == "at most 161,061 MB of KV a cold round, as --mooncake-hardware tells the model"
    assert lines(tmp_path, **attached, store_budget="170GB")["budget"] == "the run will store 161 GB of at most 170 GB"
    with pytest.raises(UsageError, match="the run would store 161 GB, the budget is 160 GB"):
        lines(tmp_path, **attached, store_budget="160GB")
    shared = lines(tmp_path, **attached, workload="kb-qa", requests="40", prompt_tokens="8192")
    assert shared["stores"].startswith("at most 1"), "what prompts share is stored once"
    assert int(shared["stores"].split()[2].replace(",", "")) < 40 * 8192 * 327_680 / 1e6 / 2


def test_where_counters_would_be_read_is_told_where_it_was_said(tmp_path: Path) -> None:
    url = ("http://127.0.0.1:1",)
    assert lines(tmp_path, url=url, metrics=("http://a:1", "http://a:2"))["counters"] == "http://a:1, http://a:2"
    assert lines(tmp_path, url=url, metrics=("none",))["counters"] == "none"
    assert "counters" not in lines(tmp_path, url=url)


@pytest.mark.parametrize(
    ("times", "said"),
    [(None, "nothing: cold rounds"), ("1", "if it holds no keys of somebody else"), ("2", "whosever keys it holds")],
)
def test_what_would_be_cleared_is_told(tmp_path: Path, times: str | None, said: str) -> None:
    assert said in lines(tmp_path, allow_clear=times)["clears"]


def test_how_it_waits_is_told(tmp_path: Path) -> None:
    assert lines(tmp_path, settle="fixed:5")["settles"] == "5 s by the clock after a cold round"
    assert "counters stand still" in lines(tmp_path)["settles"]


def test_what_a_scenario_shares_is_told_as_asked_and_as_planned(tmp_path: Path) -> None:
    said = lines(tmp_path, workload="kb-qa", requests="40", prompt_tokens="8192")
    assert said["workload"] == "kb-qa: 40 requests of 8,192 prompt tokens and 128 output tokens, 8 in flight, seed 0"
    assert said["reuse"].startswith("90.0% of 1,280 chunks within a cold round, all of them in a warm one")
    assert "asked: kb-qa 90%" in said["reuse"]
    assert said["note"].startswith("kb-qa: ")
    assert said["stores"].startswith("17 MB of KV a cold round, 128 objects"), "shared chunks are stored once"


def test_documents_share_nothing_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert not {"reuse", "note"} & set(lines(tmp_path))


def test_lengths_that_vary_are_told_by_their_range(tmp_path: Path) -> None:
    said = lines(tmp_path, workload="customer-chat")["workload"]
    assert re.search(r"120 requests of [\d,]+ to [\d,]+ \(mean 4,\d+\) prompt tokens and 128 output tokens", said)


def test_a_trace_is_told_as_it_will_be_sent(tmp_path: Path) -> None:
    line = '{"timestamp": %d, "input_length": 600, "output_length": 5, "hash_ids": [0, %d]}\n'
    (tmp_path / "day.jsonl").write_text("".join(line % (1000 * i, i + 1) for i in range(9)))
    said = lines(tmp_path, workload=f"trace:{tmp_path}/day.jsonl?speed=2")
    assert said["workload"].startswith("day: 9 requests of 600 prompt tokens and 5 output tokens, over 4.0 s")
    assert said["tokens"] == "5,400 prompt tokens a round"
    assert said["reuse"].startswith("88.9% of 18 chunks")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"workload": "kb-qa", "requests": "2"}, "give --mooncake-requests"),
        ({"prompt_tokens": "40000"}, "but the model takes 32768; give --mooncake-prompt-tokens"),
    ],
)
def test_a_workload_that_cannot_be_made_would_be_refused(tmp_path: Path, options: dict[str, str], why: str) -> None:
    with pytest.raises(WorkloadError, match=why):
        lines(tmp_path, **options)


def test_a_steady_state_is_told_with_what_an_lru_would_serve(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("kind: simulated\nstore:\n  nodes: 2\n  segment_bytes: 8388608\n")
    said = lines(tmp_path, stack="small.yaml", workload="customer-chat", steady=True)
    assert said["note"].startswith("steady state: the store holds 128 of the 277 chunks of a round; an exact LRU")
    assert said["stores"].endswith("which evicts")
    assert "budget" not in said


def test_power_and_cost_are_told_with_what_is_assumed_of_them(tmp_path: Path) -> None:
    said = lines(tmp_path)
    assert said["assumes"].startswith("rounds vary by 1.5 % to 8.0 %")
    assert said["power"].startswith("a verdict after 3 to 10 trials; PASS in ")
    assert said["minutes"].startswith("not known before the first trial")
    assert "power" not in lines(tmp_path, quick=True)


def test_claims_of_every_kind_are_told(tmp_path: Path) -> None:
    text = (
        "claims:\n  - {metric: ttft_mean, target: down 60 %}\n  - {metric: ttft_p90, target: '<= 450 ms'}\n"
        "  - {metric: itl_p50, gating: false}\n"
    )
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    printed = [line for line in plan_lines(resolve(Options(targets="mine.yaml"), tmp_path)) if "claim" in line[:12]]
    assert [line.split(maxsplit=1)[1] for line in printed] == [
        "mean TTFT -60 %: warm/cold <= 0.4 gates",
        "P90 TTFT (warm) ≤ 450 ms gates",
        "P50 ITL, nothing is asked of it, is reported",
    ]


def test_rounds_without_a_connector_are_told_where_they_are_asked_for(tmp_path: Path) -> None:
    assert "without the connector" in lines(tmp_path, cold_tax=True)["cold-tax"]
    assert "cold-tax" not in lines(tmp_path)


def test_starts_of_the_stack_are_told(tmp_path: Path) -> None:
    assert "started anew" not in lines(tmp_path)["rounds"]
    said = lines(tmp_path, sessions="3")["rounds"]
    assert said.endswith("the stack is started anew after every 1 trials, with a round left out each time")
