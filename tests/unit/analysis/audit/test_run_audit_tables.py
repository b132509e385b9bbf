"""Sixty true tables, printed with few digits, break no law; ten kinds of untrue ones are named; published ones, too."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.api import judge
from pytest_mooncake.records import AuditFinding, Verdict
from tests.support.step_engine import Load, Machine, by_rank, interpolated, printed, run, table, yaml_of

PUBLISHED = Path(__file__).parents[3] / "data" / "tables"
MACHINES = (
    Machine(gpus=8, tflops=989, hbm_gb_per_s=3350, network_gbps=400, parameters=70e9, kv_bytes_per_token=327_680),
    Machine(gpus=1, tflops=312, hbm_gb_per_s=2039, network_gbps=100, parameters=7e9, kv_bytes_per_token=131_072),
    Machine(gpus=4, tflops=362, hbm_gb_per_s=864, network_gbps=25, parameters=3e9, kv_bytes_per_token=24_576),
)


def true_table(seed: int) -> dict[str, Any]:
    """A table of the engine in small, unrounded, of a load that the seed picks."""
    rng = random.Random(seed)
    machine, requests = rng.choice(MACHINES), rng.choice((8, 30, 60))
    prompt, output = rng.choice((700, 4096, 9000)), rng.choice((1, 16, 64))
    vary = rng.random() < 0.5
    lengths = tuple(
        (rng.randint(prompt // 2, prompt * 3 // 2), rng.randint(1, 2 * output)) if vary else (prompt, output)
        for _ in range(requests)
    )
    closed = rng.random() < 0.6
    load = Load(lengths=lengths, concurrency=rng.choice((1, 4, 7)) if closed else None, rate=None if closed else 2.0)
    quantile = rng.choice((by_rank, interpolated))
    cold = run(machine, load, cached_share=0.0, rng=random.Random(seed))
    warm = run(machine, load, cached_share=0.95, rng=random.Random(seed))
    figures: dict[str, Any] = {
        "requests": requests,
        "prompt_tokens": round(sum(p for p, _ in lengths) / requests),
        "output_tokens": round(sum(o for _, o in lengths) / requests),
        "cold": table(cold, quantile),
        "warm": table(warm, quantile),
        "model": {"parameters": machine.parameters, "kv_bytes_per_token": machine.kv_bytes_per_token},
        "hardware": {
            "gpus": machine.gpus, "peak_tflops_per_gpu": machine.tflops, "hbm_gb_per_s_per_gpu": machine.hbm_gb_per_s,
        },
        "network_gbps": machine.network_gbps,
    }  # fmt: skip
    return figures | ({"concurrency": load.concurrency} if closed else {})


def judged(figures: dict[str, Any], here: Path) -> dict[str, AuditFinding]:
    path = here / "figures.yaml"
    path.write_text(yaml_of(figures), encoding="utf-8")
    return {one.law: one for one in judge(path, base=here).judgement.audit}


def with_status(found: dict[str, AuditFinding], status: str) -> dict[str, str]:
    return {law: one.detail for law, one in found.items() if one.status == status}


@pytest.mark.parametrize("form", [".1f", ".2f", ".3f", ".2e"])
@pytest.mark.parametrize("first", range(0, 60, 10))
def test_true_tables_break_no_law_however_few_digits_they_are_printed_with(
    first: int, form: str, tmp_path: Path
) -> None:
    for seed in range(first, first + 10):
        figures = true_table(seed)
        sides = {side: printed(figures[side], form) for side in ("cold", "warm")}
        found = judged({**figures, **sides}, tmp_path)
        assert with_status(found, "broken") == {}, seed
        held = sum(one.status == "held" for one in found.values())
        assert held > 20, f"table {seed}: nearly every law applies and holds"


STEADY = 3
"""A seed of a closed loop with equal requests of several tokens."""


def planted(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    machine = MACHINES[0]
    load = Load(lengths=((4096, 64),) * 30, concurrency=4)
    sides = {
        name: table(run(machine, load, cached_share=share, rng=random.Random(STEADY)), by_rank)
        for name, share in (("cold", 0.0), ("warm", 0.95))
    }
    figures: dict[str, Any] = {
        "requests": 30, "concurrency": 4, "prompt_tokens": 4096, "output_tokens": 64, **sides,
        "model": {"parameters": machine.parameters, "kv_bytes_per_token": machine.kv_bytes_per_token},
        "hardware": {"gpus": 8, "peak_tflops_per_gpu": 989, "hbm_gb_per_s_per_gpu": 3350},
        "network_gbps": 400,
    }  # fmt: skip
    figures = copy.deepcopy(figures)
    change(figures)
    return {**figures, **{side: printed(figures[side], ".2f") for side in ("cold", "warm")}}


def ttft_above_e2e(figures: dict[str, Any]) -> None:
    figures["warm"]["ttft_ms"]["p99"] = figures["warm"]["ttft_ms"]["max"] = figures["warm"]["e2e_ms"]["p99"] * 1.1
    del figures["warm"]["e2e_ms"]["max"]


def median_above_twice_the_mean(figures: dict[str, Any]) -> None:
    mean = figures["cold"]["ttft_ms"]["mean"]
    figures["cold"]["ttft_ms"] = {"mean": mean, "p50": 2.2 * mean}


def mean_above_the_maximum(figures: dict[str, Any]) -> None:
    figures["cold"]["tpot_ms"] = {
        "mean": figures["cold"]["tpot_ms"]["max"] * 1.05,
        "max": figures["cold"]["tpot_ms"]["max"],
    }


def makespan_against_rate(figures: dict[str, Any]) -> None:
    figures["warm"]["makespan_s"] *= 1.4


def more_cached_than_prompt_tokens(figures: dict[str, Any]) -> None:
    figures["warm"]["cached_tokens"] = figures["warm"]["prompt_tokens"] + 1


def more_failed_than_requests(figures: dict[str, Any]) -> None:
    figures["warm"]["failed"] = 31


def totals_against_requests(figures: dict[str, Any]) -> None:
    figures["cold"]["prompt_tokens"] = figures["cold"]["prompt_tokens"] * 6 // 5


def cold_that_was_cached(figures: dict[str, Any]) -> None:
    figures["cold"]["cached_tokens"] = figures["cold"]["prompt_tokens"] * 95 // 100


def latency_below_its_parts(figures: dict[str, Any]) -> None:
    for side in ("cold", "warm"):
        ttft = figures[side]["ttft_ms"]["mean"]
        figures[side]["e2e_ms"] = {"mean": ttft + 0.2 * (figures[side]["e2e_ms"]["mean"] - ttft)}
        del figures[side]["latency_sum_s"]


def decoding_below_the_memory_bound(figures: dict[str, Any]) -> None:
    figures["warm"]["tpot_ms"] = {"mean": 1.0}
    figures["warm"]["e2e_ms"] = {"mean": figures["warm"]["ttft_ms"]["mean"] + 63}
    figures["warm"]["ttft_ms"] = {"mean": figures["warm"]["ttft_ms"]["mean"]}


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (ttft_above_e2e, "order.warm"),
        (median_above_twice_the_mean, "order.cold"),
        (mean_above_the_maximum, "order.cold"),
        (makespan_against_rate, "rate.warm"),
        (more_cached_than_prompt_tokens, "cached.warm"),
        (more_failed_than_requests, "failed.warm"),
        (totals_against_requests, "totals_prompt.cold"),
        (cold_that_was_cached, "cached.cold"),
        (latency_below_its_parts, "latency.cold"),
        (decoding_below_the_memory_bound, "decode.warm"),
    ],
    ids=lambda one: one.__name__ if callable(one) else None,
)
def test_each_of_ten_untrue_kinds_is_named(change: Callable[[dict[str, Any]], None], law: str, tmp_path: Path) -> None:
    assert with_status(judged(planted(lambda _: None), tmp_path), "broken") == {}
    broken = with_status(judged(planted(change), tmp_path), "broken")
    assert law in broken


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.yaml")), ids=lambda path: path.stem)
def test_published_tables_break_no_law_unless_they_contradict_themselves(path: Path) -> None:
    judgement = judge(path).judgement
    broken = {one.law.partition(".")[0] for one in judgement.audit if one.status == "broken"}
    expected = {"contradict-e2e": {"latency"}, "contradict-makespan": {"rate"}}
    assert broken == expected.get(path.stem, set())


def test_a_reply_of_one_token_has_no_tpot_and_no_claim_on_it_fails_for_that() -> None:
    judgement = judge(PUBLISHED / "gpustack-20k-1tok.yaml").judgement
    claim = next(one for one in judgement.claims if one.id == "tpot_mean")
    assert (judgement.verdict, claim.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    assert claim.reason.endswith("a reply of one token has none")
    assert "单 Token" in claim.details["reason_zh"]


def test_all_requests_at_once_are_asked_about_and_not_condemned() -> None:
    judgement = judge(PUBLISHED / "gpustack-8k-vllm-bench-conc100.yaml").judgement
    found = {one.law: one for one in judgement.audit}
    assert found["little.warm"].status == "warning"
    assert found["little.warm"].detail.endswith("was this an open loop? then leave concurrency out")
    assert "mean TTFT 5.06 s, 100 requests at 28.724 req/s are over in 3.48 s" in found["longest.warm"].detail


def open_loop(rate: float, *, stated: int) -> dict[str, Any]:
    load = Load(lengths=((6000, 32),) * 40, concurrency=None, rate=rate)
    sides = {
        name: printed(table(run(MACHINES[1], load, cached_share=share, rng=random.Random(1)), by_rank), ".1f")
        for name, share in (("cold", 0.0), ("warm", 0.95))
    }
    return {"requests": 40, "concurrency": stated, "output_tokens": 32, **sides}


@pytest.mark.parametrize("rate", [1.0, 2.0, 5.0])
def test_an_open_loop_that_comes_with_a_concurrency_is_asked_about(rate: float, tmp_path: Path) -> None:
    figures = open_loop(rate, stated=2)
    found = judged(figures, tmp_path)
    assert with_status(found, "broken") == {}
    assert "was this an open loop?" in with_status(found, "warning")["little.cold"]
    told = judged({**figures, "request_rate": rate}, tmp_path)
    assert f"requests came at {rate:g} a second" in told["little.cold"].detail
    assert told["closed_loop"].status == "not_applicable"


def test_a_warm_side_with_more_in_flight_than_the_cold_one_is_no_open_loop(tmp_path: Path) -> None:
    load = {name: Load(lengths=((4096, 64),) * 30, concurrency=n) for name, n in (("cold", 4), ("warm", 8))}
    sides = {
        name: printed(table(run(MACHINES[0], one, cached_share=0.0, rng=random.Random(1)), by_rank), ".1f")
        for name, one in load.items()
    }
    assert set(with_status(judged({"requests": 30, "concurrency": 4, **sides}, tmp_path), "broken")) == {
        "little.warm", "makespan.warm",
    }  # fmt: skip
