"""A million requests: from columns in memory to a verdict, and from a record on disk to the same figures.

    python -m benchmarks.verdicts.scale [--requests N] [--chunks N] [--out FILE]

Done when: summarised, judged and audited from columns in under 2 s; read from the record in under 20 s and 500 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from pytest_mooncake.analysis.audit.external_figures import Figures, round_figures
from pytest_mooncake.analysis.audit.run_audit import audit
from pytest_mooncake.analysis.claims.judge_claims import judge_observed
from pytest_mooncake.analysis.figures.columns import Columns, pooled
from pytest_mooncake.analysis.figures.summary import summarise_columns
from pytest_mooncake.analysis.statistics.observed import observe_columns
from pytest_mooncake.journal import EVENTS_FILE, REQUESTS_FILE
from pytest_mooncake.journal.columns import observed
from pytest_mooncake.journal.lines import line_of, seed_of
from pytest_mooncake.plan.models import Target, TargetsPlan
from pytest_mooncake.records import Kind, Phase, RequestRecord, Round

ROUNDS = 21
RUN = "scale"
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
        ttft_user_ms=ttft_ms,
        ttft_vllm_ms=ttft_ms,
        tpot_ms=tpot_ms,
        e2e_ms=(last_ns - sent_ns) / 1e6,
        gap_ms=np.repeat(tpot_ms, 3) * 42,
        gap_tokens=np.full(3 * requests, 42),
        unsplit=np.zeros(requests, dtype=bool),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a step took."""

    name: str
    wall_s: float
    cpu_s: float


@contextmanager
def timed(name: str, into: list[Cost]) -> Iterator[None]:
    """Note wall and CPU seconds of a block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    into.append(Cost(name=name, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu))


def in_memory(requests: int) -> list[Cost]:
    """Time summary, verdict and audit; importing scipy belongs to judging."""
    generator, costs = np.random.default_rng(0), list[Cost]()
    parts = [a_round(number, requests // ROUNDS, generator) for number in range(ROUNDS)]
    with timed("all three", costs):
        with timed("summarised", costs):
            chain = [
                observe_columns(one, number=i, kind=Kind.WARM if i % 2 else Kind.COLD, segment=0, position=i)
                for i, one in enumerate(parts)
            ]
            cold, warm = (summarise_columns(pooled(parts[start::2])) for start in (0, 1))
        with timed("judged", costs):
            judge_observed(TARGETS, chain, looks=(3, 4, 5, 6, 8, 10), trials=10, quick=False)
        with timed("audited", costs):
            audit(Figures(cold=round_figures(cold), warm=round_figures(warm), concurrency=64))
    return costs


def write_record(directory: Path, requests: int, chunks: int) -> None:
    """A record of `ROUNDS` rounds, each request of `chunks` chunks; its lines are the journal's own."""
    events, places = seed_of(RUN, EVENTS_FILE), iter(range(1, requests + 1))
    with (directory / EVENTS_FILE).open("ab") as file:
        file.write(line_of(orjson.dumps({"event": "journal", "run": RUN}), 1, events))
    for number in range(ROUNDS):
        kind = Kind.WARM if number % 2 else Kind.COLD
        measured = Round(
            round=number, kind=kind, phase=Phase.CHAIN, segment=0, position=number, nonce="", started_ns=0,
            ended_ns=1, requests=(),
        )  # fmt: skip
        with (directory / EVENTS_FILE).open("ab") as file:
            event = {"event": "round", **asdict(measured), "requests": requests // ROUNDS}
            file.write(line_of(orjson.dumps(event), number + 2, events))
        with (directory / REQUESTS_FILE).open("ab", buffering=1 << 20) as file:
            file.writelines(_lines(number, kind, requests // ROUNDS, chunks, places))


def _lines(number: int, kind: Kind, requests: int, chunks: int, places: Iterator[int]) -> Iterator[bytes]:
    generator, seed = np.random.default_rng(number), seed_of(RUN, REQUESTS_FILE)
    first = (generator.lognormal(np.log(360e6 if kind is Kind.WARM else 1200e6), 0.1, requests)).astype(np.int64)
    gap = 127 * 15_000_000 // chunks
    for index in range(requests):
        sent_ns = index * 1_000_000
        first_ns = sent_ns + int(first[index])
        record = _record(number, kind, index, sent_ns, range(first_ns, first_ns + chunks * gap, gap))
        yield line_of(orjson.dumps(record), next(places), seed)


def _record(number: int, kind: Kind, index: int, sent_ns: int, chunk_ns: Sequence[int]) -> RequestRecord:
    last_ns = chunk_ns[-1]
    tokens = [128 // len(chunk_ns)] * len(chunk_ns)
    return RequestRecord(
        round=number, kind=kind, phase=Phase.CHAIN, index=index, request_id=f"{number}-{index:08}",
        prompt_tokens_planned=16384, output_tokens_planned=128, intended_ns=sent_ns, ready_ns=sent_ns, sent_ns=sent_ns,
        first_byte_ns=chunk_ns[0], first_token_ns=chunk_ns[0], last_token_ns=last_ns, done_ns=last_ns,
        prompt_tokens=16384, output_tokens=sum(tokens), cached_tokens=0, chunk_ns=tuple(chunk_ns),
        chunk_tokens=tuple(tokens), finish_reason="length", output_sha256="0" * 64, http_status=200,
    )  # fmt: skip


def from_record(directory: Path) -> dict[str, float]:
    """Read and judge a record; run in a process of its own, so that its peak of memory is its own."""
    costs: list[Cost] = []
    with timed("read", costs):
        chain = observed(directory)
    with timed("judged", costs):
        judge_observed(TARGETS, chain, looks=(3, 4, 5, 6, 8, 10), trials=10, quick=False)
    seconds = {cost.name: cost.wall_s for cost in costs}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {**seconds, "read_cpu": costs[0].cpu_s, "peak_mb": peak_mb}


def measured_from_disk(requests: int, chunks: int) -> dict[str, float]:
    """Write a record, read it in a process of its own, and remove it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_record(directory, requests, chunks)
        size_mb = (directory / REQUESTS_FILE).stat().st_size / 1e6
        command = [sys.executable, "-m", "benchmarks.verdicts.scale", "--read", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return {"record_mb": size_mb, **json.loads(done.stdout)}


def main() -> None:
    """Print a table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, default=16, help="chunks a request")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        sys.stdout.write(json.dumps(from_record(options.read)))
        return
    lines = [f"# {options.requests:,} requests", "", "| from columns in memory | wall, s | CPU, s |", "|---|---|---|"]
    lines += [f"| {cost.name} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} |" for cost in in_memory(options.requests)]
    disk = measured_from_disk(options.requests, options.chunks)
    lines += [
        "",
        f"From a record of {disk['record_mb']:.0f} MB ({options.chunks} chunks a request, {ROUNDS} rounds): read and "
        f"summarised in {disk['read']:.1f} s ({disk['read_cpu']:.1f} s CPU), judged in {disk['judged']:.2f} s, "
        f"at most {disk['peak_mb']:.0f} MB held.",
        "",
    ]
    if options.out:
        options.out.write_text("\n".join(lines), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
