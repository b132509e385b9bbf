"""What a model's shape costs: KV bytes a token, FLOP a prompt; read from a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mooncake.errors import PlanError

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "fp8": 1}
_STATELESS = {"linear_attention", "mamba", "recurrent", "conv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A decoder's shape. `None` where a source does not tell.

    `parameters` are those a token passes through, without embedding and output head (of a mixture of experts: the
    chosen ones); `attention_layers` × `attention_width` (query heads × head size) set the cost of attention.
    """

    kv_bytes_per_token: int | None = None
    parameters: float | None = None
    attention_layers: int | None = None
    attention_width: int | None = None

    def prefill_flop(self, prompt_tokens: int) -> float | None:
        """FLOP of a prefill without attention: 2 per parameter and token."""
        return None if self.parameters is None else 2.0 * self.parameters * prompt_tokens

    def attention_flop(self, prompt_tokens: int) -> float | None:
        """FLOP of causal attention: QKᵀ and AV, 2·n² each and layer and width, half of it masked away."""
        if self.attention_layers is None or self.attention_width is None:
            return None
        return 2.0 * self.attention_layers * self.attention_width * float(prompt_tokens) ** 2

    def kv_bytes(self, tokens: int) -> int | None:
        """Bytes of KV cache that `tokens` tokens take, over all ranks."""
        return None if self.kv_bytes_per_token is None else self.kv_bytes_per_token * tokens


def geometry_of(config: Mapping[str, Any], *, kv_dtype_bytes: int | None = None) -> Geometry:
    """Read a `config.json` that was loaded already.

    Args:
        config: the file's mapping; a multimodal model's `text_config` is used where there is one.
        kv_dtype_bytes: bytes of one KV element where the cache is kept in another type than the weights (e.g. fp8).

    Returns:
        The geometry. Qwen2.5-72B gives 80 layers · 2 · 8 heads · 128 · 2 B = 327,680 bytes a token.

    Raises:
        PlanError: a size without which nothing can be computed is missing.
    """
    text = config.get("text_config") or config
    layers, hidden = _size(text, "num_hidden_layers"), _size(text, "hidden_size")
    heads = _size(text, "num_attention_heads")
    head_dim = int(text.get("head_dim") or hidden // heads)
    width = kv_dtype_bytes or DTYPE_BYTES.get(str(text.get("torch_dtype") or text.get("dtype") or "bfloat16"), 2)
    stateful, elements = _attention_layers(text, layers), _kv_elements(text, heads, head_dim)
    return Geometry(
        kv_bytes_per_token=stateful * elements * width,
        parameters=float(_parameters(text, layers, hidden, heads * head_dim, elements)),
        attention_layers=stateful,
        attention_width=heads * head_dim,
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value <= 0:
        raise PlanError(f"config.json: {key} is {value!r}; a positive whole number is needed to compute limits")
    return value


def _attention_layers(config: Mapping[str, Any], layers: int) -> int:
    types = config.get("layer_types")
    return sum(kind not in _STATELESS for kind in types) if types else layers


def _kv_elements(config: Mapping[str, Any], heads: int, head_dim: int) -> int:
    """Elements a token and layer: keys and values of the KV heads, or one compressed latent (MLA)."""
    if config.get("kv_lora_rank"):
        return int(config["kv_lora_rank"]) + int(config.get("qk_rope_head_dim") or 0)
    return 2 * int(config.get("num_key_value_heads") or heads) * head_dim


def _parameters(config: Mapping[str, Any], layers: int, hidden: int, width: int, kv_width: int) -> int:
    """Weights of the projections a token meets: attention and gated feed-forward, three matrices each."""
    attention = hidden * (2 * width + kv_width)
    dense = min(int(config.get("first_k_dense_replace") or 0), layers) if _experts(config) else layers
    forward = dense * 3 * hidden * _dense_width(config, hidden) + (layers - dense) * 3 * hidden * _expert_width(config)
    return layers * attention + forward


def _experts(config: Mapping[str, Any]) -> int:
    return int(config.get("num_experts_per_tok") or 0)


def _dense_width(config: Mapping[str, Any], hidden: int) -> int:
    return int(config.get("intermediate_size") or 4 * hidden)


def _expert_width(config: Mapping[str, Any]) -> int:
    each = int(config.get("moe_intermediate_size") or config.get("intermediate_size") or 0)
    return each * (_experts(config) + int(config.get("n_shared_experts") or 0))
