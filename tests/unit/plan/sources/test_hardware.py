"""The machines of a run, as a file tells them: sheets and config.json are read when the plan is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mooncake.analysis.audit.external_figures import machine_from_mapping
from pytest_mooncake.errors import PlanError, UsageError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.sources.hardware import read_machine
from tests.support.spec_figures import QWEN_72B

TEXT = """\
hardware: {sheet: a100-80g-sxm, gpus: 16, link_gbps: 200}
model: {config: config.json, parameters: 7.0e10}
network_gbps: 400
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_72B), encoding="utf-8")
    (tmp_path / "machine.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def test_a_file_of_machines_becomes_model_and_hardware(here: Path) -> None:
    machine = read_machine("machine.yaml", here)
    model, hardware = machine_from_mapping(machine.model_dump(exclude={"name"}))
    assert machine.name == "machine"
    assert (model.kv_bytes_per_token, model.parameters) == (327_680, 7.0e10)
    assert (hardware.peak_flops, hardware.link_gbps, hardware.network_gbps) == (16 * 312e12, 200, 400)


def test_a_plan_holds_them_and_reads_back_the_same(here: Path) -> None:
    plan = resolve(Options(stack="simulated", hardware="machine.yaml"), here)
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan
    assert plan.machine == read_machine("machine.yaml", here)
    assert resolve(Options(stack="simulated"), here).machine is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hardwear: {gpus: 1}\n", "machine.yaml:1: unknown key 'hardwear'; did you mean 'hardware'?"),
        ("hardware: {gpu: 1}\n", "machine.yaml:1: unknown key 'hardware.gpu'; did you mean 'gpus'?"),
        ("hardware: {gpus: -1}\n", "value -1 of 'hardware.gpus' does not fit"),
        ("model: {config: nowhere.json}\n", "nowhere.json: cannot be read (No such file or directory)"),
        ("model: {config: machine.yaml}\n", "machine.yaml cannot be read (not JSON)"),
        ("model: {config: list.json}\n", "list.json has no num_hidden_layers"),
        ("model: {config: small.json}\n", "small.json has no num_attention_heads"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_anything_is_started(here: Path, text: str, message: str) -> None:
    (here / "list.json").write_text("[]", encoding="utf-8")
    (here / "small.json").write_text('{"num_hidden_layers": 2, "hidden_size": 8}', encoding="utf-8")
    (here / "machine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PlanError) as refused:
        read_machine("machine.yaml", here)
    assert message in str(refused.value)


def test_a_file_or_sheet_that_is_not_there_is_said(here: Path) -> None:
    with pytest.raises(UsageError, match=r"--mooncake-hardware nowhere\.yaml: no such file"):
        read_machine("nowhere.yaml", here)
    (here / "machine.yaml").write_text("hardware: {sheet: b9000}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"hardware\.sheet b9000: no such name"):
        read_machine("machine.yaml", here)


def test_a_models_sizes_may_stand_below_its_text_config(here: Path) -> None:
    (here / "config.json").write_text(json.dumps({"text_config": QWEN_72B}), encoding="utf-8")
    model, _ = machine_from_mapping(read_machine("machine.yaml", here).model_dump(exclude={"name"}))
    assert model.kv_bytes_per_token == 327_680


def test_a_plan_keeps_a_hybrid_models_layers_and_the_type_of_its_cache(here: Path) -> None:
    hybrid = {"text_config": QWEN_72B | {"full_attention_interval": 4, "attention_fold": 2}, "vision_config": {"a": 1}}
    (here / "config.json").write_text(json.dumps(hybrid), encoding="utf-8")
    (here / "machine.yaml").write_text("model: {config: config.json, kv_dtype: fp8}\n", encoding="utf-8")
    plan = resolve(Options(stack="simulated", hardware="machine.yaml"), here)
    assert plan.machine is not None
    assert "vision_config" not in plan.machine.model["config"]
    stored = Plan.model_validate(plan.model_dump(mode="json")).machine
    assert stored is not None
    model, _ = machine_from_mapping(stored.model_dump(exclude={"name"}))
    assert model.kv_bytes_per_token == 327_680 // 4 // 2
    assert model.doubts == ("keys of config.json that are not understood: attention_fold",)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_hidden_layers": "many"}, "num_hidden_layers is 'many'; a whole number is needed"),
        ({"sliding_window": 2.5}, "sliding_window is 2.5; a whole number is needed"),
        ({"layer_types": "mamba"}, "layer_types is 'mamba'; a list of names is needed"),
    ],
)
def test_a_configuration_with_something_else_for_a_size_is_refused(
    here: Path, keys: dict[str, object], message: str
) -> None:
    (here / "config.json").write_text(json.dumps(QWEN_72B | keys), encoding="utf-8")
    with pytest.raises(PlanError) as refused:
        read_machine("machine.yaml", here)
    assert message in str(refused.value)
