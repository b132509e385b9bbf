"""Runs made for the history's tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_mooncake.history.stored_run import Anchor, Finding, StoredClaim, StoredRound, StoredRun

FINGERPRINT = "f" * 24
METRICS = {
    "warm.ttft_mean_ms": 100.0,
    "warm.tpot_mean_ms": 8.0,
    "warm.request_throughput": 5.0,
    "cold.ttft_mean_ms": 1000.0,
    "warm.hit_share": 0.98,
}


def made_run(run_id: str = "run-1", metrics: dict[str, float] | None = None, **changes: Any) -> StoredRun:
    """A run that passed; `metrics` replaces single figures."""
    run = StoredRun(
        id=run_id,
        label="v1",
        started_at="2026-01-01T00:00:00+00:00",
        verdict="PASS",
        fingerprint=FINGERPRINT,
        parts={"workload.prompt_tokens": 4096, "hardware.cpu": None, "workload.steady": False},
        release={"vllm": "0.32.0"},
        metrics={**METRICS, **(metrics or {})},
        rounds=(StoredRound(round=1, kind="cold", requests=3, failed=0, figures={"ttft_p90_ms": 12.5}),),
        claims=(StoredClaim(claim_id="ttft_mean", gating=True, verdict="PASS", estimate_ratio=0.1, low_ratio=0.09,
                            high_ratio=0.11),),
    )  # fmt: skip
    return replace(run, **changes)


FOUND = Finding(
    kind="alarm",
    fingerprint=FINGERPRINT,
    run_id="run-1",
    run_ids=("run-1",),
    made_at="2026-01-02T00:00:00+00:00",
    words="warm mean TTFT is 9 % worse",
    metric="warm.ttft_mean_ms",
)
ACCEPTED = Anchor(
    fingerprint=FINGERPRINT, run_ids=("run-1",), label="v1", who="somebody", at="2026-01-03T00:00:00+00:00", why="good"
)
