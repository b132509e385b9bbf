"""What the lints are told of a workload is what will be sent, whatever kind of workload it is."""

from __future__ import annotations

from pathlib import Path

from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.run.preflight import shape_of
from pytest_mooncake.stack.preflight import WorkloadShape
from tests.support.scripted_world import view

LINE = '{"timestamp": %d, "input_length": %d, "output_length": 5, "hash_ids": [0, %d]}\n'


def shape(tmp_path: Path, workload: str | None = None, **options: str) -> WorkloadShape | None:
    return shape_of(resolve(Options(workload=workload, **options), tmp_path).workload, view())  # type: ignore[arg-type]


def test_documents_store_all_their_chunks(tmp_path: Path) -> None:
    assert shape(tmp_path) == WorkloadShape(
        requests=30, prompt_tokens=16_384, concurrency=4, distinct_chunks=30 * 16_384 // 256
    )


def test_shared_chunks_count_once(tmp_path: Path) -> None:
    assert shape(tmp_path, "kb-qa", requests="40") == WorkloadShape(
        requests=40, prompt_tokens=8192, concurrency=8, distinct_chunks=128
    )


def test_a_trace_is_its_requests_and_its_longest_prompt(tmp_path: Path) -> None:
    (tmp_path / "day.jsonl").write_text("".join(LINE % (i, 600 + 100 * i, i + 1) for i in range(3)))
    told = shape(tmp_path, f"trace:{tmp_path}/day.jsonl")
    assert told == WorkloadShape(requests=3, prompt_tokens=800, concurrency=1, distinct_chunks=3)


def test_a_workload_that_cannot_be_made_is_not_linted(tmp_path: Path) -> None:
    assert shape(tmp_path, "kb-qa", requests="2") is None
