from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mooncake.errors import PlanError, WorkloadError
from pytest_mooncake.plan.models import TraceSpec, WorkloadPlan
from pytest_mooncake.workload.build import layout_of
from pytest_mooncake.workload.layouts import trace
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.reuse.planned_reuse import segment_hits
from pytest_mooncake.workload.reuse.stack_distance import size_curve
from pytest_mooncake.workload.tokens.pools import pool_of_ids
from tests.support.brute_force_reuse import lru_hits, unbounded_hits

DATA = Path(__file__).parents[1] / "data" / "traces"
POOL = pool_of_ids(range(100, 5000), "test")


def row(
    timestamp: float = 0, input_length: int = 600, output_length: int = 5, hash_ids: Any = (0, 1)
) -> dict[str, Any]:
    ids = list(hash_ids) if isinstance(hash_ids, tuple) else hash_ids
    return {"timestamp": timestamp, "input_length": input_length, "output_length": output_length, "hash_ids": ids}


def written(path: Path, rows: list[Any]) -> Path:
    file = path / "trace.jsonl"
    file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in rows))
    return file


def replay(file: Path, *, requests: int | None = None, max_model_len: int | None = None, **spec: Any) -> Workload:
    data: dict[str, Any] = {"name": "t", "kind": "trace", "trace": TraceSpec(path=str(file), **spec)}
    plan = WorkloadPlan.model_validate(data | ({} if requests is None else {"requests": requests}))
    return Workload(plan, layout_of(plan, max_model_len=max_model_len), POOL, max_model_len=max_model_len)


@pytest.mark.parametrize(
    ("name", "requests", "blocks", "tokens"),
    [("conversation", 12_031, 0.366, 0.374), ("synthetic", 3_993, 0.640, 0.651)],
)
def test_reuse_of_the_published_traces_is_what_counting_ids_by_hand_gives(
    name: str, requests: int, blocks: float, tokens: float
) -> None:
    file = DATA / f"{name}_trace.jsonl.gz"
    work = replay(file)
    with gzip.open(file) as lines:
        recorded = [json.loads(line) for line in lines]
    seen: set[int] = set()
    by_hand = []
    for request in recorded:
        by_hand.append(sum(block in seen for block in request["hash_ids"]))
        seen.update(request["hash_ids"])
    assert segment_hits(work.layout).tolist() == by_hand
    assert len(work.layout) == len(recorded) == requests
    assert sum(by_hand) / sum(len(r["hash_ids"]) for r in recorded) == pytest.approx(blocks, abs=0.0005)
    reused_tokens = sum(min(512 * hits, r["input_length"]) for hits, r in zip(by_hand, recorded, strict=True))
    assert reused_tokens / sum(r["input_length"] for r in recorded) == pytest.approx(tokens, abs=0.0005)


@pytest.mark.parametrize("name", ["conversation", "synthetic"])
def test_hits_planned_for_a_published_trace_equal_those_of_a_cache_fed_with_its_prompts(name: str) -> None:
    work = replay(DATA / f"{name}_trace.jsonl.gz", requests=60, max_prompt_tokens=4000)
    prompts = [request.prompt for request in work.requests("n")]
    assert work.reuse(256).cold_hits.tolist() == unbounded_hits(prompts, 256)  # type: ignore[arg-type]  # ids
    assert [len(prompt) for prompt in prompts] == work.layout.prompt_tokens.tolist()


def test_blocks_with_equal_ids_are_equal_tokens_and_change_with_the_nonce(tmp_path: Path) -> None:
    work = replay(written(tmp_path, [row(hash_ids=(7, 8)), row(hash_ids=(7, 9))]))
    first, second = (request.prompt for request in work.requests("n"))
    assert first[:512] == second[:512]
    assert first[512] != second[512]
    other = work.requests("m")[0].prompt
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 10


def test_an_id_behind_another_predecessor_is_not_taken_for_reuse(tmp_path: Path) -> None:
    work = replay(written(tmp_path, [row(hash_ids=(1, 2)), row(hash_ids=(3, 2)), row(hash_ids=(1, 2))]))
    assert work.reuse(256).cold_hits.tolist() == [0, 0, 2]


def test_ids_may_be_real_hashes(tmp_path: Path) -> None:
    big = 2**62
    work = replay(written(tmp_path, [row(hash_ids=(big, -5)), row(hash_ids=(big, -6))]))
    assert work.reuse(256).cold_hits.tolist() == [0, 2]
    assert work.requests("n")[0].prompt[:512] == work.requests("n")[1].prompt[:512]


