"""Where the machines of a run are read from: a YAML file, hardware sheets by name, a model's `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytest_mooncake.errors import PlanError, UsageError
from pytest_mooncake.plan.files import find
from pytest_mooncake.plan.machine import HardwareSheet, Machine, MachineFile
from pytest_mooncake.plan.model_config import (
    HEADS,
    HIDDEN,
    LAYERS,
    language_model_of,
    layer_number,
    relevant,
    size,
)
from pytest_mooncake.plan.yaml_source import load

__all__ = ["read_machine", "with_sheets"]


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
    path = given_in.parent / given
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise PlanError(f"{given_in}: model.config: {path} cannot be read ({reason}); name a config.json") from None
    held = language_model_of(config) if isinstance(config, dict) else {}
    absent = _absent(held)
    if absent is not None:
        raise PlanError(f"{given_in}: model.config: {path} has no {absent}; name the config.json of a language model")
    return relevant(config)


def _absent(held: dict[str, Any]) -> str | None:
    """The first size without which a `config.json` tells nothing; refused before anything is started."""
    if layer_number(held) is None:
        return LAYERS[0]
    return next((names[0] for names in (HIDDEN, HEADS) if size(held, *names) is None), None)
