"""Caches simulated on real tokens, the slow and obvious way: what the planned figures are checked against."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

Tokens = Sequence[int]


def chunk_keys(prompt: Tokens, chunk_tokens: int) -> list[tuple[int, ...]]:
    """Names of the whole chunks of a prompt: all tokens up to their end, as hash chains make them."""
    return [tuple(prompt[:end]) for end in range(chunk_tokens, len(prompt) + 1, chunk_tokens)]


def unbounded_hits(prompts: Iterable[Tokens], chunk_tokens: int) -> list[int]:
    """Chunks of each prompt that are served by a cache that forgets nothing."""
    stored: set[tuple[int, ...]] = set()
    hits = []
    for prompt in prompts:
        keys = chunk_keys(prompt, chunk_tokens)
        hits.append(leading(key in stored for key in keys))
        stored.update(keys)
    return hits


def lru_hits(prompts: Iterable[Sequence[object]], capacity: int) -> list[int]:
    """Keys of each prompt (a row of keys) that are served by an LRU cache: looked up on arrival, then all touched."""
    cache: OrderedDict[object, None] = OrderedDict()
    hits = []
    for keys in prompts:
        hits.append(leading(key in cache for key in keys))
        for key in keys:
            cache[key] = None
            cache.move_to_end(key)
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits


def leading(found: Iterable[bool]) -> int:
    """How many are found before the first that is not."""
    count = 0
    for one in found:
        if not one:
            break
        count += 1
    return count
