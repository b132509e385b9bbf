"""The arithmetic of counters as the rooms that touch caches use it; evidence and audit share it (`analysis.deltas`)."""

from __future__ import annotations

from pytest_mooncake.analysis.deltas import (
    CounterDeltas,
    changed_between,
    deltas,
    missing_quantities,
    read,
    sum_by_label,
)
from pytest_mooncake.analysis.exposition import split_series

__all__ = [
    "CounterDeltas",
    "changed_between",
    "deltas",
    "missing_quantities",
    "read",
    "split_series",
    "sum_by_label",
]
