"""Where a NAME of a stack, workload, targets or economics file is found.

A value that ends in .yaml or .yml or holds a path separator is a path. Anything else is a NAME, looked up in
`./fixtures/<kind>/NAME.yaml` of the directory of invocation, then in the copies packed in the installed package
(in a checkout: the repository's own `fixtures/`).
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from pytest_mooncake.errors import UsageError

FileKind = Literal["stacks", "workloads", "targets", "economics", "hardware"]

OPTION_OF: dict[FileKind, str] = {
    "stacks": "--mooncake-stack",
    "workloads": "--mooncake-workload",
    "targets": "--mooncake-targets",
    "economics": "--mooncake-economics",
    "hardware": "hardware.sheet",
}


def packed_root() -> Path:
    """Where `acceptance/`, `fixtures/` and `conftest.py` lie: in the installed wheel, or the checkout's own root."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "packed"
    return inside if inside.is_dir() else package.parent


def packed_fixtures() -> Path:
    """The `fixtures/` that came with the package."""
    return packed_root() / "fixtures"


def find(kind: FileKind, value: str, invocation_dir: Path, *, option: str | None = None) -> Path:
    """The file meant by `value`; `option` is what messages call it where it did not come from a `--mooncake-*` one.

    Raises:
        UsageError: there is no such file or name; the message lists or suggests names.
    """
    option = option or OPTION_OF[kind]
    if value.endswith((".yaml", ".yml")) or "/" in value:
        path = invocation_dir / value
        if not path.is_file():
            raise UsageError(f"{option} {value}: no such file (looked for {path})")
        return path
    places = (invocation_dir / "fixtures" / kind, packed_fixtures() / kind)
    for place in places:
        if (place / f"{value}.yaml").is_file():
            return place / f"{value}.yaml"
    names = sorted({file.stem for place in places for file in place.glob("*.yaml")})
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known names: {', '.join(names) or 'none'}"
    raise UsageError(f"{option} {value}: no such name; {hint} (a path ends in .yaml)")
