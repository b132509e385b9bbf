"""Everybody as a process of its own against the same server: cost, error, highest rate, start, memory.

CPU of a chunk: that of the whole process tree in a run of many chunks less that in a run of two chunks a request, with
the same requests, divided by the difference in chunks. So start-up, set-up and the cost of a request cancel, for
everybody alike, and what remains is the cost of a chunk. Errors are of the run of many chunks: what a client exports of
a request less what the server did, by the client's own definition of TTFT.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

from benchmarks.client.accounted import Account, account
from benchmarks.client.contestants import Job
from benchmarks.client.entrants import Absent, Entrant
from benchmarks.client.peers import Told
from benchmarks.client.truth import Load, Server, compiled, each, serving
from pytest_mooncake.load.health import rank_percentile

__all__ = ["HEADERS", "Figures", "compare_all", "errors_of", "median_of", "reached_per_s", "table"]

LIMIT_S = 300.0
FEW_TOKENS = 2
FLOOD = Load(streams=256, tokens=128, gap_ms=1.0, waves=4)
"""More chunks a second than anybody reads."""
HEADERS = (
    "client", "CPU µs/chunk", "send delay ms", "TTFT bias ms", "TTFT P99 ms", "ITL bias ms", "ITL P99 ms",
    "most chunks/s", "first request s", "import s", "memory MB",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A row of the table; `None` for what the client does not export. Memory and start-up of the whole tree."""

    cpu_us_per_chunk: float | None = None
    send_delay_ms: float | None = None
    ttft_bias_ms: float | None = None
    ttft_error_p99_ms: float | None = None
    itl_bias_ms: float | None = None
    itl_error_p99_ms: float | None = None
    chunks_per_s: float | None = None
    start_s: float | None = None
    import_s: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One client against one server."""

    account: Account
    server: Server
    told: tuple[Told, ...]

    @property
    def chunks(self) -> int:
        """Chunks that the server wrote, warm-ups included."""
        return sum(len(stamps) - 1 for stamps in each(self.server.truth))


class ClientFailed(Exception):
    """A client ended badly; the message is its last line."""


def run_once(entrant: Entrant, load: Load) -> Run:
    """Run one client against a fresh server.

    Raises:
        ClientFailed: it ended with an error or left nothing that could be read.
    """
    with TemporaryDirectory(prefix="mooncake-client-") as place:
        directory = Path(place)
        with serving(load, compiled("server")) as server:
            job = Job(url=server.url, streams=load.streams, requests=load.requests, tokens=load.tokens)
            environment = {**os.environ, **dict(entrant.environment)}
            done = account(entrant.command(job, directory), directory, limit_s=LIMIT_S, environment=environment)
        if done.code:
            last = (directory / "output.txt").read_text(errors="replace").strip().splitlines()[-1:]
            raise ClientFailed(f"ended with code {done.code}: {''.join(last)[:120]}")
        try:
            told = tuple(entrant.read(directory))
        except (OSError, ValueError, KeyError, StopIteration, RuntimeError) as error:
            raise ClientFailed(f"left nothing to read: {error!r:.120}") from None
    return Run(account=done, server=server, told=told)


def errors_of(told: Iterable[Told], truth: Mapping[str, Sequence[int]]) -> tuple[list[float], list[float]]:
    """Client minus truth in ms: TTFT of every request known to the server, and gaps where all chunks were told."""
    ttft: list[float] = []
    gaps: list[float] = []
    for one in told:
        arrived, *written = truth.get(one.key) or (0,)
        if not written:
            continue
        ttft.append(one.ttft_ms - (written[0] - arrived) / 1e6)
        true = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(written)]
        if len(true) == len(one.gaps_ms):
            gaps += [seen - gap for seen, gap in zip(one.gaps_ms, true, strict=True)]
    return ttft, gaps


def reached_per_s(load: Load, arrivals_ns: Sequence[int]) -> float | None:
    """Chunks a second that a closed loop took: before a request of the last wave is sent, an earlier one was read."""
    measured = arrivals_ns[-load.requests :]
    if len(measured) < load.requests:
        return None
    return (load.requests - load.streams) * load.tokens / ((measured[-1] - measured[0]) / 1e9)


def send_delay_ms(load: Load, truth: Mapping[str, Sequence[int]]) -> float | None:
    """From the last write of a response to the arrival of the request that takes its place, mean, as the server saw it.

    The nth request after the first wave takes the place of the nth response that ended; warm-ups do not count.
    """
    stamps = each(truth)[-load.requests :]
    later = [arrived for arrived, *_ in stamps[load.streams :]]
    if len(stamps) < load.requests or not later:
        return None
    ends = sorted(one[-1] for one in stamps)
    return sum(arrived - ended for arrived, ended in zip(later, ends, strict=False)) / len(later) / 1e6


def measure_process(entrant: Entrant, load: Load, *, flood: Load | None = FLOOD) -> Figures:
    """All figures of one client; three runs.

    Raises:
        ClientFailed: as `run_once`.
    """
    few = run_once(entrant, Load(streams=load.streams, tokens=FEW_TOKENS, gap_ms=load.gap_ms, waves=load.waves))
    many = run_once(entrant, load)
    ttft, gaps = errors_of(many.told, many.server.truth)
    if not ttft:
        raise ClientFailed("none of the requests it tells of is known to the server")
    flooded = run_once(entrant, flood) if flood else None
    return Figures(
        cpu_us_per_chunk=(many.account.cpu_s - few.account.cpu_s) * 1e6 / (many.chunks - few.chunks),
        send_delay_ms=send_delay_ms(load, many.server.truth),
        ttft_bias_ms=sum(ttft) / len(ttft),
        ttft_error_p99_ms=rank_percentile(map(abs, ttft), 0.99),
        itl_bias_ms=sum(gaps) / len(gaps) if gaps else None,
        itl_error_p99_ms=rank_percentile(map(abs, gaps), 0.99),
        chunks_per_s=reached_per_s(flood, flooded.server.arrivals_ns) if flood and flooded else None,
        start_s=min((run.server.arrivals_ns[0] - run.account.started_ns) / 1e9 for run in (few, many)),
        import_s=_import_s(entrant),
        memory_mb=many.account.peak_bytes / 1e6 or None,
    )


def _import_s(entrant: Entrant) -> float | None:
    if entrant.importing is None:
        return None
    took = []
    for _ in range(2):
        before = time.perf_counter()
        subprocess.run(entrant.importing, check=False, capture_output=True, timeout=LIMIT_S)
        took.append(time.perf_counter() - before)
    return min(took)


def compare_all(
    everybody: Sequence[Entrant | Absent], load: Load, *, flood: Load | None, repeats: int = 1
) -> dict[str, Figures | str]:
    """Every client in turn under one load, medians over repetitions; who fails has its reason in place of figures."""
    runs: dict[str, list[Figures | str]] = {one.name: [] for one in everybody}
    for turn in range(repeats):
        for one in everybody:
            print(f"  {turn + 1}/{repeats} {one.name} …", file=sys.stderr, flush=True)
            runs[one.name].append(_tried(one, load, flood))
    return {name: median_of(found) for name, found in runs.items()}


def _tried(one: Entrant | Absent, load: Load, flood: Load | None) -> Figures | str:
    if isinstance(one, Absent):
        return one.reason
    try:
        return measure_process(one, load, flood=flood)
    except ClientFailed as failure:
        return str(failure)


def median_of(found: Sequence[Figures | str]) -> Figures | str:
    """Median figure by figure over the runs that came to figures; the first reason where none did."""
    measured = [one for one in found if isinstance(one, Figures)]
    if not measured:
        return next(one for one in found if isinstance(one, str))
    columns = {field.name: [getattr(one, field.name) for one in measured] for field in fields(Figures)}
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return Figures(**{name: statistics.median(values) for name, values in known.items() if values})


def table(load: Load, found: dict[str, Figures | str]) -> str:
    """A Markdown table of one load."""
    rows = [[name, *_cells(figures)] for name, figures in found.items()]
    body = tabulate(rows, HEADERS, tablefmt="github", colalign=("left", *("right",) * (len(HEADERS) - 1)))
    return f"**{load.title}**\n\n{body}\n"


def _cells(figures: Figures | str) -> list[str]:
    if isinstance(figures, str):
        return [figures, *("",) * (len(HEADERS) - 2)]
    return [
        _number(figures.cpu_us_per_chunk, 1),
        _number(figures.send_delay_ms, 1),
        _number(figures.ttft_bias_ms, 2),
        _number(figures.ttft_error_p99_ms, 2),
        _number(figures.itl_bias_ms, 3),
        _number(figures.itl_error_p99_ms, 2),
        _number(figures.chunks_per_s, 0),
        _number(figures.start_s, 2),
        _number(figures.import_s, 2),
        _number(figures.memory_mb, 0),
    ]


def _number(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:,.{places}f}"
