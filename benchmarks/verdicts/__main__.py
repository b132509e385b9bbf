"""Operating characteristics of the verdicts, as a table and a figure.

    python -m benchmarks.verdicts [--runs N] [--out DIR]

False PASS: the true ratio lies exactly on the target. Power: the true cut is 65 or 67 %.
σ is 0.08 a round, under stalls 0.04.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

from benchmarks.verdicts.figure import svg
from benchmarks.verdicts.noises import NOISES, STALL_SIGMA, normal
from benchmarks.verdicts.operate import operate
from benchmarks.verdicts.rivals import RIVALS, acceptance
from pytest_mooncake.analysis.statistics.levels import TABLE, nominal_level, simulated_level
from pytest_mooncake.analysis.statistics.power import Assumed, Design, simulate
from pytest_mooncake.plan.targets.grammar import Direction

DEFAULT = (3, 4, 5, 6, 8, 10)
SIGMA = 0.08
TARGET = 0.40


def design(looks: tuple[int, ...] = DEFAULT) -> Design:
    """The design of a look set at its stored level."""
    return Design(looks=looks, level=nominal_level(looks))


def share(value: float) -> str:
    """A share for the tables."""
    return f"{value * 100:.1f} %"


def noise_table(runs: int) -> Iterator[str]:
    """False PASS and FAIL, power and mean trials under every noise."""
    yield "| noise of the rounds | false PASS | false FAIL | power at −65 % | at −67 % | mean trials at −67 % |"
    yield "|---|---|---|---|---|---|"
    for name, noise in NOISES.items():
        sigma = STALL_SIGMA if name.startswith("stalls") else SIGMA
        on = operate(design(), noise, shift=0.0, sigma=sigma, runs=runs)
        low, high = (
            operate(design(), noise, shift=math.log(TARGET / ratio), sigma=sigma, runs=runs // 4)
            for ratio in (0.35, 0.33)
        )
        figures = (share(on.passes), share(on.fails), share(low.passes), share(high.passes), f"{high.mean_trials:.1f}")
        yield f"| {name} | {' | '.join(figures)} |"


def look_table(runs: int) -> Iterator[str]:
    """Every look set offered: stored level, level simulated anew, worst false PASS, power, mean trials."""
    yield "| looks | level | again | worst false PASS over σ_w/σ_c | power at −67 % | mean trials |"
    yield "|---|---|---|---|---|---|"
    ratios = {name: noise for name, noise in NOISES.items() if name.startswith("normal")}
    for looks, level in TABLE.items():
        again = simulated_level(looks, runs=runs, seed=1)
        worst = max(operate(design(looks), n, shift=0, sigma=1, runs=runs).passes for n in ratios.values())
        power = operate(design(looks), normal, shift=math.log(TARGET / 0.33), sigma=SIGMA, runs=runs // 4)
        names = ", ".join(map(str, looks))
        rest = f"{share(worst)} | {share(power.passes)} | {power.mean_trials:.1f}"
        yield f"| {names} | {level:.4f} | {again:.4f} | {rest} |"


def joint_table(runs: int) -> Iterator[str]:
    """The three claims of the default targets together, with the reference's effects."""
    yield "| σ of all three | true TPOT ratio 0.967 | 1.00 | 1.03 |"
    yield "|---|---|---|---|"
    for sigma in (0.02, 0.04, 0.06, 0.08):
        cells = []
        for tpot in (0.967, 1.0, 1.03):
            outcome = simulate(design(), _claims(sigma, tpot), runs=runs)
            cells.append(f"{share(outcome.passes)}, {outcome.mean_trials:.1f} trials ({outcome.binding} binds)")
        yield f"| {sigma} | {' | '.join(cells)} |"


def _claims(sigma: float, tpot: float) -> list[Assumed]:
    effects: tuple[tuple[str, float, float, Direction], ...] = (
        ("ttft_mean", 1 / 3, TARGET, "lower"),
        ("request_throughput", 2.96, 2.5, "higher"),
        ("tpot_mean", tpot, 1.10, "lower"),
    )
    return [
        Assumed(id=name, ratio=ratio, target_ratio=target, direction=direction, sigma_w=sigma, sigma_c=sigma)
        for name, ratio, target, direction in effects
    ]


def rival_table(runs: int) -> Iterator[str]:
    """False acceptance on the target by what is done today, with and without drift between the two rounds."""
    yield "| rule | false PASS, σ 0.04 | with 5 % drift | with 10 % drift | power at −65 % |"
    yield "|---|---|---|---|---|"
    for name, rule in RIVALS.items():
        cells = [acceptance(rule, TARGET, sigma_round=0.04, runs=runs, drift=drift) for drift in (0, 0.05, 0.1)]
        cells.append(acceptance(rule, 0.35, sigma_round=0.04, runs=runs))
        yield f"| {name} | {' | '.join(map(share, cells))} |"
    ours = operate(design(), normal, shift=0, sigma=0.04, runs=runs).passes
    gain = operate(design(), normal, shift=math.log(TARGET / 0.35), sigma=0.04, runs=runs).passes
    yield f"| this design | {share(ours)} | {share(ours)} | {share(ours)} | {share(gain)} |"


def power_curves(runs: int) -> dict[str, list[tuple[float, float]]]:
    """Share of PASS over the true cut of TTFT in %, a curve a σ."""
    cuts = [57 + 0.5 * i for i in range(33)]
    return {
        f"σ = {sigma}": [
            (cut, operate(design(), normal, shift=math.log(TARGET / (1 - cut / 100)), sigma=sigma, runs=runs).passes)
            for cut in cuts
        ]
        for sigma in (0.02, 0.04, 0.08, 0.16)
    }


def main() -> None:
    """Write `verdicts.md` and `power.svg`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/verdicts/results"))
    options = parser.parse_args()
    error = 100 * math.sqrt(0.05 * 0.95 / options.runs)
    sections = (
        ("Noise", noise_table(options.runs)),
        ("Look sets", look_table(options.runs)),
        ("Three claims jointly", joint_table(max(2_000, options.runs // 10))),
        ("What is done today", rival_table(max(500, options.runs // 50))),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [
        f"# Operating characteristics of the verdicts\n\n{options.runs} runs a cell, error ±{error:.2f} points (σ)."
    ]
    for title, table in sections:
        lines += ["", f"## {title}", "", *table]
    (options.out / "verdicts.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    figure = svg(power_curves(options.runs // 20), title="Share of PASS, target −60 %", x_title="true cut of TTFT in %")
    (options.out / "power.svg").write_text(figure, encoding="utf-8")


if __name__ == "__main__":
    main()
