"""An engine in small: continuous batching, step by step. Its tables are consistent because it lived through them.

A step takes the prefill of up to `budget` tokens and one token of every running sequence; it lasts as long as compute
and memory of the machine allow, with some loss. What comes out are the figures that a benchmark would print.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Quantile = Callable[[list[float], float], float]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """GPUs of one engine and its link, with the share of their peaks that is reached."""

    gpus: int
    tflops: float
    hbm_gb_per_s: float
    network_gbps: float
    parameters: float
    kv_bytes_per_token: int
    reached: float = 0.5

    def step_s(self, prefill_tokens: int, decoding: int) -> float:
        flop = 2 * self.parameters * (prefill_tokens + decoding)
        compute_s = flop / (self.gpus * self.tflops * 1e12 * self.reached)
        weights_s = 2 * self.parameters / (self.gpus * self.hbm_gb_per_s * 1e9 * self.reached)
        return max(compute_s, weights_s) + 0.0005

    def load_s(self, tokens: int) -> float:
        return tokens * self.kv_bytes_per_token * 8 / (self.network_gbps * 1e9 * self.reached)


@dataclass(kw_only=True)
class Sequence:
    """A request on its way."""

    prompt: int
    output: int
    cached: int
    sent_s: float
    ready_s: float = 0.0
    left: int = 0
    tokens: int = 0
    first_s: float = math.nan
    last_s: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked: lengths by request, and either a concurrency or arrivals at a rate."""

    lengths: tuple[tuple[int, int], ...]
    concurrency: int | None
    rate: float | None = None
    budget: int = 2048
    link: list[float] = field(default_factory=lambda: [0.0])


def run(machine: Machine, load: Load, *, cached_share: float, rng: random.Random) -> list[Sequence]:
    """All requests, served."""
    waiting = [
        Sequence(prompt=p, output=o, cached=min(p - 1, int(p * cached_share)), sent_s=math.nan) for p, o in load.lengths
    ]
    _arrive(waiting, load, rng)
    done: list[Sequence] = []
    running: list[Sequence] = []
    now = link_free = 0.0
    while len(done) < len(load.lengths):
        slots = math.inf if load.concurrency is None else load.concurrency - len(running)
        while waiting and slots > 0 and (math.isnan(waiting[0].sent_s) or waiting[0].sent_s <= now):
            one = waiting.pop(0)
            one.sent_s = now if math.isnan(one.sent_s) else one.sent_s
            link_free = max(link_free, now) + machine.load_s(one.cached)  # loads of one engine share its link
            one.ready_s, one.left = (link_free if one.cached else now), one.prompt - one.cached
            running.append(one)
            slots -= 1
        now = _step(machine, load, running, now, waiting)
        done += [one for one in running if one.tokens == one.output]
        running = [one for one in running if one.tokens < one.output]
    return done


def _arrive(waiting: list[Sequence], load: Load, rng: random.Random) -> None:
    at = 0.0
    for one in waiting:
        if load.rate is not None:
            one.sent_s = at
            at += rng.expovariate(load.rate)


def _step(machine: Machine, load: Load, running: list[Sequence], now: float, waiting: list[Sequence]) -> float:
    ready = [one for one in running if one.ready_s <= now]
    if not ready:
        later = [one.ready_s for one in running] + [one.sent_s for one in waiting[:1] if not math.isnan(one.sent_s)]
        return min(later)
    decoding = [one for one in ready if one.left == 0]
    budget, prefill, finished = load.budget, 0, []
    for one in ready:
        take = min(one.left, budget)
        if take:
            one.left, budget, prefill = one.left - take, budget - take, prefill + take
            finished += [one] if one.left == 0 else []
    now += machine.step_s(prefill, len(decoding))
    for one in (*decoding, *finished):
        one.tokens += 1
        one.last_s = now
        one.first_s = now if one.tokens == 1 else one.first_s
    return now


def by_rank(values: list[float], share: float) -> float:
    """Rank ⌈q·n⌉, as we count."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def interpolated(values: list[float], share: float) -> float:
    """Linear interpolation, as numpy and most benchmarks count."""
    return float(np.quantile(values, share))


def spread(values: list[float], quantile: Quantile) -> dict[str, float]:
    """Mean, bounds and percentiles in milliseconds."""
    ms = [value * 1e3 for value in values]
    ladder = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    bounds = {"mean": sum(ms) / len(ms), "min": min(ms), "max": max(ms)}
    return bounds | {name: quantile(ms, share) for name, share in ladder.items()}


def table(done: list[Sequence], quantile: Quantile) -> dict[str, Any]:
    """One side of a table of figures, unrounded."""
    ttft, e2e = [one.first_s - one.sent_s for one in done], [one.last_s - one.sent_s for one in done]
    tpot = [(one.last_s - one.first_s) / (one.output - 1) for one in done if one.output > 1]
    makespan = max(one.last_s for one in done) - min(one.sent_s for one in done)
    output = sum(one.output for one in done)
    side = {
        "requests": len(done), "failed": 0, "ttft_ms": spread(ttft, quantile), "e2e_ms": spread(e2e, quantile),
        "request_throughput": len(done) / makespan, "output_token_throughput": output / makespan,
        "makespan_s": makespan, "latency_sum_s": sum(e2e), "prompt_tokens": sum(one.prompt for one in done),
        "cached_tokens": sum(one.cached for one in done), "output_tokens": output,
    }  # fmt: skip
    return side | ({"tpot_ms": spread(tpot, quantile)} if tpot else {})


def printed(figures: Any, form: str) -> Any:
    """Every number that is no count, as it would be printed: a text of so many digits."""
    if isinstance(figures, dict):
        return {key: printed(value, form) for key, value in figures.items()}
    return format(figures, form) if isinstance(figures, float) else figures


def yaml_of(figures: dict[str, Any]) -> str:
    """The table as somebody types it: texts of numbers without quotes."""

    def lines(held: dict[str, Any], indent: str) -> list[str]:
        out = []
        for key, value in held.items():
            inner = lines(value, f"{indent}  ") if isinstance(value, dict) else None
            out += [f"{indent}{key}:", *inner] if inner is not None else [f"{indent}{key}: {value}"]
        return out

    return "\n".join([*lines(figures, ""), ""])
