"""The suite that comes with the package: `acceptance/`, `fixtures/`, `conftest.py`; written where a user wants it."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_mooncake.errors import UsageError

PACKED = ("acceptance", "fixtures", "conftest.py")


def packed_root() -> Path:
    """Where the suite lies: inside the installed wheel, or the checkout's own root."""
    package = Path(__file__).resolve().parent
    inside = package / "packed"
    return inside if inside.is_dir() else package.parent


def write_suite(directory: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Copy the suite into `directory`; returns the files written.

    Raises:
        UsageError: a file is there already and `force` is not given; nothing is written then.
    """
    root = packed_root()
    sources = [file for name in PACKED for file in _files(root / name)]
    targets = [directory / file.relative_to(root) for file in sources]
    there = [target for target in targets if target.exists()]
    if there and not force:
        raise UsageError(f"{there[0]} is there already: nothing was written; give --force to overwrite")
    for source, target in zip(sources, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return tuple(targets)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in {".py", ".yaml"})
