"""Segments as a tree: a name behind another predecessor is another segment, because caches hash whole prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mooncake.workload.layouts.layout import Ints


def is_tree(starts: Ints, path: Ints, segments: int) -> bool:
    """Whether every segment has one and the same predecessor wherever it occurs.

    Args:
        starts: (n + 1,) places in `path` where the requests begin.
        path: segment indices, below `segments`.
        segments: how many there are.
    """
    import numpy as np

    before = _predecessors(starts, path)
    parent = np.full(segments, -1, dtype=path.dtype)
    parent[path] = before
    return bool(np.array_equal(parent[path], before))


def as_tree(starts: Ints, path: Ints, segments: int) -> tuple[Ints, Ints]:
    """Rename segments so that they form a tree.

    Returns:
        The new path, and for each new segment the old one it stands for: (number of new segments,).
    """
    import numpy as np

    lengths = np.diff(starts)
    renamed = np.empty(len(path), dtype=np.int32)
    node = np.zeros(len(lengths), dtype=np.int64)  # 0 is the root, node k is new segment k - 1
    old: list[Ints] = []
    known = 0
    for depth in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > depth)
        places = starts[rows] + depth
        keys, inverse = np.unique(node[rows] * segments + path[places], return_inverse=True)
        old.append((keys % segments).astype(np.int32))
        node[rows] = known + 1 + inverse
        renamed[places] = known + inverse
        known += len(keys)
    return renamed, np.concatenate(old) if old else np.empty(0, dtype=np.int32)


def _predecessors(starts: Ints, path: Ints) -> Ints:
    import numpy as np

    before = np.empty_like(path)
    before[1:] = path[:-1]
    begins = starts[:-1]
    before[begins[begins < starts[1:]]] = -1
    return before
