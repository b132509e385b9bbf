"""How a prompt becomes keys: chunks of tokens under chained hashes, as LMCache and vLLM do it."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence

_DIGEST_BYTES = 16


def chained_hashes(tokens: Sequence[int], size: int) -> list[str]:
    """Return one hash for each whole chunk of `size` tokens; each covers everything before it.

    The unfinished tail has none (LMCache's `save_unfull_chunk: false`).
    """
    data = array("I", tokens).tobytes()
    step = size * 4
    previous = b""
    hashes = []
    for start in range(0, len(data) - step + 1, step):
        digest = hashlib.blake2b(previous + data[start : start + step], digest_size=_DIGEST_BYTES)
        previous = digest.digest()
        hashes.append(digest.hexdigest())
    return hashes


def object_keys(model: str, hashes: Sequence[str], tags: Mapping[str, str]) -> list[str]:
    """Return store keys in LMCache's form, `<model>@<world size>@<rank>@<hash>@<dtype>[@<tag>%<value>…]`."""
    suffix = "".join(f"@{name}%{value}" for name, value in sorted(tags.items()))
    return [f"{model}@1@0@{digest}@bfloat16{suffix}" for digest in hashes]


def external_hit(prompt_tokens: int, chunks_found: int, chunk_tokens: int, local: int = 0) -> int:
    """Return the tokens that count as served by the store: whole chunks beyond the local hit, less a recomputed last.

    Args:
        prompt_tokens: length of the prompt.
        chunks_found: leading chunks present in the store.
        chunk_tokens: tokens of a chunk.
        local: tokens that the engine's own prefix cache serves.

    Source: LMCache's `get_num_new_matched_tokens` (0.5.6).
    """
    found = chunks_found * chunk_tokens
    served = max(0, found - local)
    return served - 1 if served and found == prompt_tokens else served
