"""The acceptance report's own table, targets and model, as data."""

from __future__ import annotations

from typing import Any

from pytest_mooncake.plan.models import Target, TargetsPlan

SPEC_TABLE: dict[str, Any] = {
    "requests": 30,
    "concurrency": 8,
    "prompt_tokens": 16384,
    "output_tokens": 128,
    "cold": {
        "ttft_ms": {"mean": 1200, "p90": 1350},
        "tpot_ms": {"mean": 15.0},
        "request_throughput": 2.5,
        "output_token_throughput": 320,
    },
    "warm": {
        "ttft_ms": {"mean": 400, "p90": 450},
        "tpot_ms": {"mean": 14.5},
        "request_throughput": 7.4,
        "output_token_throughput": 947,
    },
    "model": {"kv_bytes_per_token": 327680, "parameters": 7.0e10},
    "hardware": {"gpus": 16, "peak_tflops_per_gpu": 312},
    "network_gbps": 400,
}

QWEN_72B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
    "torch_dtype": "bfloat16",
}

TTFT = Target(metric="ttft_mean", title="mean TTFT", direction="lower", ratio=0.40, stated="-60 %")
RATE = Target(metric="request_throughput", title="throughput", direction="higher", ratio=2.5, stated="+150 %")
TPOT = Target(metric="tpot_mean", title="mean TPOT", direction="lower", ratio=1.10, stated="stable")
P90 = Target(metric="ttft_p90", title="P90 TTFT", direction="lower", ratio=0.40, gating=False, stated="-")
SPEC = TargetsPlan(name="spec", claims=(TTFT, RATE, TPOT, P90))
