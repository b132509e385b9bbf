"""How many bits a layer keeps of a token, and in how many bits the weights are: widths and types of a `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mooncake.analysis.audit.model.layer_kinds import Kind
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.sources.model_config import BITS, HEADS, HIDDEN, no_such_dtype, size

Config = Mapping[str, Any]

HALF_BITS = 16
"""What an engine serves in when it is told nothing: a checkpoint in 32 bits is cast, too."""
LEAST_BITS = 4
_KV_HEADS = (
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num", "num_attention_groups",
)  # fmt: skip
_METHODS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "awq": 4, "gptq": 4, "nvfp4": 4, "gpt_oss_mxfp4": 4, "mxfp8": 8}


def head_size(held: Config) -> int | None:
    """Elements of one head: as told, else hidden size over heads."""
    told = size(held, "head_dim", "attention_head_dim", "kv_channels")
    hidden, heads = size(held, *HIDDEN), size(held, *HEADS)
    return told or (hidden // heads or None if hidden and heads else None)


def kv_heads(held: Config) -> int | None:
    """Heads of keys and values: as told, one for multi-query attention, else as many as there are query heads."""
    attention = held.get("attn_config")
    inner = size(attention, "kv_n_heads") if isinstance(attention, Mapping) else None
    single = 1 if held.get("multi_query") and not held.get("new_decoder_architecture") else None
    return single or inner or size(held, *_KV_HEADS) or size(held, *HEADS)


def kv_elements(held: Config, kind: Kind) -> int | None:
    """Elements that one layer of this kind keeps of a token: keys and values, or one compressed latent (MLA)."""
    latent = size(held, "kv_lora_rank")
    if latent is not None:
        return latent + (size(held, "qk_rope_head_dim") or 0)
    heads, keys = kv_heads(held), head_size(held)
    if kind is Kind.FULL:  # Gemma 4 has wider heads where it sees everything
        heads, keys = size(held, "num_global_key_value_heads") or heads, size(held, "global_head_dim") or keys
    values = size(held, "v_head_dim") or keys
    return None if heads is None or keys is None or values is None else heads * (keys + values)


def kv_elements_of_blocks(held: Config) -> int | None:
    """The same, of all layers together, where every block tells its own number of heads; `None` where none does."""
    blocks, heads, width = held.get("block_configs"), size(held, *HEADS), head_size(held)
    if not isinstance(blocks, list) or heads is None or width is None:
        return None
    attentions = [block.get("attention") for block in blocks if isinstance(block, Mapping)]
    groups = [size(one, "n_heads_in_group") for one in attentions if isinstance(one, Mapping)]
    return sum(2 * (heads // group) * width for group in groups if group)


def kv_dtype_bytes(name: str | None) -> float | None:
    """Bytes of one element of a cache that an engine was told to keep so (`--kv-cache-dtype`).

    Returns:
        `None` where the checkpoint decides: nothing was told, or "auto".

    Raises:
        PlanError: no type is called so.

    >>> kv_dtype_bytes("fp8"), kv_dtype_bytes("auto")
    (1.0, None)
    """
    if name is None or name == "auto":
        return None
    if name not in BITS:
        raise PlanError(f"model.kv_dtype: {no_such_dtype(name)}")
    return BITS[name] / 8


def kv_bits(held: Config) -> tuple[int, tuple[str, ...]]:
    """Bits of one element of the cache as the checkpoint has it, and what is doubtful about them."""
    scheme = _kv_scheme(held)
    if scheme is None:
        return min(_dtype_bits(held), HALF_BITS), ()
    bits = _bits_of(scheme)
    if bits is None:
        return HALF_BITS, (
            f"how the KV cache is quantised is not understood ({str(scheme)[:60]}); give model.kv_dtype",
        )
    return bits, ()


def _kv_scheme(held: Config) -> Any:
    """What a checkpoint says of its cache's type: compressed-tensors, ModelOpt and Quark have their own words."""
    for part in (held.get("quantization_config"), held.get("quantization")):
        if isinstance(part, Mapping):
            keys = ("kv_cache_scheme", "kv_cache_quant_algo", "kv_cache_dtype", "kv_cache_quant_config")
            told = next((part[key] for key in keys if part.get(key)), None)
            if told is not None:
                return told
    return None


def _bits_of(scheme: Any) -> int | None:
    if isinstance(scheme, Mapping):
        bits = size(scheme, "num_bits")
        return bits if bits is not None and bits <= HALF_BITS else None
    return BITS.get(str(scheme).lower())


def _dtype_bits(held: Config) -> int:
    told = str(held.get("torch_dtype") or held.get("dtype") or "bfloat16").removeprefix("torch.")
    return BITS.get(told, HALF_BITS)


def weight_bits(held: Config) -> int:
    """Bits of most weights, at least: as the checkpoint is quantised, else its type.

    >>> weight_bits({"torch_dtype": "bfloat16"}), weight_bits({"quantization_config": {"quant_method": "mxfp4"}})
    (16, 4)
    """
    part = held.get("quantization_config") or held.get("quantization")
    if not isinstance(part, Mapping):
        return min(_dtype_bits(held), HALF_BITS)
    algorithm = str(part.get("quant_algo") or "").lower()
    by_name = LEAST_BITS if "4" in algorithm else 8 if "8" in algorithm else _METHODS.get(str(part.get("quant_method")))
    told = [bits for bits in (size(part, "bits", "weight_bits"), *_bits_of_groups(part)) if bits is not None]
    return min(told, default=by_name or LEAST_BITS)


def _bits_of_groups(part: Config) -> list[int | None]:
    groups = part.get("config_groups")
    held = groups.values() if isinstance(groups, Mapping) else ()
    weights = [one.get("weights") for one in held if isinstance(one, Mapping)]
    return [size(one, "num_bits") for one in weights if isinstance(one, Mapping)]