def test_the_schedule_is_the_recorded_one_scaled_and_starts_with_the_window(tmp_path: Path) -> None:
    file = written(tmp_path, [row(timestamp=t) for t in (500, 1500, 2500.5, 4500)])
    assert [r.offset_ns for r in replay(file).requests("n")] == [0, 1_000_000_000, 2_000_500_000, 4_000_000_000]
    assert [r.offset_ns for r in replay(file, speed=2.0).requests("n")][1] == 500_000_000
    part = replay(file, start_s=1.0, duration_s=2.0)
    assert [r.offset_ns for r in part.requests("n")] == [0, 1_000_500_000]
    assert len(replay(file, requests=3).requests("n")) == 3


def test_without_its_schedule_a_trace_is_a_closed_loop_in_the_recorded_order(tmp_path: Path) -> None:
    work = replay(written(tmp_path, [row(1000 * i) for i in range(3)]), schedule="none")
    assert [request.offset_ns for request in work.requests("n")] == [None] * 3
    assert work.plan.in_flight_cap == work.plan.concurrency


def test_a_recorded_schedule_is_kept_whatever_it_takes_in_flight(tmp_path: Path) -> None:
    assert replay(written(tmp_path, [row()])).plan.in_flight_cap is None


def test_five_minutes_of_the_conversation_trace_keep_their_requests_and_prefixes() -> None:
    file = DATA / "conversation_trace.jsonl.gz"
    part = replay(file, start_s=600, duration_s=300)
    with gzip.open(file) as lines:
        recorded = [r for r in map(json.loads, lines) if 600_000 <= r["timestamp"] < 900_000]
    assert part.layout.prompt_tokens.tolist() == [r["input_length"] for r in recorded]
    assert part.layout.output_tokens.tolist() == [r["output_length"] for r in recorded]
    assert part.layout.path.tolist() == [block for r in recorded for block in r["hash_ids"]]


def test_prompts_and_outputs_are_clipped_to_the_context_and_this_is_said(tmp_path: Path) -> None:
    rows = [row(), row(input_length=3000, hash_ids=(0, 1, 2, 3, 4, 5)), row(output_length=5000)]
    work = replay(written(tmp_path, rows), max_model_len=1000)
    lengths = [(r.prompt_tokens, r.output_tokens) for r in work.requests("n")]
    assert lengths == [(600, 5), (995, 5), (16, 984)]
    assert [len(r.prompt) for r in work.requests("n")] == [600, 995, 16]
    assert work.layout.notes == (
        "2 of 3 prompts were cut to the limits",
        "1 of 3 outputs were cut to the limits",
    )
    assert work.reuse(256).cold_hits.tolist() == [0, 2, 0]


def test_limits_of_the_plan_cut_as_well(tmp_path: Path) -> None:
    work = replay(written(tmp_path, [row(), row()]), max_prompt_tokens=300, max_output_tokens=2)
    assert [(r.prompt_tokens, r.output_tokens) for r in work.requests("n")] == [(300, 2), (300, 2)]
    assert work.layout.path.tolist() == [0, 0]


FORM = r"expected \{\"timestamp\": ms, \"input_length\": tokens"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{oops\n", rf"trace.jsonl:2: not JSON: '\{{oops'; {FORM}"),
        ("[1]\n", rf"trace.jsonl:2: a value does not fit .*{FORM}"),
        ("3\n", r"trace.jsonl:2: a value does not fit"),
        ({"timestamp": 1}, rf"trace.jsonl:2: key 'input_length' is missing; {FORM}"),
        (row(timestamp="x"), r"trace.jsonl:2: a value does not fit"),  # type: ignore[arg-type]
        (row(input_length=1.5), r"trace.jsonl:2: a value does not fit"),  # type: ignore[arg-type]
        (row(input_length=2**40), r"trace.jsonl:2: a value does not fit"),
        (row(hash_ids=["a", "b"]), r"trace.jsonl:2: a value does not fit"),
        (row(hash_ids=None), r"trace.jsonl:2: a value does not fit"),
        (row(input_length=0, hash_ids=()), r"trace.jsonl:2: input_length must be at least 1"),
        (row(output_length=0), r"trace.jsonl:2: output_length must be at least 1"),
        (row(timestamp=-1), r"trace.jsonl:2: timestamp lies before the line above; sort"),
        (row(timestamp=True), r"trace.jsonl:2: a value does not fit \(true or false is no number\)"),
        (row(output_length=False), r"trace.jsonl:2: a value does not fit \(true or false is no number\)"),
        (row(hash_ids=(True, 1)), r"trace.jsonl:2: a value does not fit \(true or false is no number\)"),
        (row(timestamp=2e14), r"trace.jsonl:2: timestamp lies beyond the year 5000; it is a number of ms"),
        (json.dumps(row(timestamp=float("nan"))) + "\n", r"trace.jsonl:2: not JSON"),
        (json.dumps(row(timestamp=float("inf"))) + "\n", r"trace.jsonl:2: not JSON"),
        ('{"timestamp": 1e400}\n', r"trace.jsonl:2: not JSON"),
        ("[" * 200_000 + "\n", r"trace.jsonl:2: not JSON"),
        ("[" * 900 + "]" * 900 + "\n", r"trace.jsonl:2: a value does not fit"),
        (row(timestamp=[[[[1]]]]), r"trace.jsonl:2: a value does not fit"),  # type: ignore[arg-type]
        (row(hash_ids=(2**70, 1)), r"trace.jsonl:2: a value does not fit"),
        (row(hash_ids="ab"), r"trace.jsonl:2: a value does not fit"),
        (" " * (4 * 2**20 + 1), r"trace.jsonl:2: a line of more than 4 MiB"),
        (row(hash_ids=(1,)), r"trace.jsonl:2: hash_ids does not hold one id for each 512 tokens .*block_tokens"),
    ],
)
def test_a_malformed_line_is_named_with_file_and_line(tmp_path: Path, bad: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        replay(written(tmp_path, [row(), bad, row()]))


def test_a_negative_time_is_refused_and_other_truths_of_a_line_are_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"trace.jsonl:1: timestamp must not be negative"):
        replay(written(tmp_path, [row(timestamp=-1)]))
    assert len(replay(written(tmp_path, [row() | {"stream": True, "tags": ["false"]}])).layout) == 1


