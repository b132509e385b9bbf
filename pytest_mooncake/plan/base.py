"""What every model of the plan is: frozen, and closed to keys it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["LEAST", "MOST", "Model"]

MOST, LEAST = 10**18, 1e-12
"""Sizes of numbers that are handed in: what lies beyond is a slip of the keyboard, and figures made of it overflow."""


class Model(BaseModel):
    """Frozen base: unknown keys are errors, numbers are finite, nothing can be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
