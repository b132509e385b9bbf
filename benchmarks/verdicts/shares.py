"""Percentiles, stalls, thresholds, reruns and continued runs, before and after, as tables.

    python -m benchmarks.verdicts.shares [--runs N] [--out FILE]

Percentiles with many requests get fewer runs; every table says how far it errs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.verdicts.noises import NOISES
from benchmarks.verdicts.operate import operate
from benchmarks.verdicts.requests import (
    LOOKS,
    STALLS,
    Sampled,
    percentile_after,
    percentile_before,
    stalls_pass,
    thresholds_kept,
)
from pytest_mooncake.analysis.statistics.levels import (
    CONTINUED,
    RATIOS,
    RESERVED,
    nominal_level,
    planned_levels,
    smallest_p_of,
)
from pytest_mooncake.analysis.statistics.power import Design
from pytest_mooncake.plan.targets.sample_sizes import stall_level

RHOS = (0.0, 0.02, 0.1, 0.3, 0.5)
SIZES = ((0.5, (30, 100)), (0.9, (30, 100, 300, 1000)), (0.99, (100, 300, 1000)))


def share(value: float) -> str:
    """A share for the tables."""
    return f"{value * 100:.1f} %"


def runs_of(requests: int, runs: int) -> int:
    """Fewer runs of many requests."""
    return max(1_000, min(runs, runs * 100 // requests))


def edge_table(runs: int) -> Iterator[str]:
    """False PASS of percentile bounds on the edge."""
    after = " | ".join(f"after, ρ = {rho:g}" for rho in RHOS)
    yield f"| percentile, requests a round | before, ρ = 0 | {after} | error σ |"
    yield f"|---|---|{'---|' * (len(RHOS) + 1)}"
    for quantile, sizes in SIZES:
        for requests in sizes:
            count = runs_of(requests, runs)
            cells = [percentile_before(Sampled(quantile=quantile, requests=requests, rho=0.0), count)]
            cells += [percentile_after(Sampled(quantile=quantile, requests=requests, rho=rho), count) for rho in RHOS]
            error = math.sqrt(0.04 * 0.96 / count)
            yield f"| P{quantile * 100:g}, {requests} | {' | '.join(map(share, cells))} | ±{error * 100:.1f} |"


def other_looks_table(runs: int) -> Iterator[str]:
    """The same at other look sets, the worst of ρ."""
    yield f"| looks | {' | '.join(f'P{q * 100:g}, {n}' for q, n in OTHERS)} |"
    yield f"|---|{'---|' * len(OTHERS)}"
    for looks in ((3,), (5,), (10,), (5, 10), (3, 5, 10), (2, 3, 4, 5, 6, 8, 10)):
        cells = [
            max(
                percentile_after(Sampled(quantile=q, requests=n, rho=rho, looks=looks), runs_of(n, runs))
                for rho in (0.0, 0.1, 0.3, 0.5)
            )
            for q, n in OTHERS
        ]
        yield f"| {', '.join(map(str, looks))} | {' | '.join(map(share, cells))} |"


OTHERS = ((0.9, 30), (0.9, 300), (0.99, 300))


def power_table(runs: int) -> Iterator[str]:
    """Power: the true percentile lies below its bound."""
    factors = (1.1, 1.2, 1.3, 1.5)
    yield f"| percentile, requests a round, ρ | {' | '.join(f'bound {one:g}× the truth' for one in factors)} |"
    yield f"|---|{'---|' * len(factors)}"
    for quantile, requests in ((0.9, 30), (0.9, 100), (0.99, 100), (0.99, 300)):
        for rho in (0.0, 0.1):
            cells = [
                percentile_after(
                    Sampled(quantile=quantile, requests=requests, rho=rho, below=1 / one), runs_of(requests, runs // 4)
                )
                for one in factors
            ]
            yield f"| P{quantile * 100:g}, {requests}, {rho:g} | {' | '.join(map(share, cells))} |"


def stall_table(runs: int) -> Iterator[str]:
    """False PASS of a rate of stalls that lies on its bound, and power of a run long enough for it."""
    yield "| stalls strike | before | after | after, one look at 59 trials | the same without any stall |"
    yield "|---|---|---|---|---|"
    for one in STALLS:
        cells = [stalls_pass(one, LOOKS, runs, after=after) for after in (False, True)]
        cells += [stalls_pass(one, (59,), runs, after=True, below=below) for below in (1.0, 0.0)]
        yield f"| {one.name} | {' | '.join(map(share, cells))} |"
    least = 1 - stall_level(LOOKS, 0.05) ** (1 / LOOKS[-1])
    yield ""
    yield f"Ten rounds without a stall bound its rate at {share(least)}, 59 in one look at 5 %."


def threshold_table(runs: int) -> Iterator[str]:
    """How often a figure on its threshold is kept."""
    yield "| figure, requests a round | kept at one look (10) | kept at all of 3, 4, 5, 6, 8, 10 |"
    yield "|---|---|---|"
    for name, quantile, requests in (("mean", None, 30), ("mean", None, 100), ("P90", 0.9, 30), ("P99", 0.99, 100)):
        cells = [thresholds_kept(requests, looks, runs, quantile=quantile) for looks in ((10,), LOOKS)]
        yield f"| {name}, {requests} | {' | '.join(map(share, cells))} |"


def rerun_table(runs: int) -> Iterator[str]:
    """A run on its target that is started again while it is undecided, until it passes."""
    yield "| noise of the rounds | one run | 1 rerun | 2 reruns | 3 reruns | continued instead, as planned |"
    yield "|---|---|---|---|---|---|"
    for name in ("normal, σ_w/σ_c = 1", "normal, σ_w/σ_c = 2", "normal, σ_w/σ_c = 4", "normal, σ_w/σ_c = 10"):
        seen = operate(Design(looks=LOOKS, level=nominal_level(LOOKS)), NOISES[name], shift=0, sigma=1, runs=runs)
        undecided = 1 - seen.passes - seen.fails
        chances = [seen.passes * sum(undecided**past for past in range(tries)) for tries in (1, 2, 3, 4)]
        chances.append(continued(float(name.rpartition(" ")[2]), runs)[1])
        yield f"| {name} | {' | '.join(map(share, chances))} |"


def continued(ratio: float, runs: int) -> tuple[float, float]:
    """False PASS of a planned run at its own looks, and with its continuation; each tail counts as a run."""
    own, later = RESERVED[LOOKS]
    noise = np.random.default_rng(5).standard_normal((runs, 2 * CONTINUED[-1] + 1))
    (first,), (then,) = (smallest_p_of(noise, looks, (ratio,)) for looks in (LOOKS, CONTINUED))
    return float((first <= own).mean()), float(((first <= own) | (then <= later)).mean())


def continuation_table(runs: int) -> Iterator[str]:
    """Rejection of the true target at the planned levels, a ratio of noises a row; a miss counts as none."""
    levels = planned_levels(LOOKS) or {}
    yield f"Levels: {', '.join(f'{look}: {level:.4f}' for look, level in levels.items())}."
    yield ""
    yield "| σ_w/σ_c | looks 3 to 10 at 0.0122 | at 0.0100 | and 12, 15, 20 at 0.0062 |"
    yield "|---|---|---|---|"
    for ratio in (0.1, 0.5, 1.0, 2.0, *RATIOS, 100.0):
        noise = np.random.default_rng(5).standard_normal((runs, 2 * LOOKS[-1] + 1))
        (spent,) = smallest_p_of(noise, LOOKS, (ratio,))
        cells = (float((spent <= nominal_level(LOOKS)).mean()), *continued(ratio, runs))
        yield f"| {ratio:g} | {' | '.join(f'{one * 100:.2f} %' for one in cells)} |"


def planned_power_table(runs: int) -> Iterator[str]:
    """What the reserved looks cost the run itself, and what they bring."""
    yield "| σ, true ratio for a target of 0.40 | level 0.0122 | level 0.0100 | looks to 20 at 0.0089, for comparison |"
    yield "|---|---|---|---|"
    longer = (*LOOKS, *CONTINUED)
    for sigma, ratio in ((0.08, 0.36), (0.08, 0.35), (0.08, 0.34), (0.16, 0.33)):
        designs = (
            Design(looks=LOOKS, level=nominal_level(LOOKS)),
            Design(looks=LOOKS, level=RESERVED[LOOKS][0]),
            Design(looks=longer, level=nominal_level(longer)),
        )
        noise, shift = NOISES["normal, σ_w/σ_c = 1"], math.log(0.40 / ratio)
        cells = [operate(one, noise, shift=shift, sigma=sigma, runs=runs).passes for one in designs]
        yield f"| {sigma}, {ratio} | {' | '.join(map(share, cells))} |"


def main() -> None:
    """Write `shares.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/verdicts/results/shares.md"))
    options = parser.parse_args()
    many = 10 * options.runs
    sections = (
        ("Percentile bounds on the edge: false PASS (lognormal s = 0.3)", edge_table(options.runs)),
        ("Other look sets, after, the worst of ρ = 0, 0.1, 0.3, 0.5", other_looks_table(options.runs // 2)),
        ("Percentile bounds: power", power_table(options.runs)),
        ("Rate of stalls on its bound: false PASS", stall_table(options.runs)),
        ("Thresholds on their edge", threshold_table(options.runs // 4)),
        ("Reruns: PASS on the target", rerun_table(many)),
        ("A run and its planned continuation: false PASS", continuation_table(many)),
        ("What reserving costs: PASS of the run itself", planned_power_table(options.runs)),
    )
    lines = [
        f"# Shares of requests, reruns and continued runs\n\n{options.runs} runs a cell; reruns and levels {many}."
    ]
    for title, table in sections:
        lines += ["", f"## {title}", "", *table]
    options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
