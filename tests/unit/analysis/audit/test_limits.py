"""Physical limits and feasibility, against the worked figures of the reference model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.audit.feasibility import Probe, feasibility
from pytest_mooncake.analysis.audit.limits import Hardware, limits
from pytest_mooncake.analysis.audit.model.geometry import Geometry, geometry_of
from pytest_mooncake.analysis.figures.summary import Summary, summarise
from pytest_mooncake.errors import PlanError
from tests.support.made_rounds import a_round, serial
from tests.support.spec_figures import QWEN_72B

A100 = Hardware(gpus=8, peak_tflops_per_gpu=312, link_gbps=200)
SPEC = Probe.of_times(1200, 127 * 15.0, 127 * 14.5)


def summary(ttft_ms: float, tpot_ms: float) -> Summary:
    return summarise([a_round(serial(ttft_ms, tpot_ms, 4))])


def test_qwen_72b_on_200_gigabits_gives_the_reference_figures() -> None:
    bounds = limits(geometry_of(QWEN_72B), A100, prompt_tokens=16384)

    assert bounds.kv_bytes_per_token == 327_680
    assert bounds.kv_bytes_per_prompt == 5_368_709_120
    assert bounds.load_floor_s == pytest.approx(0.2147, abs=1e-3)
    assert bounds.flop_per_prompt == pytest.approx(2.65e15, rel=0.01)
    assert bounds.prefill_floor_s == pytest.approx(2.65 / 2.496, rel=0.01)
    assert geometry_of(QWEN_72B).parameters == pytest.approx(70.2e9, rel=0.005)
    assert bounds.best_ttft_ratio is None


def test_the_share_reached_is_that_of_the_largest_possible_cut() -> None:
    cold, warm = summary(1200, 15), summary(400, 14.5)
    bounds = limits(geometry_of(QWEN_72B), A100, prompt_tokens=16384, cold=cold, warm=warm)

    assert bounds.best_ttft_ratio == pytest.approx(214.7 / 1200, rel=1e-3)
    assert bounds.ttft_cut_reached_share == pytest.approx((2 / 3) / (1 - 214.7 / 1200), rel=1e-3)
    assert bounds.best_throughput_ratio == pytest.approx(1260 / (214.7 + 58), rel=1e-3)
    assert bounds.throughput_reached_share == pytest.approx((1260 / 458) / (1260 / 272.7), rel=1e-3)


def test_unknown_inputs_leave_their_bounds_unknown() -> None:
    bounds = limits(Geometry(), Hardware(), prompt_tokens=100, cold=summary(10, 1), warm=summary(5, 1))
    assert set(bounds.to_json().values()) == {None}
    loaded = limits(Geometry(kv_bytes_per_token=10), Hardware(network_gbps=1), prompt_tokens=100, cold=summary(10, 1))
    assert loaded.kv_bytes_per_prompt == 1000
    assert loaded.best_throughput_ratio is None
    assert loaded.throughput_reached_share is None


def test_a_link_slower_than_the_prefill_allows_no_cut() -> None:
    slow = limits(Geometry(kv_bytes_per_token=10**9), A100, prompt_tokens=1000, cold=summary(10, 1), warm=summary(9, 1))
    assert slow.best_ttft_ratio == 1
    assert slow.ttft_cut_reached_share is None


def test_fp8_caches_latents_and_linear_layers_shrink_the_cache() -> None:
    assert geometry_of(QWEN_72B, kv_dtype_bytes=1).kv_bytes_per_token == 163_840
    latent = QWEN_72B | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert geometry_of(latent).kv_bytes_per_token == 80 * 576 * 2
    mixed = QWEN_72B | {"layer_types": ["full_attention", "linear_attention"] * 40}
    assert geometry_of(mixed).kv_bytes_per_token == 163_840
    assert geometry_of({"text_config": QWEN_72B}).kv_bytes_per_token == 327_680


def test_a_mixture_of_experts_counts_the_experts_a_token_meets() -> None:
    sparse = {
        "num_hidden_layers": 2, "hidden_size": 100, "num_attention_heads": 10, "intermediate_size": 400,
        "num_experts_per_tok": 2, "moe_intermediate_size": 50, "n_shared_experts": 1, "first_k_dense_replace": 1,
    }  # fmt: skip
    attention = 100 * (2 * 100 + 2 * 100)
    assert geometry_of(sparse).parameters == 2 * attention + 3 * 100 * 400 + 3 * 100 * 50 * 3


@pytest.mark.parametrize("wrong", [{"num_hidden_layers": None}, {"hidden_size": "x"}, {"num_attention_heads": 0}])
def test_a_config_without_a_size_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(PlanError, match=f"{next(iter(wrong))} is"):
        geometry_of(QWEN_72B | wrong)


def test_the_reports_own_cut_cannot_bring_its_throughput() -> None:
    assert SPEC is not None
    assert SPEC.k == pytest.approx(1.59, abs=0.005)
    assert SPEC.rho == pytest.approx(0.967, abs=0.001)
    assert SPEC.limit == pytest.approx(1.69, abs=0.005)
    found = feasibility(SPEC, throughput_ratio=2.5, ttft_cut=2 / 3)

    assert not found.feasible
    assert found.ratio_at_cut == pytest.approx(1.39, abs=0.005)
    assert "cannot be met together, not even with TTFT at zero (×1.69)" in found.sentence
    assert "k ≤ 0.12: longer prompts or fewer output tokens" in found.sentence
    assert "无法同时达到" in found.sentence_zh


@pytest.mark.parametrize(("k", "rho", "gain"), [(2.06, 0.07, 11.8), (2.9, 0.42, 2.55)])
def test_slow_cold_decode_makes_large_gains_possible(k: float, rho: float, gain: float) -> None:
    found = feasibility(Probe(k=k, rho=rho), throughput_ratio=2.5, ttft_cut=0.9)
    assert found.feasible
    assert "can be met together" in found.sentence
    assert "可以同时达到" in found.sentence_zh
    assert Probe(k=k, rho=rho).limit > gain


def test_a_target_within_reach_of_a_deeper_cut_names_that_cut() -> None:
    found = feasibility(Probe(k=0.3, rho=1.0), throughput_ratio=2.5, ttft_cut=0.6)
    assert not found.feasible
    assert "it would take a TTFT cut of 78 %" in found.sentence


@given(st.floats(0.01, 10), st.floats(0.01, 1.5), st.floats(1.01, 20))
def test_the_needed_cut_brings_exactly_the_ratio(k: float, rho: float, ratio: float) -> None:
    probe = Probe(k=k, rho=rho)
    assert probe.throughput_ratio(probe.cut_for(ratio)) == pytest.approx(ratio)


@given(st.floats(0.05, 1.5), st.floats(1.1, 20), st.floats(0.1, 0.99))
def test_the_largest_k_brings_exactly_the_ratio(rho: float, ratio: float, cut: float) -> None:
    k = Probe(k=1, rho=rho).k_for(ratio, cut)
    if 1e-6 < k < 1e6:
        assert Probe(k=k, rho=rho).throughput_ratio(cut) == pytest.approx(ratio, rel=1e-3)


def test_a_probe_needs_decoded_tokens() -> None:
    probe = Probe.of(summary(100, 10), summary(50, 5))
    assert probe is not None
    assert (probe.k, probe.rho) == pytest.approx((0.4, 0.5))
    empty = summarise([])
    assert Probe.of(empty, empty) is None
    assert Probe.of(replace(summary(100, 10), e2e_ms=summary(100, 10).ttft_ms), empty) is None
    assert math.isinf(Probe(k=1, rho=0).limit)
