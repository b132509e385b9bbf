"""How many weights a token passes through: projections of its layers, and of a mixture the experts that are chosen.

Without embedding and output head. Norms, biases, routers and convolutions are left out: together under one per cent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_mooncake.analysis.audit.model.kv_width import head_size, kv_heads
from pytest_mooncake.analysis.audit.model.layer_kinds import Kind
from pytest_mooncake.plan.sources.model_config import HEADS, HIDDEN, LAYERS, size

Config = Mapping[str, Any]

_CHOSEN = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k", "moe_k",
    "top_k_experts", "num_selected_experts",
)  # fmt: skip
_SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
_TWO_MATRICES = {"relu2", "gelu_new", "gelu_fast"}
"""Activations of feed-forward layers without a gate."""
_UNGATED = {"gpt2", "gpt_bigcode", "gpt_neox", "gptj", "opt", "bloom", "mpt", "phi", "falcon", "starcoder2", "nemotron"}
_OUTPUT_GATED = {"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"}
_ATTENTION = {Kind.FULL, Kind.WINDOW, Kind.BOTH, Kind.SHARED}


def active_parameters(held: Config, kinds: tuple[Kind, ...]) -> float | None:
    """Weights a token passes through, `None` where a width is missing.

    Args:
        held: the language model's part of a `config.json`.
        kinds: what its layers remember (`analysis.audit.model.layer_kinds`).
    """
    if size(held, *HIDDEN) is None or size(held, *HEADS) is None or head_size(held) is None:
        return None
    attention, state = _attention(held), _state(held)
    remember = sum(attention * (kind in _ATTENTION) + state * (kind in (Kind.STATE, Kind.BOTH)) for kind in kinds)
    return float(remember + _feed_forward(held, kinds))


def _attention(held: Config) -> int:
    hidden, heads, width = size(held, *HIDDEN) or 0, size(held, *HEADS) or 0, head_size(held) or 0
    if size(held, "kv_lora_rank"):
        return _latent_attention(held, hidden, heads)
    values = size(held, "v_head_dim") or width
    queries = heads * width * (2 if str(held.get("model_type")) in _OUTPUT_GATED else 1)
    return hidden * (queries + (kv_heads(held) or heads) * (width + values) + heads * values)


def _latent_attention(held: Config, hidden: int, heads: int) -> int:
    """MLA: queries through their own latent where there is one, keys and values up from the shared latent."""
    latent, rope = size(held, "kv_lora_rank") or 0, size(held, "qk_rope_head_dim") or 0
    plain, values = size(held, "qk_nope_head_dim") or 0, size(held, "v_head_dim") or 0
    of_queries, rank = heads * (plain + rope), size(held, "q_lora_rank")
    queries = rank * (hidden + of_queries) if rank else hidden * of_queries
    return queries + hidden * (latent + rope) + latent * heads * (plain + values) + heads * values * hidden


def _state(held: Config) -> int:
    """Projections of a layer that keeps a state: gated delta net, Mamba, or (lightning) linear attention."""
    hidden = size(held, *HIDDEN) or 0
    value_heads = size(held, "linear_num_value_heads")
    if value_heads is not None:
        keys = (size(held, "linear_num_key_heads") or value_heads) * (size(held, "linear_key_head_dim") or 0)
        values = value_heads * (size(held, "linear_value_head_dim") or 0)
        return hidden * (2 * keys + 3 * values + 2 * value_heads)
    if held.get("attn_type_list"):  # lightning attention: queries, keys, values, gate and output, all of full width
        return 5 * hidden * (size(held, *HEADS) or 0) * (head_size(held) or 0)
    inner = _mamba_width(held, hidden)
    if inner is None:
        return _attention(held)
    groups = (size(held, "mamba_n_groups", "n_groups") or 1) * (size(held, "mamba_d_state", "ssm_state_size") or 0)
    return hidden * (3 * inner + 2 * groups)


def _mamba_width(held: Config, hidden: int) -> int | None:
    heads, width = size(held, "mamba_num_heads", "mamba_n_heads"), size(held, "mamba_head_dim", "mamba_d_head")
    if size(held, "mamba_d_ssm"):
        return size(held, "mamba_d_ssm")
    if heads is not None and width is not None:
        return heads * width
    expand = size(held, "mamba_expand", "expand")
    return expand * hidden if expand else None


def _feed_forward(held: Config, kinds: tuple[Kind, ...]) -> int:
    """Feed-forward of every layer; where patterns name them, of the layers that are feed-forward."""
    letters = held.get("hybrid_override_pattern") or held.get("layers_block_type") or ()
    if Kind.NONE in kinds and letters:
        experts = sum(letter in ("E", "moe") for letter in letters)
        dense = sum(letter in ("-", "mlp") for letter in letters)
        return experts * _experts(held) + dense * _dense(held)
    number = size(held, *LAYERS) or len(kinds)
    if not _is_mixture(held):
        return number * _dense(held)
    sparse = _sparse(held)
    return sum(_experts(held) if sparse(i) else _dense(held) for i in range(number))


def _is_mixture(held: Config) -> bool:
    number = size(held, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    return size(held, *_CHOSEN) is not None and number != 1


def _matrices(held: Config) -> int:
    act = held.get("mlp_hidden_act") or held.get("hidden_act") or held.get("activation_function")
    return 2 if str(act) in _TWO_MATRICES or str(held.get("model_type")) in _UNGATED else 3


def _dense(held: Config) -> int:
    hidden = size(held, *HIDDEN) or 0
    mixed = size(held, "intermediate_size_mlp") if _is_mixture(held) else None  # Llama 4's dense layers
    wide = mixed or size(held, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    shared = size(held, "shared_intermediate_size")  # Granite's hybrids without experts
    return _matrices(held) * hidden * (shared if shared and not _is_mixture(held) else wide)


def _experts(held: Config) -> int:
    """The experts that are chosen, and those that every token meets."""
    hidden = size(held, *HIDDEN) or 0
    each = _width(held, "moe_intermediate_size") or size(held, "intermediate_size") or 0
    return _matrices(held) * hidden * ((size(held, *_CHOSEN) or 0) * each + _shared_width(held, each))


def _shared_width(held: Config, each: int) -> int:
    number = size(held, *_SHARED)
    told = size(held, "shared_expert_intermediate_size", "shared_intermediate_size")
    own = size(held, "moe_shared_expert_intermediate_size")
    if told is not None:
        return told
    if str(held.get("model_type")).startswith("llama4"):
        return each
    return (number or 0) * (own or each)


def _width(held: Config, key: str) -> int | None:
    """A width that some models tell layer by layer."""
    value = held.get(key)
    if isinstance(value, list):
        told = [one for one in value if type(one) is int and one > 0]
        return told[0] if told else None
    return size(held, key)


def _sparse(held: Config) -> Callable[[int], bool]:
    """Which layers have experts."""
    names, listed, frequencies = held.get("mlp_layer_types"), held.get("moe_layers"), held.get("moe_layer_freq")
    if isinstance(names, list) and names:
        return lambda i: i < len(names) and names[i] in ("sparse", "moe")
    if isinstance(listed, list) and listed:
        return lambda i: i in listed
    if isinstance(frequencies, list) and frequencies:
        return lambda i: i < len(frequencies) and bool(frequencies[i])
    return lambda i: _by_rhythm(held, i)


def _by_rhythm(held: Config, i: int) -> bool:
    period = size(held, "expert_layer_period")
    if period is not None:
        return i % period == (held.get("expert_layer_offset") or 0)
    step = size(held, "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval", "moe_layer_freq") or 1
    alone, first = held.get("mlp_only_layers"), size(held, "first_k_dense_replace", "moe_layer_start_index") or 0
    return i >= first and (i + 1) % step == 0 and not (isinstance(alone, list) and i in alone)
