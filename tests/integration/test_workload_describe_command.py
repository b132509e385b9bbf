"""`pytest-mooncake workload describe`: any workload or trace, and the store it wants."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_mooncake.cli.workload import workload_app
from pytest_mooncake.errors import MooncakeError, PlanError, UsageError, WorkloadError

TRACES = Path(__file__).parents[1] / "data" / "traces"
QWEN_72B = {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 29568,
    "torch_dtype": "bfloat16",
}
runner = CliRunner()


def described(*arguments: str) -> str:
    result = runner.invoke(workload_app, ["describe", *arguments])
    if result.exception is not None and isinstance(result.exception, MooncakeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "requests", "blocks"), [("conversation", "12,031", "36.6%"), ("synthetic", "3,993", "64.0%")]
)
def test_a_published_trace_is_described_with_the_reuse_it_is_known_for(name: str, requests: str, blocks: str) -> None:
    text = described(str(TRACES / f"{name}_trace.jsonl.gz"), "--kv-bytes-per-token", "327680")
    assert f"{requests} requests in " in text
    assert re.search(rf"recorded +{blocks}  of the trace's own blocks had been seen before", text)
    assert re.search(r"working set: .* GB at 327,680 bytes a token", text)
    assert len(re.findall(r"^ +[\d,]+\.\d\d GB +\d+\.\d%", text, re.MULTILINE)) == 8
    assert described(str(TRACES / f"{name}_trace.jsonl.gz"), "--kv-bytes-per-token", "327680") == text


def test_a_packed_workload_is_described_by_its_name_for_the_model_of_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_72B))
    text = described("long-document", "--config", "config.json")
    assert text.startswith("long-document: 30 distinct documents")
    assert "161.06 GB at 327,680 bytes a token" in text


def test_a_file_of_ones_own_and_part_of_a_trace_are_described_from_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("requests: 2\n")
    assert described("mine.yaml").startswith("mine\n\n2 requests, 4 in flight\n")
    line = '{"timestamp": %d, "input_length": 600, "output_length": 5, "hash_ids": [0, %d]}\n'
    (tmp_path / "day.jsonl").write_text("".join(line % (1000 * i, i + 1) for i in range(9)))
    assert "9 requests in 8.0 s" in described("day.jsonl")
    assert "3 requests in 1.0 s" in described("trace:day.jsonl?duration_s=3&speed=2")


def test_a_workload_is_described_as_scaled_by_options() -> None:
    text = described("kb-qa", "--requests", "12", "--prompt-tokens", "2048")
    assert "12 requests, 8 in flight" in text
    assert "note: kb-qa: 12 requests of about 2048 tokens reuse at most 80% of their chunks, 90% was asked" in text


def test_a_context_cuts_what_does_not_fit_and_this_is_said() -> None:
    text = described(str(TRACES / "synthetic_trace.jsonl.gz"), "--max-model-len", "131072")
    assert "note: 10 of 3993 prompts were cut to the limits" in text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["kb-qo"], UsageError, "did you mean 'kb-qa'"),
        (["none.yaml"], UsageError, "no such file"),
        (["none.jsonl"], UsageError, "no such file"),
        (["kb-qa", "--config", "none.json"], PlanError, r"none\.json: cannot be read"),
        (["kb-qa", "--config", "deep.json"], PlanError, "not a model's config.json"),
        (["kb-qa", "--config", "/dev/zero"], PlanError, "cannot be read .larger than"),
        (["kb-qa", "--config", "pipe.json"], PlanError, "not a model's config.json"),
        (["kb-qa", "--config", "c.json", "--kv-bytes-per-token", "1"], UsageError, "leave out --kv-bytes-per-token"),
        (["kb-qa", "--config", "broken.json"], PlanError, "not a model's config.json"),
        (["kb-qa", "--config", "list.json"], PlanError, "not a model's config.json"),
        (["kb-qa", "--config", "other.json"], PlanError, "num_hidden_layers"),
        (["kb-qa", "--requests", "2", "--prompt-tokens", "8192"], WorkloadError, "--mooncake-requests"),
    ],
)
def test_what_cannot_be_described_is_refused_in_one_line(
    tmp_path: Path, arguments: list[str], error: type[MooncakeError], message: str
) -> None:
    for name, content in (("broken", "{"), ("list", "[]"), ("other", "{}"), ("c", "{}")):
        (tmp_path / f"{name}.json").write_text(content)
    (tmp_path / "deep.json").write_text("[" * 200_000)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(error, match=message) as refused:
        described(*arguments)
    assert "\n" not in str(refused.value)
