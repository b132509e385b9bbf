"""The tiny model that the local stack serves: built once, kept in the user's cache directory.

The directory's name is a hash of everything its content follows from. The path is part of LMCache's keys, so it has to
be the same in every run that is to find what an earlier one stored.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_mooncake.plan.models import LocalModel

__all__ = ["choose_heads", "geometry", "kv_bytes_per_token", "model_dir", "publish"]

RECIPE = 1
"""Raise when `inside/build_model.py` writes something else for the same geometry."""
BF16_BYTES = 2
ABANDONED_S = 3600.0
HEAD_CHOICES = (1, 2, 4, 8, 16, 32)
PROBE_S_TO_ROUND_S = 690.0
"""Seconds of attention that one query head costs in a cold round of 30 x 16,384 tokens (4 in flight), per second of
`inside/probe_attention.py`: 11 s against 0.016 s on two cores with AVX-512 bf16."""
ATTENTION_BUDGET_S = 28.0
"""What a cold round may spend on attention: dear enough that the cache gains clearly, cheap enough for five rounds."""


def geometry(spec: LocalModel, heads: int) -> dict[str, Any]:
    """What the builder needs, with `heads` decided."""
    return spec.model_dump() | {"heads": heads}


def kv_bytes_per_token(spec: LocalModel) -> int:
    """Keys and values of one token over all layers: 2 x layers x KV heads x head dim x 2 bytes.

    >>> kv_bytes_per_token(LocalModel())
    512
    """
    return 2 * spec.layers * spec.kv_heads * spec.head_dim * BF16_BYTES


def model_dir(cache_dir: Path, shape: dict[str, Any], versions: dict[str, str]) -> Path:
    """Where the model of this geometry belongs; `versions` are those of what builds it."""
    content = json.dumps({"recipe": RECIPE, "geometry": shape, "versions": versions}, sort_keys=True)
    return cache_dir / "models" / hashlib.sha256(content.encode()).hexdigest()[:16]


def publish(target: Path, build: Callable[[Path], None]) -> Path:
    """Return `target`, built by `build(directory)` if it is not there; never half a model, whoever else builds it."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        build(building)
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():  # else somebody was faster; ours is the same
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _remove_abandoned(models: Path) -> None:
    """Remove what a killed build left: it takes seconds, so an hour is long enough."""
    for building in models.glob(".building-*"):
        if time.time() - building.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(building, ignore_errors=True)


def choose_heads(probe_s: float, kv_heads: int) -> int:
    """The most query heads whose prefill stays within the budget; heads cost time in prefill and no KV bytes.

    >>> choose_heads(0.016, 1), choose_heads(0.005, 1)
    (2, 8)
    """
    choices = [heads for heads in HEAD_CHOICES if heads % kv_heads == 0] or [kv_heads]
    affordable = [heads for heads in choices if heads * probe_s * PROBE_S_TO_ROUND_S <= ATTENTION_BUDGET_S]
    return max(affordable, default=min(choices))


def builder_versions() -> dict[str, str]:
    """Versions of what the model's bytes come from."""
    return {name: importlib.metadata.version(name) for name in ("numpy", "tokenizers")}


def cpu_fingerprint(torch_version: str) -> str:
    """What the speed of attention depends on: CPU, its vector units, usable cores, torch."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    about = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    content = json.dumps([about, len(os.sched_getaffinity(0)), torch_version])
    return hashlib.sha256(content.encode()).hexdigest()[:12]
