"""Which layers of a model keep keys and values, how far back, and which keep a state of fixed size instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pytest_mooncake.plan.sources.model_config import size

Config = Mapping[str, Any]


class Kind(StrEnum):
    """What a layer remembers of the tokens before it."""

    FULL = "full"
    """Keys and values of every token."""
    WINDOW = "window"
    """Keys and values of the last tokens only."""
    STATE = "state"
    """A state whose size does not depend on the number of tokens."""
    BOTH = "both"
    """Keys and values of every token, and a state."""
    SHARED = "shared"
    """Nothing of its own: it attends to another layer's keys and values."""
    NONE = "none"
    """Nothing: a feed-forward layer."""


_NAMED = {
    **dict.fromkeys(("full_attention", "attention", "full", "global", "global_attention"), Kind.FULL),
    **dict.fromkeys(("indexed_attention", "deepseek_sparse_attention", "qwen_sparse_attention"), Kind.FULL),
    **dict.fromkeys(("sliding_attention", "sliding", "sliding_window", "local", "local_attention"), Kind.WINDOW),
    **dict.fromkeys(("chunked_attention", "sliding_window_attention", "hybrid_sliding"), Kind.WINDOW),
    **dict.fromkeys(("linear_attention", "linear", "lightning_attention", "gated_delta_net", "kda"), Kind.STATE),
    **dict.fromkeys(("mamba", "mamba2", "ssm", "recurrent", "rwkv", "conv", "short_conv"), Kind.STATE),
    "hybrid": Kind.BOTH,
    **dict.fromkeys(("mlp", "moe", "ffn", "identity"), Kind.NONE),
}  # fmt: skip
"""What configurations call them; the letters below are Nemotron-H's, and EXAONE's."""
_LETTERS = {"M": Kind.STATE, "*": Kind.FULL, "-": Kind.NONE, "E": Kind.NONE}
_LOCAL_OR_GLOBAL = {"L": Kind.WINDOW, "G": Kind.FULL}
_EVERY_NTH_IS_FULL = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3_text": 6,
    "gemma3n_text": 5,
    "cohere2": 4,
    "gemma4_text": 6,
    "gpt_oss": 2,
}
"""Families whose windows alternate although their configurations need not say so (transformers 5.19)."""
_ALL_WINDOWED = {"mistral", "mixtral", "phi3", "phimoe", "starcoder2"}
_STATE_BESIDE_ATTENTION = {"falcon_h1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """One kind a layer, `None` where they are not known; `doubts` are sentences."""

    kinds: tuple[Kind, ...] | None
    window_tokens: int | None = None
    doubts: tuple[str, ...] = ()

    def count(self, *kinds: Kind) -> int:
        """How many layers are of one of these kinds."""
        return sum(kind in kinds for kind in self.kinds or ())


def layers_of(held: Config, number: int) -> Layers:
    """The kinds of a model's layers.

    Args:
        held: the language model's part of a `config.json`.
        number: how many layers it has.
    """
    kinds, doubts = _kinds(held, number)
    if kinds is None:
        return Layers(kinds=None, doubts=doubts)
    window = _window(held)
    if Kind.WINDOW in kinds and window is None:
        kinds = tuple(Kind.FULL if kind is Kind.WINDOW else kind for kind in kinds)
        doubts = (*doubts, "layers with a sliding window, whose width is not told, are counted without one")
    return Layers(kinds=_without_shared(held, kinds), window_tokens=window, doubts=doubts)


def _kinds(held: Config, number: int) -> tuple[tuple[Kind, ...] | None, tuple[str, ...]]:
    for rule in _RULES:
        found = rule(held, number)
        if isinstance(found, str):
            return None, (found,)
        if found is not None:
            return tuple(found), ()
    return _by_window(held, number)


def _without_shared(held: Config, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """The last layers of Gemma 3n attend to what earlier ones kept."""
    shared = min(size(held, "num_kv_shared_layers") or 0, len(kinds))
    own = len(kinds) - shared
    return kinds[:own] + tuple(kind if kind in (Kind.STATE, Kind.NONE) else Kind.SHARED for kind in kinds[own:])


def _window(held: Config) -> int | None:
    return size(held, "sliding_window", "sliding_window_size", "attention_chunk_size")


Found = Sequence[Kind] | str | None
"""The kinds, a sentence that says why they are not known, or nothing where a rule does not apply."""


def _by_name(held: Config, number: int) -> Found:
    names = next((held[key] for key in ("layer_types", "layers_block_type") if isinstance(held.get(key), list)), None)
    if not names:
        return None
    unknown = sorted({str(name) for name in names if not isinstance(name, str) or name not in _NAMED})
    if unknown:
        return f"layers of a kind that is not known: {', '.join(unknown[:3])}"
    if len(names) < number:
        return f"{len(names)} layers have a kind, the model has {number}"
    both = str(held.get("model_type")) in _STATE_BESIDE_ATTENTION
    return [Kind.BOTH if both and _NAMED[name] is Kind.FULL else _NAMED[name] for name in names[:number]]


def _by_repeated_name(held: Config, number: int) -> Found:
    names = next((held[key] for key in ("block_types", "_block_types") if isinstance(held.get(key), list)), None)
    if not names or not all(isinstance(name, str) and name in _NAMED for name in names):
        return None
    return [_NAMED[names[i % len(names)]] for i in range(number)]


def _by_letters(held: Config, _number: int) -> Found:
    pattern = held.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not pattern:
        return None
    unknown = sorted(set(pattern) - set(_LETTERS))
    return f"hybrid_override_pattern has letters that are not known: {', '.join(unknown[:3])}" if unknown else [
        _LETTERS[letter] for letter in pattern
    ]  # fmt: skip


def _by_flags(held: Config, number: int) -> Found:
    """MiniMax marks full attention with 1 and lightning attention with 0, MiMo windows with 1."""
    for key, one, zero in (
        ("attn_type_list", Kind.FULL, Kind.STATE),
        ("hybrid_layer_pattern", Kind.WINDOW, Kind.FULL),
    ):
        flags = held.get(key)
        if isinstance(flags, list) and flags:
            whole = len(flags) >= number and all(flag in (0, 1) for flag in flags)
            return [one if flag else zero for flag in flags[:number]] if whole else f"{key} does not tell every layer"
    return None


def _by_interval(held: Config, number: int) -> Found:
    """Qwen3-Next and Jamba: one layer in so many attends, the others keep a state."""
    default = 4 if size(held, "linear_num_value_heads") else None
    interval, period = size(held, "full_attention_interval") or default, size(held, "attn_layer_period")
    if interval is not None:
        return [Kind.STATE if (i + 1) % interval else Kind.FULL for i in range(number)]
    if period is not None:
        offset = held.get("attn_layer_offset") or 0
        return [Kind.FULL if i % period == offset else Kind.STATE for i in range(number)]
    return None


def _by_index(held: Config, number: int) -> Found:
    """Bamba and LFM2 list their attention layers from 0, Kimi Linear from 1."""
    for key in ("attn_layer_indices", "full_attn_idxs"):
        if isinstance(held.get(key), list):
            return [Kind.FULL if i in held[key] else Kind.STATE for i in range(number)]
    linear = held.get("linear_attn_config")
    if isinstance(linear, Mapping):
        full = linear.get("full_attn_layers")
        if not isinstance(full, list):
            return "linear_attn_config does not list full_attn_layers"
        return [Kind.FULL if i + 1 in full else Kind.STATE for i in range(number)]
    return None


def _by_block(held: Config, _number: int) -> Found:
    """Models out of an architecture search describe every block."""
    blocks = held.get("block_configs")
    if not isinstance(blocks, list) or not blocks:
        return None
    attentions = [block.get("attention") if isinstance(block, Mapping) else None for block in blocks]
    if not all(isinstance(one, Mapping) for one in attentions):
        return "block_configs does not tell every layer's attention"
    return [Kind.NONE if one.get("no_op") or one.get("replace_with_linear") else Kind.FULL for one in attentions if one]


def _beside_state(held: Config, number: int) -> Found:
    return [Kind.BOTH] * number if str(held.get("model_type")) in _STATE_BESIDE_ATTENTION else None


def _by_chunk(held: Config, number: int) -> Found:
    """Llama 4: layers with rotary positions see their chunk, the others all."""
    if size(held, "attention_chunk_size") is None:
        return None
    flags, interval = held.get("no_rope_layers"), size(held, "no_rope_layer_interval") or 4
    if isinstance(flags, list) and len(flags) >= number:
        return [Kind.WINDOW if flag else Kind.FULL for flag in flags[:number]]
    return [Kind.WINDOW if (i + 1) % interval else Kind.FULL for i in range(number)]


_RULES: tuple[Callable[[Config, int], Found], ...] = (
    _by_name,
    _by_repeated_name,
    _by_letters,
    _by_flags,
    _by_interval,
    _by_index,
    _by_block,
    _beside_state,
    _by_chunk,
)


def _by_window(held: Config, number: int) -> tuple[tuple[Kind, ...], tuple[str, ...]]:
    """Layers of an ordinary transformer, some or all of which may look back a limited way."""
    everything = (Kind.FULL,) * number
    if size(held, "sliding_window") is None or held.get("use_sliding_window") is False:
        return everything, ()
    pattern = next((held[key] for key in _PATTERNS if held.get(key)), None)
    if isinstance(pattern, str) and set(pattern) <= set(_LOCAL_OR_GLOBAL):
        return tuple(_LOCAL_OR_GLOBAL[pattern[i % len(pattern)]] for i in range(number)), ()
    every = pattern if type(pattern) is int else _EVERY_NTH_IS_FULL.get(str(held.get("model_type")))
    if every is not None and every > 0:
        return tuple(Kind.WINDOW if (i + 1) % every else Kind.FULL for i in range(number)), ()
    if held.get("use_sliding_window"):
        first = size(held, "max_window_layers") or 0
        return tuple(Kind.WINDOW if i >= first else Kind.FULL for i in range(number)), ()
    known = str(held.get("model_type")) in _ALL_WINDOWED
    return (Kind.WINDOW,) * number, () if known else ("which layers the sliding window concerns is not told",)


_PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
