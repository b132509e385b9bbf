"""What the client's own child processes (calibration server, workers) need from their parent."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_mooncake.border.child_environment import inherited

__all__ = ["child_environment"]

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])


def child_environment() -> dict[str, str]:
    """What they need of the parent's environment; this very package can be imported even where it is not installed."""
    path = os.environ.get("PYTHONPATH")
    return {**inherited(), "PYTHONPATH": os.pathsep.join((_PACKAGE_ROOT, path)) if path else _PACKAGE_ROOT}
