"""A million requests summarised, judged and audited from columns in memory: `python -m benchmarks.verdicts.scale`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pytest_mooncake.analysis.audit import audit
from pytest_mooncake.analysis.claims import judge_observed
from pytest_mooncake.analysis.columns import Columns, pooled
from pytest_mooncake.analysis.figures import Figures, round_figures
from pytest_mooncake.analysis.observed import observe_columns
from pytest_mooncake.analysis.summary import summarise_columns
from pytest_mooncake.plan.models import Target, TargetsPlan
from pytest_mooncake.records import Kind

ROUNDS = 21
TARGETS = TargetsPlan(
    name="scale",
    claims=(
        Target(metric="ttft_mean", title="mean TTFT", direction="lower", ratio=0.40, stated="-60 %"),
        Target(metric="tpot_mean", title="mean TPOT", direction="lower", ratio=1.10, stated="stable"),
    ),
)


def a_round(number: int, requests: int, generator: np.random.Generator) -> Columns:
    """Requests of one round, each of 128 tokens in four chunks."""
    factor = 0.3 if number % 2 else 1.0
    ttft_ms = generator.lognormal(np.log(1200 * factor), 0.1, requests)
    tpot_ms = generator.lognormal(np.log(15), 0.05, requests)
    sent_ns = np.arange(requests) * 1_000_000
    first_ns = sent_ns + (ttft_ms * 1e6).astype(np.int64)
    last_ns = first_ns + (tpot_ms * 127e6).astype(np.int64)
    return Columns(
        round=np.full(requests, number),
        engine=np.zeros(requests, dtype=np.int64),
        failed=np.zeros(requests, dtype=bool),
        sent_ns=sent_ns,
        first_token_ns=first_ns,
        last_token_ns=last_ns,
        done_ns=last_ns,
        planned_tokens=np.full(requests, 128),
        prompt_tokens=np.full(requests, 16384),
        cached_tokens=np.zeros(requests, dtype=np.int64),
        output_tokens=np.full(requests, 128),
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        e2e_ms=(last_ns - sent_ns) / 1e6,
        gap_ms=np.repeat(tpot_ms, 3) * 42,
        gap_tokens=np.full(3 * requests, 42),
    )


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print wall and CPU seconds of a block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{name:<12} {time.perf_counter() - wall:6.2f} s wall {time.process_time() - cpu:6.2f} s CPU")


def main(requests: int = 1_000_000) -> None:
    """Time the three steps; importing scipy belongs to judging."""
    generator = np.random.default_rng(0)
    parts = [a_round(number, requests // ROUNDS, generator) for number in range(ROUNDS)]
    with timed("all"):
        with timed("summarised"):
            chain = [
                observe_columns(one, number=i, kind=Kind.WARM if i % 2 else Kind.COLD, segment=0, position=i)
                for i, one in enumerate(parts)
            ]
            cold, warm = (summarise_columns(pooled(parts[start::2])) for start in (0, 1))
        with timed("judged"):
            judge_observed(TARGETS, chain, looks=(3, 4, 5, 6, 8, 10), trials=10, quick=False)
        with timed("audited"):
            audit(Figures(cold=round_figures(cold), warm=round_figures(warm), concurrency=64))


if __name__ == "__main__":
    main()
