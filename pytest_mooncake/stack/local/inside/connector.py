"""Lets LMCache's `LMCacheConnectorV1` move KV blocks of a vLLM engine that runs on the CPU.

LMCache ships connectors for accelerators only; on a CPU it logs "degraded mode" and stores nothing while vLLM goes on
answering 200. vLLM loads this module by
`{"kv_connector": "LMCacheCPUConnector", "kv_connector_module_path": "pytest_mooncake.stack.local.inside.connector"}`.

A chunk is copied as whole vLLM blocks, one row per block and layer. What is inside a row (keys, values, heads and their
order) is never looked at, so every layout works as long as all engines that share a store have the same model, dtype,
block size and attention backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lmcache.v1.gpu_connector as gpu_connector
import torch
from lmcache.utils import EngineType
from lmcache.v1.gpu_connector.gpu_connectors import GPUConnectorInterface
from vllm.distributed.kv_transfer.kv_connector.v1.lmcache_connector import LMCacheConnectorV1

_create_for_accelerators = gpu_connector.CreateGPUConnector
_block_tokens: list[int] = []
"""vLLM's block size, known once the engine has built its `LMCacheCPUConnector`; LMCache does not pass it on."""


def as_rows(cache: torch.Tensor) -> torch.Tensor:
    """View one layer's paged cache as `(blocks, elements of one block)` without copying.

    Raises:
        ValueError: The block dimension is not the outermost one in memory.
    """
    elements = cache[0].numel()
    if cache.stride(0) != elements:
        raise ValueError(f"blocks are not outermost: shape {tuple(cache.shape)}, stride {cache.stride()}")
    return torch.as_strided(cache, (cache.shape[0], elements), (elements, 1), cache.storage_offset())


class CPUBlockConnector(GPUConnectorInterface):  # type: ignore[misc]  # untyped base
    """Copies chunks between LMCache's memory objects and vLLM's paged cache, both in main memory."""

    def __init__(self, metadata: Any) -> None:
        self.layers, self.kv, _, heads, head_dim = metadata.kv_shape
        self.hidden = heads * head_dim

    def _rows(
        self, memory: Any, start: int, end: int, kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Block ids of tokens `[start, end)`, each layer's cache as rows, and the chunk as `(layers, blocks, row)`."""
        (block,) = _block_tokens
        if start % block or end % block:
            raise ValueError(f"tokens [{start}, {end}) are not whole vLLM blocks of {block}; check chunk_size")
        ids = kwargs["slot_mapping"][start:end:block] // block
        caches = [as_rows(cache) for cache in kwargs["kvcaches"]]
        if memory.tensor.numel() != len(caches) * len(ids) * caches[0].shape[1]:
            shape = tuple(memory.tensor.shape)
            raise ValueError(f"a chunk of shape {shape} does not hold {len(ids)} blocks of {len(caches)} layers")
        return ids, caches, memory.tensor.view(len(caches), len(ids), -1)

    def from_gpu(self, memory_obj: Any, start: int, end: int, **kwargs: Any) -> None:
        """Copy tokens `[start, end)` out of vLLM's cache."""
        ids, caches, chunk = self._rows(memory_obj, start, end, kwargs)
        for layer, cache in enumerate(caches):
            torch.index_select(cache, 0, ids, out=chunk[layer])

    def to_gpu(self, memory_obj: Any, start: int, end: int, **kwargs: Any) -> None:
        """Copy a chunk into vLLM's cache as tokens `[start, end)`."""
        ids, caches, chunk = self._rows(memory_obj, start, end, kwargs)
        for layer, cache in enumerate(caches):
            cache.index_copy_(0, ids, chunk[layer])

    def batched_from_gpu(
        self, memory_objs: Sequence[Any], starts: Sequence[int], ends: Sequence[int], **kwargs: Any
    ) -> None:
        """`from_gpu` for several chunks."""
        for memory, start, end in zip(memory_objs, starts, ends, strict=True):
            self.from_gpu(memory, start, end, **kwargs)

    def batched_to_gpu(
        self, memory_objs: Sequence[Any] = (), starts: Sequence[int] = (), ends: Sequence[int] = (), **kwargs: Any
    ) -> None:
        """`to_gpu` for several chunks."""
        for memory, start, end in zip(memory_objs, starts, ends, strict=True):
            self.to_gpu(memory, start, end, **kwargs)

    def get_shape(self, num_tokens: int) -> torch.Size:
        """Shape LMCache is to allocate for `num_tokens`; only its number of elements matters here."""
        return torch.Size([self.kv, self.layers, num_tokens, self.hidden])


def create_connector(config: Any, metadata: Any, engine: Any, layout_hints: Any = None) -> Any:
    """LMCache's factory, with an answer for vLLM on a CPU."""
    if engine == EngineType.VLLM:
        return CPUBlockConnector(metadata)
    return _create_for_accelerators(config, metadata, engine, layout_hints)


gpu_connector.CreateGPUConnector = create_connector


class LMCacheCPUConnector(LMCacheConnectorV1):  # type: ignore[misc]  # untyped base
    """`LMCacheConnectorV1` that remembers vLLM's block size for the copies above."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        _block_tokens[:] = [vllm_config.cache_config.block_size]
        super().__init__(vllm_config, role, kv_cache_config)
