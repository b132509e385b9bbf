"""What a prompt must leave in the store and bring back from it: pure formulae, tokens and bytes in, numbers out.

Symbols: P prompt tokens as the server counts them, S tokens per chunk, C tokens already in the engine's own prefix
cache, H tokens found in the store, E tokens the engine counts as external. Source: LMCache 0.5.6
(`vllm_v1_adapter.get_num_new_matched_tokens`, `cache_engine.lookup`, `protocol.init_remote_metadata_info`) and
vLLM 0.32.0 (`kv_cache_manager`: the last token of a prompt is always computed), `save_unfull_chunk: false`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pytest_mooncake.records import KVGeometry

__all__ = [
    "Expected",
    "HitRule",
    "cached_tokens",
    "chunks_stored",
    "computed_tokens",
    "expect",
    "external_tokens",
    "kv_bytes_per_token",
    "object_bytes",
    "prompt_bytes",
]


class HitRule(StrEnum):
    """What the engine recomputes when the whole prompt was found: it must run at least one token."""

    LAST_TOKEN = "last_token"  # noqa: S105 - LMCache connectors: E = H - 1
    LAST_CHUNK = "last_chunk"  # vLLM's MooncakeStoreConnector: the last whole block is dropped


def chunks_stored(prompt_tokens: int, chunk_tokens: int, *, save_unfull: bool = False) -> int:
    """Return how many chunks of a prompt are stored: floor(P / S), or ceil with `save_unfull_chunk: true`.

    >>> [chunks_stored(p, 256) for p in (255, 256, 257, 16384)]
    [0, 1, 1, 64]
    >>> chunks_stored(257, 256, save_unfull=True)
    2
    """
    return -(-prompt_tokens // chunk_tokens) if save_unfull else prompt_tokens // chunk_tokens


def external_tokens(
    prompt_tokens: int,
    chunk_tokens: int,
    *,
    local_tokens: int = 0,
    present_chunks: int | None = None,
    rule: HitRule = HitRule.LAST_TOKEN,
) -> int:
    """Return E, the tokens an engine counts as served from outside when the first `present_chunks` are there.

    E = max(0, H - C), minus 1 if H = P (`HitRule.LAST_TOKEN`), or minus one chunk (`LAST_CHUNK`).

    Args:
        prompt_tokens: P.
        chunk_tokens: S.
        local_tokens: C, tokens already in the engine's own prefix cache.
        present_chunks: chunks found before the first missing one; None means all.
        rule: what is recomputed of a prompt that was found whole.

    >>> [external_tokens(p, 256) for p in (255, 256, 257, 511, 512, 513, 9728)]
    [0, 255, 256, 256, 511, 512, 9727]
    >>> external_tokens(1024, 128, rule=HitRule.LAST_CHUNK)
    896
    """
    hit = _hit_tokens(prompt_tokens, chunk_tokens, present_chunks)
    if hit == prompt_tokens:
        hit -= 1 if rule is HitRule.LAST_TOKEN else chunk_tokens
    return max(0, hit - local_tokens)


def _hit_tokens(prompt_tokens: int, chunk_tokens: int, present_chunks: int | None) -> int:
    whole = chunks_stored(prompt_tokens, chunk_tokens)
    return chunk_tokens * (whole if present_chunks is None else min(whole, present_chunks))


def cached_tokens(prompt_tokens: int, chunk_tokens: int, *, local_tokens: int = 0) -> int:
    """Return what `usage.prompt_tokens_details.cached_tokens` must say: C + E.

    >>> cached_tokens(1000, 256, local_tokens=512)
    768
    """
    return local_tokens + external_tokens(prompt_tokens, chunk_tokens, local_tokens=local_tokens)


def computed_tokens(prompt_tokens: int, chunk_tokens: int, *, local_tokens: int = 0) -> int:
    """Return the tokens that are still prefilled: P - C - E, at least 1.

    >>> computed_tokens(16384, 256)
    1
    """
    return prompt_tokens - cached_tokens(prompt_tokens, chunk_tokens, local_tokens=local_tokens)


def object_bytes(kv: KVGeometry) -> int:
    """Return the size of one stored object: S b / W plus the header that `save_chunk_meta` adds.

    Source: LMCache#1224, Llama-3.1-8B on one rank, "total size: 33554460".

    >>> object_bytes(KVGeometry(bytes_per_token=131072, object_header_bytes=28))
    33554460
    """
    return kv.chunk_tokens * kv.bytes_per_token // kv.ranks + kv.object_header_bytes


def prompt_bytes(prompt_tokens: int, kv: KVGeometry) -> int:
    """Return what one prompt occupies in the store: n (S b + W header) bytes.

    >>> prompt_bytes(16384, KVGeometry(bytes_per_token=327680, ranks=8)) / 2**30
    5.0
    """
    return chunks_stored(prompt_tokens, kv.chunk_tokens) * kv.ranks * object_bytes(kv)


def kv_bytes_per_token(layers: int, kv_heads: int, head_dim: int, dtype_bytes: int = 2) -> int:
    """Return b for MHA and GQA models, bytes per token over all ranks: keys and values of every layer.

    >>> kv_bytes_per_token(80, 8, 128)
    327680
    """
    return 2 * layers * kv_heads * head_dim * dtype_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Sums over the requests of a round, of distinct prompts that share nothing.

    `objects` are Mooncake keys (chunks × ranks), `objects_read` those that a warm round asks for: not a last chunk that
    is recomputed whole. `external_tokens` is Σ E of a warm round, `store_bytes` what a cold round stores.
    """

    prompt_tokens: int
    chunks: int
    objects: int
    objects_read: int
    external_tokens: int
    store_bytes: int


def expect(prompts: Iterable[int], kv: KVGeometry, *, rule: HitRule = HitRule.LAST_TOKEN) -> Expected:
    """Add up the formulae over prompt lengths (tokens, as the server counts them).

    >>> expect([16384] * 30, KVGeometry(bytes_per_token=512)).objects
    1920
    """
    lengths = tuple(prompts)
    chunks = sum(chunks_stored(p, kv.chunk_tokens) for p in lengths)
    recomputed = sum(p > 0 and p % kv.chunk_tokens == 0 for p in lengths) if rule is HitRule.LAST_CHUNK else 0
    return Expected(
        prompt_tokens=sum(lengths),
        chunks=chunks,
        objects=chunks * kv.ranks,
        objects_read=(chunks - recomputed) * kv.ranks,
        external_tokens=sum(external_tokens(p, kv.chunk_tokens, rule=rule) for p in lengths),
        store_bytes=chunks * kv.ranks * object_bytes(kv),
    )
