"""Models of today: what their public `config.json` says of their shape, and what their cache takes by hand.

Typed in from https://huggingface.co/NAME/blob/main/config.json (2026-11), the keys that matter; `active` is what their
makers say a token passes through, embedding and output head included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and its cache by hand: layers × elements × bytes, of those that see everything and of windows."""

    name: str
    config: dict[str, Any]
    full: int
    """Bytes of a token in the layers that keep every token."""
    windowed: int = 0
    """Bytes of a token in the layers that keep the last `window` tokens."""
    window: int | None = None
    active: float
    embedding: int = 2
    """How often the vocabulary counts: embedding and output head, or one of both."""


def llama(layers: int, hidden: int, heads: int, kv: int, inner: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv,
        "intermediate_size": inner, "vocab_size": vocab, "torch_dtype": "bfloat16", **more,
    }  # fmt: skip


def latent(heads: int, **more: Any) -> dict[str, Any]:
    return llama(
        61, 7168, heads, heads, 18432, more.pop("vocab"), kv_lora_rank=512, q_lora_rank=1536, qk_rope_head_dim=64,
        qk_nope_head_dim=128, v_head_dim=128, moe_intermediate_size=2048, num_experts_per_tok=8, n_shared_experts=1,
        moe_layer_freq=1, **more,
    )  # fmt: skip


