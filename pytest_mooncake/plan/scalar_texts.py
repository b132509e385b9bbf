"""How the numbers of a YAML file are written: 14.50 and 14.5 are one number, and not as certain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

__all__ = ["scalar_texts"]

DEEPEST = 4
"""Figures lie at most so deep: side, latency, statistic."""


def scalar_texts(path: Path) -> dict[str, str]:
    """Texts of a file's scalars by dotted name; of a file that was read and found valid before."""
    return dict(_texts(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), ""))


def _texts(node: yaml.Node | None, above: str) -> Iterator[tuple[str, str]]:
    if not isinstance(node, yaml.MappingNode) or above.count(".") >= DEEPEST:
        return
    for key, value in node.value:
        if isinstance(value, yaml.ScalarNode):
            yield f"{above}{key.value}", value.value
        else:
            yield from _texts(value, f"{above}{key.value}.")
