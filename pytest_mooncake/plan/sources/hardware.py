"""Where the machines of a run are read from: a YAML file, hardware sheets by name, a model's `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytest_mooncake.errors import PlanError, UsageError
from pytest_mooncake.plan.hardware import HardwareSheet, Machine, MachineFile
from pytest_mooncake.plan.sources.lookup import find
from pytest_mooncake.plan.sources.model_config import (
    HEADS,
    HIDDEN,
    LAYERS,
    MOST_SIZE,
    language_model_of,
    layer_number,
    relevant,
    size,
)
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.plan.sources.yaml_text import clipped, read_bounded

__all__ = ["read_machine", "with_sheets"]

FURTHER_SIZES = (
    "head_dim", "num_key_value_heads", "kv_lora_rank", "qk_rope_head_dim", "num_experts_per_tok", "n_shared_experts",
    "first_k_dense_replace", "intermediate_size", "sliding_window",
)  # fmt: skip
"""Sizes that geometry computes with where they are there."""
NEEDED = "a whole number is needed to compute limits"
MOST_CONFIG_BYTES = 4 * 2**20


def read_machine(value: str, invocation_dir: Path) -> Machine:
    """Read the machines of a run.

    Raises:
        UsageError: there is no such file or hardware sheet (PlanError: one of them cannot be read).
    """
    path = invocation_dir / value
    if not path.is_file():
        raise UsageError(f"--mooncake-hardware {value}: no such file; write one with hardware, model and network_gbps")
    given = load(path, MachineFile).model_dump(exclude_none=True, exclude={"description"})
    return Machine.model_validate({"name": path.stem, **with_sheets(given, path, invocation_dir)})


def with_sheets(mapping: dict[str, Any], path: Path, invocation_dir: Path) -> dict[str, Any]:
    """A file's mapping with its `config.json` and its hardware sheet read into it.

    Raises:
        PlanError: one of them cannot be read.
        UsageError: there is no such sheet.
    """
    model, hardware = dict(mapping["model"]), dict(mapping["hardware"])
    if "config" in model:
        model["config"] = _config(path, model["config"])
    sheet = hardware.pop("sheet", None)
    if sheet is not None:
        hardware = _sheet(sheet, invocation_dir) | hardware
    return mapping | {"model": model, "hardware": hardware}


def _sheet(name: str, invocation_dir: Path) -> dict[str, Any]:
    path = find("hardware", name, invocation_dir)
    sheet = load(path, HardwareSheet, name=path.stem)
    known = {
        "peak_tflops_per_gpu": sheet.peak_tflops_per_gpu,
        "hbm_gb_per_s_per_gpu": sheet.hbm_gb_per_s_per_gpu,
        "link_gbps": sheet.nic_gbps,
    }
    return {key: value for key, value in known.items() if value is not None}


def _config(given_in: Path, given: str) -> dict[str, Any]:
    """A `config.json`, with every size that geometry is computed from being one."""
    path = given_in.parent / given
    where = f"{given_in}: model.config: {path}"
    try:
        config = json.loads(read_bounded(path, MOST_CONFIG_BYTES))
    except PlanError as error:
        raise PlanError(f"{given_in}: model.config: {error}; name a config.json") from None
    except (ValueError, RecursionError):
        raise PlanError(f"{where} cannot be read (not JSON); name a config.json") from None
    _check(where, language_model_of(config) if isinstance(config, dict) else {})
    return relevant(config)


def _check(where: str, held: dict[str, Any]) -> None:
    """Refuse a configuration that tells no shape, or holds something else where a size belongs."""
    found = (layer_number(held), size(held, *HIDDEN), size(held, *HEADS))
    for number, names in zip(found, (LAYERS, HIDDEN, HEADS), strict=True):
        told = next((name for name in names if held.get(name) is not None), None)
        if number is None and told is None:
            raise PlanError(f"{where} has no {names[0]}; name the config.json of a language model")
        if number is None:
            raise PlanError(f"{where}: {told} is {clipped(held[str(told)])}; {NEEDED}")
    wrong = next((key for key in FURTHER_SIZES if not _is_size(held.get(key))), None)
    if wrong:
        raise PlanError(f"{where}: {wrong} is {clipped(held[wrong])}; {NEEDED}")
    kinds = held.get("layer_types")
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise PlanError(f"{where}: layer_types is {clipped(kinds)}; a list of names is needed to compute limits")


def _is_size(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value <= MOST_SIZE)
