"""Where things are that outlive a run: the user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE_PARENT = Path(__file__).resolve().parents[4]
"""What has to be on `PYTHONPATH` for the stack's processes to import this package."""


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/pytest-mooncake`, else `~/.cache/pytest-mooncake`; created on demand, readable by its owner."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(root) / "pytest-mooncake"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
