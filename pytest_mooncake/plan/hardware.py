"""The machines and the model of a run or of figures; what physics allows follows from them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pytest_mooncake.plan.base import LEAST, MOST, Model
from pytest_mooncake.plan.sources.model_config import BITS, no_such_dtype

__all__ = ["Count", "HardwareGiven", "HardwareSheet", "Machine", "MachineFile", "ModelGiven", "Number"]


def _no_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


def _usual(value: float) -> float:
    """Tables are no YAML: their numbers are bounded here (`plan.sources.yaml_text`)."""
    if 0 < value < LEAST:
        raise ValueError(f"smaller than any number here but 0 ({LEAST:g})")
    return value


Number = Annotated[float, BeforeValidator(_no_flag), Field(ge=0, le=MOST, allow_inf_nan=False), AfterValidator(_usual)]
Count = Annotated[int, BeforeValidator(_no_flag), Field(ge=0, le=MOST)]


def _kv_dtype(value: object) -> object:
    if isinstance(value, str) and value != "auto" and value not in BITS:
        raise ValueError(no_such_dtype(value))
    return value


KvDtype = Annotated[str, BeforeValidator(_kv_dtype)]


class ModelGiven(Model):
    """A model's shape, or the `config.json` that tells it; what is given here outranks the file."""

    config: str | None = None
    """Path of a Hugging Face config.json, from the figures file's directory."""
    kv_dtype: KvDtype | None = None
    """Type the engine keeps its cache in (`--kv-cache-dtype`, e.g. fp8), where the config does not tell."""
    kv_bytes_per_token: Count | None = None
    window_tokens: Count | None = None
    window_kv_bytes_per_token: Count | None = None
    parameters: Number | None = None
    attention_layers: Count | None = None
    window_layers: Count | None = None
    attention_width: Count | None = None
    weight_bytes: Number | None = None

    @model_validator(mode="after")
    def _type_of_something(self) -> Self:
        if self.kv_dtype is not None and self.config is None:
            raise ValueError("kv_dtype needs config, the path of a config.json; or give kv_bytes_per_token")
        return self


class HardwareSheet(Model):
    """What one GPU and its links can do at best; peaks are dense bf16, without sparsity."""

    name: str
    description: str = ""
    source: str = ""
    """Where the figures are published."""
    peak_tflops_per_gpu: Number
    hbm_gb_per_s_per_gpu: Number
    hbm_gb: Number | None = None
    pcie_gb_per_s: Number | None = None
    """One direction, all lanes."""
    nic_gbps: Number | None = None


class HardwareGiven(Model):
    """The machines; `sheet` names one of `fixtures/hardware`, what is given here outranks it."""

    sheet: str | None = None
    gpus: Count | None = None
    peak_tflops_per_gpu: Number | None = None
    hbm_gb_per_s_per_gpu: Number | None = None
    link_gbps: Number | None = None
    network_gbps: Number | None = None


class MachineFile(Model):
    """The file that `--mooncake-hardware` names: keys as in figures to judge."""

    description: str = ""
    hardware: HardwareGiven = HardwareGiven()
    model: ModelGiven = ModelGiven()
    network_gbps: Number | None = None


class Machine(Model):
    """The same with sheet and `config.json` read, as a plan holds it."""

    name: str
    hardware: dict[str, float] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    network_gbps: Number | None = None
