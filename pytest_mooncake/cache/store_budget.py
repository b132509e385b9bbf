"""What a run will put into the store, before anything is sent: for the dry run and the store budget."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.audit.store_need import HOW_TO_TELL
from pytest_mooncake.analysis.evidence.counters.deltas import read
from pytest_mooncake.analysis.evidence.expected.formulae import object_bytes
from pytest_mooncake.errors import UsageError
from pytest_mooncake.records import KVGeometry, Scrape

__all__ = ["BUDGET_SHARE", "StoreCost", "check_budget", "chunks_held", "free_bytes", "store_cost"]

BUDGET_SHARE = 0.2
"""Share of an attached store's free segments that a run may use unless `--mooncake-store-budget` says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCost:
    """Objects and bytes that one cold round stores; a warm round stores nothing."""

    objects: int
    bytes_per_round: int


def store_cost(distinct_chunks: int, kv: KVGeometry) -> StoreCost:
    """Return what a cold round whose prompts have so many different chunks stores.

    >>> cost = store_cost(30 * 64, KVGeometry(bytes_per_token=327680, ranks=8))
    >>> cost.objects, round(cost.bytes_per_round / 1e9)
    (15360, 161)
    """
    objects = distinct_chunks * kv.ranks
    return StoreCost(objects=objects, bytes_per_round=objects * object_bytes(kv))


def chunks_held(capacity_bytes: float, kv: KVGeometry) -> int:
    """Return how many whole chunks a store holds.

    >>> chunks_held(2**30, KVGeometry(bytes_per_token=512, chunk_tokens=256))
    8192
    """
    return int(capacity_bytes // (kv.ranks * object_bytes(kv)))


def check_budget(
    need_bytes: int | None, *, free_bytes: float | None, budget_bytes: int | None, provisioned: bool
) -> str:
    """Compare the need with the budget and return a sentence for the plan.

    Args:
        need_bytes: what lies in the store at once, at most; None when the model's KV bytes a token are not known.
        free_bytes: free bytes of the segments; None when not known.
        budget_bytes: `--mooncake-store-budget`; None means 20 % of what is free.
        provisioned: the store is ours alone, so all of it may be used.

    Raises:
        UsageError: the need is above the budget.
    """
    if need_bytes is None:
        unkept = "" if budget_bytes is None else ", so --mooncake-store-budget cannot be kept"
        return f"how many bytes the run will store is not known{unkept}: {HOW_TO_TELL}"
    if budget_bytes is None and free_bytes is not None:
        budget_bytes = int(free_bytes * (1.0 if provisioned else BUDGET_SHARE))
    need = f"{need_bytes / 1e9:,.3g} GB"
    if budget_bytes is None:
        return f"the run will store {need}; how much is free in the store is not known"
    if need_bytes > budget_bytes:
        raise UsageError(
            f"the run would store {need}, the budget is {budget_bytes / 1e9:,.3g} GB: "
            "lower --mooncake-requests or --mooncake-prompt-tokens, or raise --mooncake-store-budget"
        )
    return f"the run will store {need} of at most {budget_bytes / 1e9:,.3g} GB"


def free_bytes(seen: tuple[Scrape, ...]) -> float | None:
    """Return what is free in the store's segments; None where the master does not tell."""
    capacity, stored = read(seen, "capacity_bytes"), read(seen, "stored_bytes")
    return None if capacity is None or stored is None else max(0.0, capacity - stored)
