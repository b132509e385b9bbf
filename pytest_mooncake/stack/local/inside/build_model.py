"""Write a tiny Qwen3 checkpoint with random weights and a byte-level BPE tokenizer: `... build_model GEOMETRY OUT`.

GEOMETRY is JSON with the fields of `plan.models.LocalModel`, `heads` as a number. Everything follows from it and its
seed: the same geometry gives the same files on any machine. Needs numpy and tokenizers, not torch.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WEIGHT_STD = 0.06
"""Large enough for logits that differ: greedy output of a flatter random model flips at every rounding."""
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def words(seed: int) -> Iterator[str]:
    """Endless invented words of one to four syllables; common syllables are common, as in a language."""
    rng = random.Random(seed)  # noqa: S311 - a corpus, not a secret
    syllables = [c + v + e for c in "bdfghklmnprstvw" for v in "aeiou" for e in ("", "n", "r", "s", "t")]
    while True:
        # only random() is promised to give the same sequence in every Python
        length = 1 + int(4 * rng.random())
        yield "".join(syllables[int(len(syllables) * rng.random() ** 2)] for _ in range(length))


def lines(seed: int, count: int) -> Iterator[str]:
    """`count` lines of ten words."""
    source = words(seed)
    for _ in range(count):
        yield " ".join(next(source) for _ in range(10))


def write_tokenizer(out: Path, vocab: int, seed: int, max_position: int) -> None:
    """Train a tokenizer with exactly `vocab` entries, so that every id below it is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        show_progress=False,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(lines(seed, max(1000, 2 * vocab)), trainer)
    if tokenizer.get_vocab_size() != vocab:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} entries instead of {vocab}")
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": max_position,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def shapes(geometry: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the checkpoint; one dimension means a norm."""
    hidden, head_dim, inner = geometry["hidden"], geometry["head_dim"], 3 * geometry["hidden"]
    q, kv = geometry["heads"] * head_dim, geometry["kv_heads"] * head_dim
    yield "model.embed_tokens.weight", (geometry["vocab"], hidden)
    for layer in range(geometry["layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (hidden,)
        yield f"{at}.post_attention_layernorm.weight", (hidden,)
        yield f"{at}.self_attn.q_proj.weight", (q, hidden)
        yield f"{at}.self_attn.k_proj.weight", (kv, hidden)
        yield f"{at}.self_attn.v_proj.weight", (kv, hidden)
        yield f"{at}.self_attn.o_proj.weight", (hidden, q)
        yield f"{at}.self_attn.q_norm.weight", (head_dim,)
        yield f"{at}.self_attn.k_norm.weight", (head_dim,)
        yield f"{at}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{at}.mlp.up_proj.weight", (inner, hidden)
        yield f"{at}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (geometry["vocab"], hidden)


def write_weights(out: Path, geometry: dict[str, Any]) -> None:
    """Write `model.safetensors` in bf16 (the upper half of a float32, truncated).

    The format is a length (8 bytes, little endian), a JSON header with each tensor's offsets, then the tensors.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(geometry["seed"]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    tensors = []
    at = 0
    for name, shape in shapes(geometry):
        norm = len(shape) == 1
        values = np.ones(shape, "float32") if norm else rng.standard_normal(shape, "float32") * np.float32(WEIGHT_STD)
        raw = (values.view("uint32") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(raw)]}
        tensors.append(raw)
        at += len(raw)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (out / "model.safetensors").write_bytes(b"".join((len(head).to_bytes(8, "little"), head, *tensors)))


def write_config(out: Path, geometry: dict[str, Any]) -> None:
    """Write `config.json` and `generation_config.json`."""
    ends = {"eos_token_id": SPECIAL.index("<|im_end|>"), "pad_token_id": SPECIAL.index("<|endoftext|>")}
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": geometry["vocab"],
        "hidden_size": geometry["hidden"],
        "intermediate_size": 3 * geometry["hidden"],
        "num_hidden_layers": geometry["layers"],
        "num_attention_heads": geometry["heads"],
        "num_key_value_heads": geometry["kv_heads"],
        "head_dim": geometry["head_dim"],
        "max_position_embeddings": geometry["max_position"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": WEIGHT_STD,
        "tie_word_embeddings": False,
        "use_cache": True,
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        **ends,
    }
    (out / "config.json").write_text(json.dumps(config, indent=1))
    (out / "generation_config.json").write_text(json.dumps(ends))


def main(argv: list[str]) -> None:
    """Build into the directory `argv[1]`, which exists and is empty."""
    geometry, out = json.loads(argv[0]), Path(argv[1])
    write_tokenizer(out, geometry["vocab"], geometry["seed"], geometry["max_position"])
    write_weights(out, geometry)
    write_config(out, geometry)


if __name__ == "__main__":
    main(sys.argv[1:])