MODELS = (
    Model(
        name="Qwen/Qwen2.5-72B-Instruct",
        config=llama(
            80, 8192, 64, 8, 29568, 152064, model_type="qwen2", use_sliding_window=False, sliding_window=131072,
            max_window_layers=70,
        ),
        full=80 * 2 * 8 * 128 * 2, active=72.7e9,
    ),
    Model(
        name="Qwen/Qwen3-32B",
        config=llama(64, 5120, 64, 8, 25600, 151936, model_type="qwen3", head_dim=128, use_sliding_window=False),
        full=64 * 2 * 8 * 128 * 2, active=32.8e9,
    ),
    Model(
        name="Qwen/Qwen3-30B-A3B",
        config=llama(
            48, 2048, 32, 4, 6144, 151936, model_type="qwen3_moe", head_dim=128, moe_intermediate_size=768,
            num_experts=128, num_experts_per_tok=8, decoder_sparse_step=1, mlp_only_layers=[], sliding_window=None,
        ),
        full=48 * 2 * 4 * 128 * 2, active=3.3e9,
    ),
    Model(
        name="Qwen/Qwen3-235B-A22B",
        config=llama(
            94, 4096, 64, 4, 12288, 151936, model_type="qwen3_moe", head_dim=128, moe_intermediate_size=1536,
            num_experts=128, num_experts_per_tok=8, decoder_sparse_step=1, mlp_only_layers=[], max_window_layers=94,
        ),
        full=94 * 2 * 4 * 128 * 2, active=22e9,
    ),
    Model(
        name="Qwen/Qwen3-Next-80B-A3B-Instruct",
        config=llama(
            48, 2048, 16, 2, 5120, 151936, model_type="qwen3_next", head_dim=256, full_attention_interval=4,
            linear_conv_kernel_dim=4, linear_key_head_dim=128, linear_num_key_heads=16, linear_num_value_heads=32,
            linear_value_head_dim=128, moe_intermediate_size=512, num_experts=512, num_experts_per_tok=10,
            shared_expert_intermediate_size=512, decoder_sparse_step=1, mlp_only_layers=[], attention_dropout=0.0,
        ),
        full=12 * 2 * 2 * 256 * 2, active=3.9e9,
    ),
    Model(
        name="meta-llama/Llama-3.1-8B-Instruct",
        config=llama(32, 4096, 32, 8, 14336, 128256, model_type="llama", attention_bias=False),
        full=32 * 2 * 8 * 128 * 2, active=8.03e9,
    ),
    Model(
        name="meta-llama/Llama-4-Scout-17B-16E-Instruct",
        config={"model_type": "llama4", "vision_config": {"num_hidden_layers": 34}, "text_config": llama(
            48, 5120, 40, 8, 8192, 202048, model_type="llama4_text", head_dim=128, attention_chunk_size=8192,
            no_rope_layers=[1, 1, 1, 0] * 12, intermediate_size_mlp=16384, interleave_moe_layer_step=1,
            num_local_experts=16, num_experts_per_tok=1, attn_temperature_tuning=4, attn_scale=0.1,
        )},
        full=12 * 2 * 8 * 128 * 2, windowed=36 * 2 * 8 * 128 * 2, window=8192, active=17e9,
    ),
    Model(
        name="mistralai/Mistral-7B-v0.1",
        config=llama(32, 4096, 32, 8, 14336, 32000, model_type="mistral", sliding_window=4096),
        full=0, windowed=32 * 2 * 8 * 128 * 2, window=4096, active=7.24e9,
    ),
    Model(
        name="mistralai/Mistral-Small-24B-Instruct-2501",
        config=llama(40, 5120, 32, 8, 32768, 131072, model_type="mistral", head_dim=128, sliding_window=None),
        full=40 * 2 * 8 * 128 * 2, active=23.6e9,
    ),
    Model(
        name="mistralai/Mixtral-8x7B-Instruct-v0.1",
        config=llama(
            32, 4096, 32, 8, 14336, 32000, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2,
            sliding_window=None,
        ),
        full=32 * 2 * 8 * 128 * 2, active=12.9e9,
    ),
    Model(
        name="openai/gpt-oss-20b",
        config=llama(
            24, 2880, 64, 8, 2880, 201088, model_type="gpt_oss", head_dim=64, sliding_window=128,
            layer_types=["sliding_attention", "full_attention"] * 12, num_local_experts=32, num_experts_per_tok=4,
            experts_per_token=4, attention_bias=True, quantization_config={"quant_method": "mxfp4"},
        ),
        full=12 * 2 * 8 * 64 * 2, windowed=12 * 2 * 8 * 64 * 2, window=128, active=3.6e9, embedding=1,
    ),
    Model(
        name="openai/gpt-oss-120b",
        config=llama(
            36, 2880, 64, 8, 2880, 201088, model_type="gpt_oss", head_dim=64, sliding_window=128,
            layer_types=["sliding_attention", "full_attention"] * 18, num_local_experts=128, num_experts_per_tok=4,
            experts_per_token=4, attention_bias=True, quantization_config={"quant_method": "mxfp4"},
        ),
        full=18 * 2 * 8 * 64 * 2, windowed=18 * 2 * 8 * 64 * 2, window=128, active=5.1e9, embedding=1,
    ),
    Model(
        name="google/gemma-3-27b-it",
        config={"model_type": "gemma3", "torch_dtype": "bfloat16", "text_config": {
            "model_type": "gemma3_text", "num_hidden_layers": 62, "hidden_size": 5376, "intermediate_size": 21504,
            "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "sliding_window": 1024,
            "query_pre_attn_scalar": 168, "vocab_size": 262208,
        }},
        full=10 * 2 * 16 * 128 * 2, windowed=52 * 2 * 16 * 128 * 2, window=1024, active=27e9, embedding=1,
    ),
    Model(
        name="google/gemma-2-27b-it",
        config=llama(
            46, 4608, 32, 16, 36864, 256000, model_type="gemma2", head_dim=128, sliding_window=4096,
            attn_logit_softcapping=50.0, query_pre_attn_scalar=144,
        ),
        full=23 * 2 * 16 * 128 * 2, windowed=23 * 2 * 16 * 128 * 2, window=4096, active=27.2e9, embedding=1,
    ),
    Model(
        name="deepseek-ai/DeepSeek-V3",
        config=latent(
            128, vocab=129280, model_type="deepseek_v3", n_routed_experts=256, first_k_dense_replace=3,
            quantization_config={"quant_method": "fp8", "fmt": "e4m3"},
        ),
        full=61 * (512 + 64) * 2, active=37e9, embedding=1,
    ),
    Model(
        name="moonshotai/Kimi-K2-Instruct",
        config=latent(64, vocab=163840, model_type="kimi_k2", n_routed_experts=384, first_k_dense_replace=1),
        full=61 * (512 + 64) * 2, active=32e9, embedding=1,
    ),
    Model(
        name="moonshotai/Kimi-Linear-48B-A3B-Instruct",
        config=llama(
            27, 2304, 32, 32, 9216, 163840, model_type="kimi_linear", head_dim=72, kv_lora_rank=512, q_lora_rank=None,
            qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128, moe_intermediate_size=1024, num_experts=256,
            num_experts_per_token=8, num_shared_experts=1, first_k_dense_replace=1, moe_layer_freq=1,
            linear_attn_config={"full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "num_heads": 32, "head_dim": 128},
        ),
        full=7 * (512 + 64) * 2, active=3e9,
    ),
    Model(
        name="zai-org/GLM-4.5",
        config=llama(
            92, 5120, 96, 8, 12288, 151552, model_type="glm4_moe", head_dim=128, moe_intermediate_size=1536,
            n_routed_experts=160, num_experts_per_tok=8, n_shared_experts=1, first_k_dense_replace=3,
        ),
        full=92 * 2 * 8 * 128 * 2, active=32e9,
    ),
    Model(
        name="MiniMaxAI/MiniMax-M1-80k",
        config=llama(
            80, 6144, 64, 8, 9216, 200064, model_type="minimax_m1", head_dim=128,
            attn_type_list=[0, 0, 0, 0, 0, 0, 0, 1] * 10, num_local_experts=32, num_experts_per_tok=2,
            shared_intermediate_size=0, layernorm_full_attention_alpha=3.55, layernorm_linear_attention_beta=1.0,
        ),
        full=10 * 2 * 8 * 128 * 2, active=45.9e9,
    ),
    Model(
        name="ai21labs/AI21-Jamba-Mini-1.5",
        config=llama(
            32, 4096, 32, 8, 14336, 65536, model_type="jamba", attn_layer_offset=4, attn_layer_period=8,
            expert_layer_offset=1, expert_layer_period=2, num_experts=16, num_experts_per_tok=2, mamba_expand=2,
            mamba_d_state=16, mamba_d_conv=4, mamba_dt_rank=256,
        ),
        full=4 * 2 * 8 * 128 * 2, active=12e9,
    ),
    Model(
        name="nvidia/Nemotron-H-8B-Reasoning-128K",
        config=llama(
            52, 4096, 32, 8, 21504, 131072, model_type="nemotron_h", attention_head_dim=128, mlp_hidden_act="relu2",
            hybrid_override_pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-", mamba_num_heads=128,
            mamba_head_dim=64, ssm_state_size=128, n_groups=8, expand=2, mamba_hidden_act="silu",
        ),
        full=4 * 2 * 8 * 128 * 2, active=8.1e9,
    ),
    Model(
        name="nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        config=llama(
            52, 2688, 32, 2, 1856, 131072, model_type="nemotron_h", head_dim=128, mlp_hidden_act="relu2",
            hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", mamba_num_heads=64,
            mamba_head_dim=64, ssm_state_size=128, n_groups=8, n_routed_experts=128, num_experts_per_tok=6,
            n_shared_experts=1, moe_intermediate_size=1856, moe_shared_expert_intermediate_size=3712,
        ),
        full=6 * 2 * 2 * 128 * 2, active=3.5e9,
    ),
    Model(
        name="tiiuae/Falcon-H1-7B-Instruct",
        config=llama(
            44, 3072, 12, 2, 12288, 130048, model_type="falcon_h1", head_dim=128, attn_layer_indices=None,
            mamba_d_ssm=3072, mamba_n_heads=24, mamba_d_head=128, mamba_n_groups=1, mamba_d_state=256, mamba_expand=2,
            attention_in_multiplier=1.0, attention_out_multiplier=0.04,
        ),
        full=44 * 2 * 2 * 128 * 2, active=7.6e9,
    ),
    Model(
        name="ibm-granite/granite-4.0-h-small",
        config=llama(
            40, 4096, 32, 8, 768, 100352, model_type="granitemoehybrid", layer_types=(
                ["mamba"] * 5 + ["attention"] + (["mamba"] * 9 + ["attention"]) * 3 + ["mamba"] * 4
            ),
            num_local_experts=72, num_experts_per_tok=10, shared_intermediate_size=1536, mamba_expand=2,
            mamba_d_state=128, mamba_n_heads=128, mamba_d_head=64, mamba_n_groups=1, attention_multiplier=0.0078,
        ),
        full=4 * 2 * 8 * 128 * 2, active=9e9, embedding=1,
    ),
    Model(
        name="ibm-granite/granite-3.3-8b-instruct",
        config=llama(40, 4096, 32, 8, 12800, 49159, model_type="granite", attention_multiplier=0.0078125),
        full=40 * 2 * 8 * 128 * 2, active=8.17e9, embedding=1,
    ),
    Model(
        name="microsoft/phi-4",
        config=llama(40, 5120, 40, 10, 17920, 100352, model_type="phi3", sliding_window=None),
        full=40 * 2 * 10 * 128 * 2, active=14.7e9,
    ),
    Model(
        name="CohereLabs/c4ai-command-r7b-12-2024",
        config=llama(32, 4096, 32, 8, 14336, 256000, model_type="cohere2", head_dim=128, sliding_window=4096),
        full=8 * 2 * 8 * 128 * 2, windowed=24 * 2 * 8 * 128 * 2, window=4096, active=8.03e9, embedding=1,
    ),
    Model(
        name="CohereLabs/c4ai-command-r-08-2024",
        config=llama(40, 8192, 64, 8, 24576, 256000, model_type="cohere"),
        full=40 * 2 * 8 * 128 * 2, active=32.3e9, embedding=1,
    ),
    Model(
        name="tiiuae/falcon-7b",
        config={
            "model_type": "falcon", "num_hidden_layers": 32, "hidden_size": 4544, "num_attention_heads": 71,
            "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True, "torch_dtype": "bfloat16",
            "vocab_size": 65024,
        },
        full=32 * 2 * 1 * 64 * 2, active=7.2e9,
    ),
)  # fmt: skip
