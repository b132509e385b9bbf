"""A trace of a million requests, planned: read, checked, clipped, scheduled, and every request's hits counted.

    python -m benchmarks.workload.million_requests [--requests N] [--prompts N] [--source TRACE] [--check]

The trace is the published conversation trace, repeated with new ids until it has enough requests (24 million blocks).
Prints seconds and peak memory; `--check` exits 1 above 10 s or 1 GB. Also times making prompts of 16,384 tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from pytest_mooncake.plan.models import TraceSpec, WorkloadPlan
from pytest_mooncake.workload.build import layout_of
from pytest_mooncake.workload.layouts.long_document import document_layout
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse
from pytest_mooncake.workload.tokens.pools import pool_of_ids

SOURCE = Path(__file__).parents[2] / "tests" / "data" / "traces" / "conversation_trace.jsonl.gz"
LIMIT_S = 10.0
LIMIT_BYTES = 1e9


def write_trace(source: Path, target: Path, requests: int) -> None:
    """Repeat `source` with new ids and later timestamps until `target` has `requests` lines."""
    with gzip.open(source) as lines:
        rows = [json.loads(line) for line in lines]
    ids = 1 + max(max(row["hash_ids"]) for row in rows)
    span = 1 + rows[-1]["timestamp"]
    with target.open("w", encoding="utf-8") as file:
        for number in range(requests):
            lap, place = divmod(number, len(rows))
            row = rows[place]
            again = {
                **row,
                "timestamp": row["timestamp"] + lap * span,
                "hash_ids": [block + lap * ids for block in row["hash_ids"]],
            }
            file.write(json.dumps(again) + "\n")


def plan_trace(trace: Path) -> tuple[float, float, str]:
    """Seconds and CPU seconds to plan all of `trace`, and what came out."""
    plan = WorkloadPlan(name="million", kind="trace", trace=TraceSpec(path=str(trace), speed=2.0))
    began, cpu_began = time.perf_counter(), time.process_time()
    layout = layout_of(plan, max_model_len=131_072)
    reuse = planned_reuse(layout)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return (
        seconds,
        cpu_s,
        f"{len(layout):,} requests, {len(layout.path):,} blocks, {reuse.cold_ratio:.1%} of chunks reused",
    )


def prompt_us(prompts: int) -> float:
    """Median microseconds to make one prompt of 16,384 tokens."""
    plan = WorkloadPlan(name="w", requests=prompts)
    planned = Workload(plan, document_layout(plan), pool_of_ids(range(8000), "bench")).requests("n")
    took = []
    for i in range(prompts):
        began = time.perf_counter()
        planned[i]
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def main() -> int:
    """Run and print; 1 if a limit was exceeded and `--check` was given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        write_trace(given.source, trace, given.requests)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds, cpu_s, what = plan_trace(trace)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"planned in {seconds:.2f} s ({cpu_s:.2f} s of CPU): {what}")
    print(f"peak memory {peak / 1e6:,.0f} MB ({before / 1e6:,.0f} MB before planning)")
    print(f"a prompt of 16,384 tokens: {prompt_us(given.prompts):.0f} us (median of {given.prompts})")
    return int(given.check and (seconds > LIMIT_S or peak > LIMIT_BYTES))


if __name__ == "__main__":
    sys.exit(main())
