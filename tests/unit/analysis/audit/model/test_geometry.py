"""Models of today against hand calculation; what their configurations say and is not understood is a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.audit.external_figures import figures_from_mapping
from pytest_mooncake.analysis.audit.model.geometry import geometry_of
from pytest_mooncake.analysis.audit.model.kv_width import kv_dtype_bytes, weight_bits
from pytest_mooncake.analysis.audit.run_audit import audit
from pytest_mooncake.api import judge
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.sources.model_config import READ, language_model_of, relevant
from pytest_mooncake.records import Verdict
from tests.support.model_configs import MODELS, Model
from tests.support.spec_figures import QWEN_72B

BY_NAME = {model.name.partition("/")[2]: model for model in MODELS}
QWEN_NEXT = BY_NAME["Qwen3-Next-80B-A3B-Instruct"].config
GPT_OSS = BY_NAME["gpt-oss-20b"].config


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("tokens", [100, 3000, 16_384, 131_072])
def test_the_cache_of_a_model_is_what_hand_calculation_gives(model: Model, tokens: int) -> None:
    shape = geometry_of(model.config)
    assert shape.doubts == ()
    assert shape.kv_bytes_per_token == model.full + model.windowed
    assert shape.kv_bytes(tokens) == model.full * tokens + model.windowed * min(tokens, model.window or tokens)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_weights_a_token_passes_through_are_about_those_its_makers_tell(model: Model) -> None:
    held = language_model_of(model.config)
    vocabulary = model.embedding * held["vocab_size"] * held["hidden_size"]
    shape = geometry_of(model.config)
    assert shape.parameters is not None
    assert shape.parameters + vocabulary == pytest.approx(model.active, rel=0.1)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_plan_keeps_what_a_models_shape_is_computed_from(model: Model) -> None:
    kept = relevant(model.config)
    assert geometry_of(json.loads(json.dumps(kept))) == geometry_of(model.config)
    assert "vision_config" not in kept


def test_a_cache_in_eight_bits_is_read_from_the_checkpoint_or_told() -> None:
    scheme = {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert geometry_of(QWEN_72B | {"quantization_config": scheme}).kv_bytes_per_token == 163_840
    modelopt = {"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}
    assert geometry_of(QWEN_72B | {"quantization_config": modelopt}).kv_bytes_per_token == 163_840
    assert geometry_of(QWEN_72B | {"quantization_config": {"quant_method": "fp8"}}).kv_bytes_per_token == 327_680
    told = figures_from_mapping({"cold": {}, "warm": {}, "model": {"config": QWEN_72B, "kv_dtype": "fp8"}}).model
    assert told.kv_bytes_per_token == 163_840
    again = {"config": QWEN_72B | {"quantization_config": scheme}, "kv_dtype": "bfloat16"}
    assert figures_from_mapping({"cold": {}, "warm": {}, "model": again}).model.kv_bytes_per_token == 327_680
    assert (kv_dtype_bytes("nvfp4"), kv_dtype_bytes("auto"), kv_dtype_bytes(None)) == (0.5, None, None)
    with pytest.raises(PlanError, match="'fp9' is no type of a KV cache; known are auto, float32"):
        kv_dtype_bytes("fp9")


def test_a_checkpoint_in_32_bits_is_served_in_16() -> None:
    assert geometry_of(QWEN_72B | {"torch_dtype": "float32"}).kv_bytes_per_token == 327_680


@pytest.mark.parametrize(
    ("quantised", "bits"),
    [
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "awq", "bits": 4}, 4),
        ({"quant_method": "gptq", "bits": 8}, 8),
        ({"quant_method": "mxfp4"}, 4),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}, 8),
        ({"quant_method": "something new"}, 4),
    ],
)
def test_weights_have_the_bits_their_checkpoint_tells_and_else_the_fewest(quantised: dict[str, Any], bits: int) -> None:
    assert weight_bits(QWEN_72B | {"quantization_config": quantised}) == bits


DOUBTFUL: list[tuple[dict[str, Any], str, int | None]] = [
    ({"attention_fold": 4}, "attention_fold", 327_680),
    ({"swa_num_kv_heads": 4}, "swa_num_kv_heads", 327_680),
    ({"layer_types": ["full_attention", "folded_attention"] * 40}, "folded_attention", None),
    ({"layer_types": ["full_attention"] * 3}, "3 layers have a kind, the model has 80", None),
    ({"hybrid_override_pattern": "M?*"}, "letters that are not known: ?", None),
    ({"attn_type_list": [1, 0, 2]}, "attn_type_list does not tell every layer", None),
    ({"linear_attn_config": {"every": 4}}, "linear_attn_config does not list", None),
    ({"block_configs": [{"ffn": {}}]}, "block_configs does not tell", None),
    ({"sliding_window": 4096, "model_type": "new"}, "which layers the sliding window concerns", 327_680),
    ({"layer_types": ["sliding_attention"] * 80}, "whose width is not told", 327_680),
    ({"index_topk": 2048, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, "its indexer", 80 * 576 * 2),
    ({"quantization_config": {"kv_cache_scheme": {"quant_method": "new"}}}, "give model.kv_dtype", 327_680),
    ({"head_dim": "wide", "hidden_size": 2, "num_attention_heads": 4}, "widths of keys and values", None),
]


@pytest.mark.parametrize(("keys", "said", "each"), DOUBTFUL, ids=[said[:20] for _, said, _ in DOUBTFUL])
def test_what_a_configuration_says_and_is_not_understood_is_a_warning_never_invalid(
    keys: dict[str, Any], said: str, each: int | None
) -> None:
    shape = geometry_of(QWEN_72B | keys)
    assert said in "; ".join(shape.doubts)
    assert shape.kv_bytes_per_token == each
    figures = {
        "cold": {"ttft_ms": {"mean": 1}, "tpot_ms": {"mean": 0.001}, "request_throughput": 1000},
        "warm": {"ttft_ms": {"mean": 1}, "tpot_ms": {"mean": 0.001}, "request_throughput": 1000},
        "prompt_tokens": 16384, "network_gbps": 1, "model": {"config": QWEN_72B | keys},
        "hardware": {"gpus": 1, "peak_tflops_per_gpu": 1, "hbm_gb_per_s_per_gpu": 1},
    }  # fmt: skip
    found = {one.law: one for one in audit(figures_from_mapping(figures))}
    assert "broken" not in {one.status for one in found.values()}
    assert found["model"].status == "warning"
    assert said in found["model"].detail


def test_figures_that_are_given_clear_the_doubt() -> None:
    model = {"config": QWEN_72B | {"attention_fold": 4}, "kv_bytes_per_token": 1000, "parameters": 1e9}
    assert figures_from_mapping({"cold": {}, "warm": {}, "model": model}).model.doubts == ()


def test_keys_that_say_nothing_or_change_nothing_are_no_doubt() -> None:
    harmless = {
        "attention_bias": True, "attention_dropout": 0.1, "attn_implementation": "sdpa", "attention_fold": None,
        "attn_logit_softcapping": 50.0, "_attn_implementation_autoset": True, "sliding_windows": 0,
    }  # fmt: skip
    assert geometry_of(QWEN_72B | harmless).doubts == ()


def test_other_spellings_of_the_same_layers_are_read_alike() -> None:
    kinds = {
        "hybrid_layer_pattern": [0, 1] * 40, "sliding_window_pattern": 2, "_sliding_window_pattern": "GL",
        "block_types": ["attention", "local"],
    }  # fmt: skip
    base = QWEN_72B | {"sliding_window": 128}
    expected = geometry_of(base | {"layer_types": ["full_attention", "sliding_attention"] * 40})
    assert [geometry_of(base | {key: value}).kv_bytes(9000) for key, value in kinds.items()] == [
        expected.kv_bytes(9000)
    ] * len(kinds)
    states = {
        "full_attention_interval": 4, "attn_layer_indices": [*range(3, 80, 4)], "full_attn_idxs": [*range(3, 80, 4)],
        "layers_block_type": ["mamba", "mamba", "mamba", "attention"] * 20,
    }  # fmt: skip
    assert {geometry_of(QWEN_72B | {key: value}).kv_bytes_per_token for key, value in states.items()} == {327_680 // 4}


def test_windows_may_begin_at_a_layer_and_blocks_may_differ() -> None:
    late = geometry_of(QWEN_72B | {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 60})
    assert late.window_kv_bytes_per_token == 20 * 4096
    blocks = [{"attention": {"n_heads_in_group": 8}}] * 60 + [{"attention": {"no_op": True}}] * 20
    assert geometry_of(QWEN_72B | {"block_configs": blocks}).kv_bytes_per_token == 60 * 2 * 8 * 128 * 2
    shared = geometry_of(QWEN_72B | {"num_kv_shared_layers": 40})
    assert shared.kv_bytes_per_token == 163_840
    globally = {"layer_types": ["sliding_attention"] * 40 + ["full_attention"] * 40, "sliding_window": 512}
    wide = geometry_of(QWEN_72B | globally | {"global_head_dim": 256, "num_global_key_value_heads": 2})
    assert wide.kv_bytes_per_token == 40 * 2 * 2 * (8 * 128 + 2 * 256)


def test_older_spellings_of_the_sizes_are_read() -> None:
    coder = {"n_layer": 40, "n_embd": 6144, "n_head": 48, "multi_query": True, "torch_dtype": "float16"}
    assert geometry_of(coder | {"model_type": "gpt_bigcode"}).kv_bytes_per_token == 40 * 2 * 128 * 2
    mosaic = {"n_layers": 40, "d_model": 6144, "n_heads": 48, "attn_config": {"kv_n_heads": 8}}
    assert geometry_of(mosaic).kv_bytes_per_token == 40 * 2 * 8 * 128 * 2
    named = {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"] * 2, "hidden_size": 64}
    assert geometry_of(named | {"num_attention_heads": 2, "head_dim": 32}).kv_bytes_per_token == 2 * 2 * 2 * 32 * 2


def test_attention_of_a_window_costs_what_it_sees() -> None:
    near = geometry_of(GPT_OSS)
    assert near.attention_flop(128) == 2.0 * 24 * 4096 * 128**2
    assert near.attention_flop(10_000) == 2.0 * 4096 * (12 * 10_000.0**2 + 12 * 128 * (20_000 - 128))


HEALTHY = """\
requests: 30
concurrency: 8
prompt_tokens: 16384
output_tokens: 128
cold: {ttft_ms: {mean: 1200}, tpot_ms: {mean: 15.0}, request_throughput: 2.5, output_token_throughput: 320}
warm: {ttft_ms: {mean: 250}, tpot_ms: {mean: 12.0}, request_throughput: 4.5, output_token_throughput: 576}
model: {config: config.json}
hardware: {gpus: 4, peak_tflops_per_gpu: 989, hbm_gb_per_s_per_gpu: 3350}
network_gbps: 100
"""


def test_a_healthy_run_of_a_hybrid_model_on_100_gigabits_is_not_invalid(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_NEXT), encoding="utf-8")
    (tmp_path / "figures.yaml").write_text(HEALTHY, encoding="utf-8")
    targets = tmp_path / "targets.yaml"
    targets.write_text("claims:\n  - {metric: ttft_mean, target: '-60 %'}\n", encoding="utf-8")
    report = judge(tmp_path / "figures.yaml", targets=targets, base=tmp_path)
    assert report.judgement.verdict is Verdict.INCONCLUSIVE
    assert "14 Gb/s of 100 Gb/s" in {one.law: one.detail for one in report.judgement.audit}["bytes"]
    assert report.limits is not None
    assert report.limits["kv_bytes_per_token"] == 24_576


def test_a_window_shortens_what_a_prompt_loads(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GPT_OSS), encoding="utf-8")
    (tmp_path / "figures.yaml").write_text(HEALTHY, encoding="utf-8")
    limits = judge(tmp_path / "figures.yaml", base=tmp_path).limits
    assert limits is not None
    assert limits["kv_bytes_per_prompt"] == 24_576 * (16_384 + 128)
    assert limits["kv_bytes_per_token"] == 24_768


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{config: config.json, kv_dtype: fp9}", "'fp9' is no type of a KV cache; known are auto, float32"),
        ("{kv_dtype: fp8}", "kv_dtype needs config, the path of a config.json"),
    ],
)
def test_a_type_that_cannot_be_meant_is_refused_with_its_line(model: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_72B), encoding="utf-8")
    (tmp_path / "figures.yaml").write_text(HEALTHY.replace("{config: config.json}", model), encoding="utf-8")
    with pytest.raises(PlanError) as refused:
        judge(tmp_path / "figures.yaml", base=tmp_path)
    assert message in str(refused.value)
    assert "figures.yaml:7" in str(refused.value)


def test_sizes_that_a_multimodal_configuration_leaves_to_defaults_are_known() -> None:
    small = {"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34, "hidden_size": 2560}}
    assert geometry_of(small).kv_bytes_per_token == 34 * 2 * 4 * 256 * 2
    nested = {"thinker_config": {"text_config": QWEN_72B}}
    assert geometry_of(nested).kv_bytes_per_token == 327_680


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 10**12)
    | st.floats()
    | st.sampled_from(["M*-E", "mamba", "LLG", "", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["attention", "num_bits"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(READ)), JUNK, max_size=8))
def test_whatever_a_configuration_holds_its_shape_is_told_or_refused_in_one_line(keys: dict[str, Any]) -> None:
    try:
        shape = geometry_of(QWEN_72B | keys)
    except PlanError:
        return
    assert shape.kv_bytes_per_token is None or shape.kv_bytes_per_token >= 0
    assert (shape.kv_bytes(10**6) or 0) >= 0
    assert geometry_of(relevant(QWEN_72B | keys)) == shape
