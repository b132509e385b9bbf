"""What of a Hugging Face `config.json` tells a model's shape: which part of it, under which names.

`analysis.audit.model.geometry` computes from what is read here; a plan keeps no more of the file than that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = [
    "BITS",
    "HEADS",
    "HIDDEN",
    "LAYERS",
    "MOST_SIZE",
    "READ",
    "doubtful_keys",
    "language_model_of",
    "layer_number",
    "no_such_dtype",
    "relevant",
    "size",
]

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model")
HEADS = ("num_attention_heads", "n_head", "n_heads")
"""The three sizes without which nothing can be computed, as the field spells them."""

BITS = {
    "float32": 32, "bfloat16": 16, "float16": 16, "bf16": 16, "fp16": 16, "half": 16,
    "fp8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8, "fp8_inc": 8, "float8_e4m3fn": 8, "float8_e5m2": 8, "int8": 8,
    "nvfp4": 4, "fp4": 4, "int4": 4,
}  # fmt: skip
"""Bits of one element, as engines and checkpoints name types."""
MOST_SIZE = 10**9
_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where the configuration of a multimodal model holds that of its language model."""
_INHERITED = ("torch_dtype", "dtype", "quantization_config", *LAYERS, *HIDDEN, *HEADS)
_DEFAULTS: dict[str, dict[str, int]] = {
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "llama": {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 11008},
}
"""What the language models of multimodal configurations leave to transformers' defaults (5.19)."""

READ = {
    *LAYERS, *HIDDEN, *HEADS,
    "model_type", "torch_dtype", "dtype", "quantization_config", "quantization",
    # keys and values
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num", "num_attention_groups",
    "multi_query", "multi_query_attention", "new_decoder_architecture", "head_dim", "attention_head_dim",
    "kv_channels", "v_head_dim", "attn_config", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim",
    "global_head_dim", "num_global_key_value_heads", "num_kv_shared_layers", "block_configs", "index_topk",
    # kinds of layers
    "layer_types", "layers_block_type", "block_types", "_block_types", "attn_type_list", "hybrid_override_pattern",
    "hybrid_layer_pattern", "full_attention_interval", "attn_layer_period", "attn_layer_offset", "attn_layer_indices",
    "full_attn_idxs", "global_attn_every_n_layers", "linear_attn_config", "sliding_window_pattern",
    "_sliding_window_pattern", "sliding_window", "sliding_window_size", "use_sliding_window", "max_window_layers",
    "attention_chunk_size", "no_rope_layers", "no_rope_layer_interval",
    # feed-forward and experts
    "intermediate_size", "n_inner", "ffn_dim", "intermediate_size_mlp", "moe_intermediate_size", "hidden_act",
    "mlp_hidden_act", "activation_function", "num_experts_per_tok", "num_experts_per_token", "experts_per_token",
    "moe_topk", "moe_top_k", "moe_k", "top_k_experts", "num_selected_experts", "num_local_experts", "num_experts",
    "n_routed_experts", "moe_num_experts", "n_shared_experts", "num_shared_experts", "num_shared_expert",
    "moe_num_shared_experts", "shared_expert_intermediate_size", "shared_intermediate_size",
    "moe_shared_expert_intermediate_size", "first_k_dense_replace", "mlp_only_layers", "decoder_sparse_step",
    "moe_layer_freq", "moe_layers", "interleave_moe_layer_step", "expert_layer_period", "expert_layer_offset",
    "moe_layer_start_index", "moe_layer_interval", "mlp_layer_types",
    # layers that keep a state
    "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
    "mamba_d_ssm", "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_expand",
    "mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "expand",
}  # fmt: skip
"""Every key that a figure is computed from."""

_HARMLESS = re.compile(
    r"num_attention_heads|.*(bias|dropout|multiplier|softcap\w*|scal(e|ing|ar)\w*|_eps|_norm|init\w*|implementation"
    r"|_tuning|_token_id|_dtype|_gate|_alpha_factor|_beta_factor|_beta|_alpha|_sink\w*|_rank|_topk|_n_heads|_logn_attn"
    r"|_flash_attn|sdpa|_conv\w*|_kernel\w*|chunk_size|_dt_\w*|_kernels|_act|_ssm_cache\w*|_position\w*|_activation)"
    r"|use_bidirectional_attention|is_causal|attention_k_eq_v|index_head_dim|parallel_attn|.*_pdrop"
    r"|linear_(num_heads|head_dim|conv_kernel_dim)|attn_output_gate|max_window_layers|mamba_.*|use_mamba\w*|ssm_.*"
    r"|attention_probs\w*|attention_softmax\w*|no_attention_mask|(mtp|mlp)_layer.*|_attn_implementation\w*|attn_mechanism|rotary\w*"
)
"""Keys that speak of attention and change no byte and no matrix."""
_OF_ATTENTION = re.compile(
    r"attn|attention|sliding|window|kv_|_kv|swa|block_type|layer_type|layer_pattern|hybrid|recurrent|linear_|latent"
    r"|compress|indexer|index_|cross_layer|share_kv"
)


def language_model_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's part of a configuration: of a multimodal model the nested one, else the whole.

    >>> language_model_of({"torch_dtype": "bfloat16", "text_config": {"hidden_size": 8}})
    {'torch_dtype': 'bfloat16', 'hidden_size': 8}
    """
    held = {**config}
    for _ in range(len(_PARTS)):
        inner = next((held[part] for part in _PARTS if isinstance(held.get(part), Mapping)), None)
        if inner is None:
            break
        outer = {key: held[key] for key in _INHERITED if held.get(key) is not None}
        told = {key: value for key, value in inner.items() if value is not None}
        held = {**_DEFAULTS.get(str(inner.get("model_type")), {}), **outer, **told}
    return held


def size(held: Mapping[str, Any], *names: str) -> int | None:
    """The first of these sizes that is a positive whole number, `None` where none is."""
    found = (held.get(name) for name in names)
    return next((value for value in found if type(value) is int and 0 < value <= MOST_SIZE), None)


def layer_number(held: Mapping[str, Any]) -> int | None:
    """How many layers there are: as told, else as many as a pattern names."""
    names = next(
        (held[key] for key in ("hybrid_override_pattern", "layers_block_type", "layer_types") if held.get(key)), ()
    )
    return size(held, *LAYERS) or (len(names) if isinstance(names, str | list) and names else None)


def no_such_dtype(name: str) -> str:
    """What to say of a type of a KV cache that is not known."""
    return f"{name[:40]!r} is no type of a KV cache; known are auto, {', '.join(BITS)}"


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan keeps of a configuration: the keys that are computed from, and those that cast doubt on it."""
    held = language_model_of(config)
    kept = READ | set(doubtful_keys(held))
    return {key: value for key, value in held.items() if key in kept and value is not None}


def doubtful_keys(held: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys that speak of attention and are not understood; one without a value says nothing.

    >>> doubtful_keys({"attention_dropout": 0.1, "attention_fold": 4, "sliding_window": 128, "swa_heads": None})
    ('attention_fold',)
    """
    return tuple(
        str(key)
        for key, value in held.items()
        if key not in READ and value and _OF_ATTENTION.search(str(key)) and not _HARMLESS.fullmatch(str(key))
    )
