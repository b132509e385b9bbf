"""How often the regression alarm errs and what it catches, on simulated histories, as a table.

    python -m benchmarks.regression [--runs N] [--out DIR]

Five gating metrics, all of them noisy (a real hit share hardly is, which makes it better). Ends with 1 when a promise
of `docs/explanation/regressions.md` is broken.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.regression.simulate import (
    NOISES,
    alarm_rate,
    alarms_over_releases,
    caught_rate,
    confirm_rate,
    normal,
)
from pytest_mooncake.analysis.regression.alarm import ALPHA, ANCHORED_PART
from pytest_mooncake.analysis.statistics.prediction import Noise, smallest_caught

METRICS = 5
SIGMAS = (0.01, 0.02, 0.03, 0.05, 0.10)
RELEASES = 40


def share(value: float) -> str:
    """A share for the tables."""
    return f"{value * 100:.1f} %"


def noise_table(runs: int) -> Iterator[str]:
    """False alarms and catches at 20 past runs under every noise."""
    yield "| noise from run to run | false alarms a release, σ 2 % | σ 5 % | +10 % caught, σ 2 % | σ 5 % |"
    yield "|---|---|---|---|---|"
    for name, noise in NOISES.items():
        false = [alarm_rate(noise, runs=runs, past=20, metrics=METRICS, sigma=s) for s in (0.02, 0.05)]
        caught = [caught_rate(noise, runs=runs, past=20, metrics=METRICS, sigma=s) for s in (0.02, 0.05)]
        yield f"| {name} | {' | '.join(map(share, (*false, *caught)))} |"


def history_table(runs: int) -> Iterator[str]:
    """The same over lengths of history and noise, with the smallest slowdown caught in 95 %."""
    yield "| past runs | σ | false alarms a release | +5 % caught | +10 % caught | caught in 95 % |"
    yield "|---|---|---|---|---|---|"
    for past in (10, 15, 20, 30):
        for sigma in SIGMAS:
            found = (
                alarm_rate(normal, runs=runs, past=past, metrics=METRICS, sigma=sigma),
                caught_rate(normal, runs=runs, past=past, metrics=METRICS, sigma=sigma, slower=1.05),
                caught_rate(normal, runs=runs, past=past, metrics=METRICS, sigma=sigma),
            )
            noise = Noise(deviation=sigma, df=past - 1)
            least = smallest_caught(noise, past, level=ALPHA / METRICS, least=math.log1p(0.05))
            shown = "none" if least is None else f"+{100 * math.expm1(least):.1f} %"
            yield f"| {past} | {share(sigma)} | {' | '.join(map(share, found))} | {shown} |"


def release_table(runs: int) -> Iterator[str]:
    """Alarms over 40 releases without a change, with and without confirmation."""
    confirm = confirm_rate(20 * runs)
    caught = [share(confirm_rate(runs, slower=1.10, sigma=sigma)) for sigma in (0.02, 0.05)]
    yield f"An interleaved chain confirms an alarm without a change in {share(confirm)} of cases, and +10 % in"
    yield f"{caught[0]} (σ of a round 2 %) and {caught[1]} (5 %)."
    yield ""
    yield f"| σ from run to run | any alarm in {RELEASES} releases | any confirmed alarm |"
    yield "|---|---|---|"
    for sigma in (0.02, 0.03, 0.05, 0.10):
        ever, confirmed = alarms_over_releases(
            normal, runs=runs, past=20, releases=RELEASES, metrics=METRICS, sigma=sigma, confirm=confirm
        )
        yield f"| {share(sigma)} | {share(ever)} | {share(confirmed)} |"


def promises(runs: int) -> dict[str, bool]:
    """What is promised, and whether it holds within three standard errors of the simulation."""
    error = 3 * math.sqrt(0.05 * 0.95 / runs)
    confirm = confirm_rate(20 * runs)
    false = max(alarm_rate(normal, runs=runs, past=20, metrics=METRICS, sigma=s) for s in SIGMAS)
    caught = caught_rate(normal, runs=runs, past=20, metrics=METRICS, sigma=0.02, alpha=ALPHA - ANCHORED_PART)
    _, confirmed = alarms_over_releases(
        normal, runs=runs, past=20, releases=RELEASES, metrics=METRICS, sigma=0.10, confirm=confirm
    )
    return {
        "at most 5 % false alarms a release over all metrics": false <= 0.05 + error,
        "a 10 % slowdown caught in 95 % at σ 2 %, 20 past runs, 5 metrics, with an anchor beside": caught
        >= 0.95 - error,
        "confirmed alarms in at most 10 % of 40 releases without a change": confirmed <= 0.10 + error,
    }


def main() -> int:
    """Write `regression.md`; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/regression/results"))
    options = parser.parse_args()
    lines = ["# Operating characteristics of the regression alarm", ""]
    lines += [f"{options.runs} histories a cell, {METRICS} metrics; error of a share near 5 %: "]
    lines[-1] += f"±{100 * math.sqrt(0.05 * 0.95 / options.runs):.2f} points (σ)."
    for title, table in (
        ("Noise", noise_table(options.runs)),
        ("History", history_table(options.runs)),
        ("Forty releases", release_table(max(1000, options.runs // 4))),
    ):
        lines += ["", f"## {title}", "", *table]
    kept = promises(options.runs)
    lines += ["", "## Promises", "", *(f"- {'kept' if held else 'BROKEN'}: {what}" for what, held in kept.items())]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "regression.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines[-len(kept) :]))
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
