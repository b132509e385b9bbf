"""What a client costs and how wrong it is: `python -m benchmarks.client [--quick]`.

Every client does the same closed loop against the same server (`server.c`), which stamps just before each write and
tells what it did once the run is over; errors are client minus truth. The whole of it, peers included, takes about a
quarter of an hour a repetition and leaves `results/clients.md`, with the goals, met and missed, at its end; `--quick`
takes seconds, knows no peers, and ends with code 1 when our error is not within bounds of the C floor's own. Figures of
one table belong together; between machines only ratios do.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.client.contestants import CONTESTANTS, Contestant
from benchmarks.client.entrants import entrants
from benchmarks.client.floor import MISSING, floor
from benchmarks.client.goals import alone_goals, goals, table_of_goals
from benchmarks.client.in_process import excess, fastest, repeated, table
from benchmarks.client.own_costs import PROMPT_TOKENS, bytes_per_stream, import_s, prompt_us
from benchmarks.client.side_by_side import FLOOD, Figures, compare_all
from benchmarks.client.side_by_side import table as table_of_processes
from benchmarks.client.truth import Load

RESULTS = Path(__file__).with_name("results") / "clients.md"
QUICK = Load(streams=16, tokens=32, gap_ms=10.0)
LOADS = (Load(streams=64, tokens=128, gap_ms=20.0, waves=4), Load(streams=256, tokens=128, gap_ms=20.0))
FAST = Load(streams=256, tokens=256, gap_ms=10.0)
FAST_REPEATS = 5
HELD = Load(streams=128, tokens=128, gap_ms=10.0)


def quick(least: Contestant | None) -> int:
    """One small load and the check of our error against the floor's; the exit code."""
    contestants = CONTESTANTS if least is None else (least, *CONTESTANTS)
    runs = repeated(QUICK, 3, contestants)
    print(table(QUICK, runs, tablefmt="simple"))
    if least is None:
        print(MISSING)
        return 0
    said = excess(runs[CONTESTANTS[0].name], runs[least.name])
    print("\n".join(said) or "our error is within bounds of the floor's")
    return int(bool(said))


def machine() -> str:
    """Where and when figures were taken."""
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    loads = "/".join(f"{load:.1f}" for load in os.getloadavg())
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{os.cpu_count()} × {next(names, 'CPU')}, Python {platform.python_version()}, {day}, load average {loads}"


def full(least: Contestant | None, *, peers: bool, loads: tuple[Load, ...], repeats: int) -> Iterator[str]:
    """Every table, as Markdown."""
    yield f"Before: {machine()}\n"
    everybody = tuple(entrants(peers=peers))
    tables: dict[int, dict[str, Figures | str]] = {}
    for load in loads:
        flood = FLOOD if load is loads[-1] else None
        tables[load.streams] = compare_all(everybody, load, flood=flood, repeats=repeats)
        yield table_of_processes(load, tables[load.streams])
    contestants = CONTESTANTS if least is None else (least, *CONTESTANTS)
    runs = repeated(FAST, FAST_REPEATS, contestants)
    yield table(FAST, runs)
    yield fastest(runs[CONTESTANTS[0].name], runs[least.name] if least else None) + "\n"
    costs = prompt_us(), import_s()
    yield from own_costs(*costs)
    yield table_of_goals([*goals(tables), *alone_goals(runs[CONTESTANTS[0].name], *costs)])
    yield f"After: {machine()}\n"


def own_costs(prompt: float, start: float) -> Iterator[str]:
    """What ours costs beside its chunks: µs of a long prompt, seconds of a start, bytes of a stream."""
    yield f"A {PROMPT_TOKENS:,}-token prompt, encoded and sent: {prompt:.0f} µs of CPU\n"
    yield f"Start-up with imports: {start:.2f} s\n"
    yield f"Held per open stream of {HELD.tokens} tokens: {bytes_per_stream(HELD) / 1024:.0f} KiB\n"


def main() -> int:
    """Print the tables, and write them down unless it is a quick run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small load, no peers: seconds, and a check")
    parser.add_argument("--no-peers", action="store_true", help="ours, aiohttp and the floor only")
    parser.add_argument("--repeats", type=int, default=1, help="how often; medians are told")
    parser.add_argument("--streams", type=int, nargs="*", help="only the loads of so many streams")
    options = parser.parse_args()
    with floor() as least:
        if options.quick:
            return quick(least)
        chosen = tuple(load for load in LOADS if not options.streams or load.streams in options.streams)
        blocks = []
        for block in full(least, peers=not options.no_peers, loads=chosen, repeats=options.repeats):
            print(block, flush=True)
            blocks.append(block)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(("# Clients side by side\n", *blocks)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