@pytest.mark.parametrize("speed", [1e-9, 1e-300, 5e-324])
def test_a_speed_at_which_the_trace_never_ends_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(PlanError, match=r"comes in more than a century; raise it"):
        replay(written(tmp_path, [row(), row(timestamp=1e6)]), speed=speed)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(PlanError, match=r"cannot be read \(embedded null byte\)"):
        replay(Path("a\0b.jsonl"))


def test_a_trace_of_more_blocks_than_are_held_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_BLOCKS", 5)
    with pytest.raises(PlanError, match=r"trace.jsonl:3: more than 5 blocks until here; replay a part"):
        replay(written(tmp_path, [row(), row(), row()]))


def test_a_trace_of_more_bytes_than_are_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "CHECKED_EVERY_BYTES", 100)
    monkeypatch.setattr(trace, "MOST_BYTES", 200)
    with pytest.raises(PlanError, match=r"trace.jsonl:3: more than 0 GiB until here"):
        replay(written(tmp_path, [row()] * 9))


def test_blank_lines_are_passed_over_and_do_not_shift_the_line_that_is_named(tmp_path: Path) -> None:
    assert len(replay(written(tmp_path, [row(), "\n", row()])).layout) == 2
    with pytest.raises(PlanError, match=r"trace.jsonl:4: output_length"):
        replay(written(tmp_path, [row(), "\n", row(), row(output_length=0)]))


def test_a_file_with_nothing_to_send_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"trace.jsonl: no requests in it"):
        replay(written(tmp_path, ["\n"]))
    with pytest.raises(PlanError, match=r"trace.jsonl: no request between 9.0 s and"):
        replay(written(tmp_path, [row()]), start_s=9.0)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none.jsonl: cannot be read \(No such file"):
        replay(tmp_path / "none.jsonl")
    (tmp_path / "fake.gz").write_bytes(b"no gzip")
    with pytest.raises(PlanError, match=r"fake.gz: cannot be read \(Not a gzipped file"):
        replay(tmp_path / "fake.gz")
    whole = gzip.compress(json.dumps(row()).encode() * 50)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlanError, match=r"cut.gz: cannot be read"):
        replay(tmp_path / "cut.gz")


def test_a_prompt_that_cannot_even_hold_its_template_is_refused(tmp_path: Path) -> None:
    from pytest_mooncake.workload.tokens.pools import WordPool

    work = replay(written(tmp_path, [row(input_length=5, hash_ids=(1,))]))
    with pytest.raises(WorkloadError, match="too short"):
        Workload(work.plan, work.layout, WordPool(overhead_tokens=9))


@settings(max_examples=60, deadline=None)
@given(line=st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_whatever_stands_in_a_line_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, line: bytes
) -> None:
    file = tmp_path_factory.mktemp("t") / "trace.jsonl"
    file.write_bytes(line + b"\n")
    with pytest.raises(PlanError) as caught:
        replay(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["conversation", "synthetic"])
def test_the_curve_of_a_published_trace_equals_a_simulated_lru_cache_on_a_sample(name: str) -> None:
    file = DATA / f"{name}_trace.jsonl.gz"
    curve = size_curve(replay(file, requests=400).layout, 512)
    with gzip.open(file) as lines:
        recorded = [json.loads(line) for line in itertools.islice(lines, 400)]
    # whole blocks only, named by their ids: in the published traces an id stands for the whole prefix
    prompts = [request["hash_ids"][: request["input_length"] // 512] for request in recorded]
    assert curve.distinct == len({block for prompt in prompts for block in prompt})
    for size in (100, 1000, 3000, 10**6):
        assert curve.hits(size) == sum(lru_hits(prompts, size))
    assert curve.most_hits > 0
