"""What a model's shape costs: KV bytes, FLOP of a prompt, bytes of weights; read from a Hugging Face `config.json`.

Only attention keeps something of every token. Layers with a sliding window keep the last tokens, layers of linear
attention or a state space a state of fixed size, which is not counted: what is said here is the least that must move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mooncake.analysis.audit.model.active_parameters import active_parameters
from pytest_mooncake.analysis.audit.model.kv_width import (
    LEAST_BITS,
    head_size,
    kv_bits,
    kv_elements,
    kv_elements_of_blocks,
    weight_bits,
)
from pytest_mooncake.analysis.audit.model.layer_kinds import Kind, Layers, layers_of
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.sources.model_config import (
    HEADS,
    HIDDEN,
    LAYERS,
    doubtful_keys,
    language_model_of,
    layer_number,
    size,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A decoder's shape. `None` where a source does not tell.

    `parameters` are those a token passes through, without embedding and output head (of a mixture of experts: the
    chosen ones); `attention_width` (query heads × head size) times layers sets the cost of attention.
    """

    kv_bytes_per_token: int | None = None
    """Of one token in all layers that keep keys and values, over all ranks."""
    window_tokens: int | None = None
    """How many tokens the layers with a sliding window keep."""
    window_kv_bytes_per_token: int | None = None
    """The part of `kv_bytes_per_token` that layers with a sliding window keep."""
    parameters: float | None = None
    attention_layers: int | None = None
    """Layers that attend to every token."""
    window_layers: int | None = None
    attention_width: int | None = None
    weight_bytes: float | None = None
    """Bytes of the weights that a token passes through."""
    least_weight_bytes: float | None = None
    """The same at the fewest bits an engine can be told to serve them in; equal where the bytes were given."""
    doubts: tuple[str, ...] = ()
    """What the source says and is not understood; figures that rest on it condemn nothing."""

    def prefill_flop(self, prompt_tokens: int) -> float | None:
        """FLOP of a prefill without attention: 2 per parameter and token."""
        return None if self.parameters is None else 2.0 * self.parameters * prompt_tokens

    def attention_flop(self, prompt_tokens: int) -> float | None:
        """FLOP of causal attention: QKᵀ and AV, 2·n² each and layer and width, half of it masked away."""
        if self.attention_layers is None or self.attention_width is None:
            return None
        seen = min(prompt_tokens, self.window_tokens or prompt_tokens)
        whole, near = float(prompt_tokens) ** 2, float(seen) * (2 * prompt_tokens - seen)
        return 2.0 * self.attention_width * (self.attention_layers * whole + (self.window_layers or 0) * near)

    def kv_bytes(self, tokens: int) -> int | None:
        """Bytes of KV cache that a sequence of `tokens` tokens takes, over all ranks.

        >>> Geometry(kv_bytes_per_token=10, window_kv_bytes_per_token=5, window_tokens=128).kv_bytes(1000)
        5640
        """
        if self.kv_bytes_per_token is None:
            return None
        beyond = max(0, tokens - self.window_tokens) if self.window_tokens is not None else 0
        return self.kv_bytes_per_token * tokens - (self.window_kv_bytes_per_token or 0) * beyond


def geometry_of(config: Mapping[str, Any], *, kv_dtype_bytes: float | None = None) -> Geometry:
    """Read a `config.json` that was loaded already.

    Args:
        config: the file's mapping; a multimodal model's `text_config` is used where there is one.
        kv_dtype_bytes: bytes of one KV element, where the cache is kept in another type than the file says.

    Returns:
        The geometry. Qwen2.5-72B gives 80 layers · 2 · 8 heads · 128 · 2 B = 327,680 bytes a token.

    Raises:
        PlanError: a size without which nothing can be computed is missing.
    """
    held = language_model_of(config)
    number = min(layer_number(held) or _needed(held, LAYERS), _MOST_LAYERS)
    _needed(held, HIDDEN)
    heads = _needed(held, HEADS)
    layers = layers_of(held, number)
    bits, doubts = kv_bits(held) if kv_dtype_bytes is None else (round(8 * kv_dtype_bytes), ())
    whole, windowed = _kv_bits_per_token(held, layers, bits)
    parameters = active_parameters(held, layers.kinds or (Kind.FULL,) * number)
    weights = weight_bits(held)
    return Geometry(
        kv_bytes_per_token=None if whole is None else whole // 8,
        window_tokens=layers.window_tokens if windowed else None,
        window_kv_bytes_per_token=windowed // 8 if windowed else None,
        parameters=parameters,
        attention_layers=layers.count(Kind.FULL, Kind.BOTH) if layers.kinds else None,
        window_layers=layers.count(Kind.WINDOW) or None,
        attention_width=heads * (head_size(held) or 0) or None,
        weight_bytes=None if parameters is None else parameters * weights / 8,
        least_weight_bytes=None if parameters is None else parameters * max(LEAST_BITS, weights / 2) / 8,
        doubts=(*layers.doubts, *doubts, *_further_doubts(held, layers, whole)),
    )


_MOST_LAYERS = 10_000


def _needed(held: Mapping[str, Any], names: tuple[str, ...]) -> int:
    found = size(held, *names)
    if found is None:
        told = repr(held.get(names[0]))[:60]
        raise PlanError(f"config.json: {names[0]} is {told}; a positive whole number is needed to compute limits")
    return found


def _kv_bits_per_token(held: Mapping[str, Any], layers: Layers, bits: int) -> tuple[int | None, int | None]:
    """Bits of a token in all layers that keep keys and values, and in those with a window."""
    if layers.kinds is None:
        return None, None
    full, window = kv_elements(held, Kind.FULL), kv_elements(held, Kind.WINDOW)
    if full is None or window is None:
        return None, None
    windowed = layers.count(Kind.WINDOW) * window
    whole = kv_elements_of_blocks(held) or layers.count(Kind.FULL, Kind.BOTH) * full + windowed
    return whole * bits, windowed * bits


def _further_doubts(held: Mapping[str, Any], layers: Layers, whole: int | None) -> tuple[str, ...]:
    unknown = doubtful_keys(held)
    told = [f"keys of config.json that are not understood: {', '.join(unknown[:5])}"] if unknown else []
    if held.get("index_topk"):
        told.append("sparse attention: the keys of its indexer are not counted")
    if whole is None and layers.kinds is not None:
        told.append("the widths of keys and values are not told")
    return tuple(told)
