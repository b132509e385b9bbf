"""The laws, by the reference report's own table and by figures that obey or break one law each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.audit.engine_totals import engine_in_flight, server_tokens
from pytest_mooncake.analysis.audit.external_figures import Distribution, Figures, RoundFigures, figures_from_mapping
from pytest_mooncake.analysis.audit.limits import Hardware
from pytest_mooncake.analysis.audit.model.geometry import Geometry
from pytest_mooncake.analysis.audit.run_audit import audit, audit_rounds
from pytest_mooncake.records import AuditFinding, Kind, Round, Scrape
from tests.support.made_rounds import a_round, chain, request
from tests.support.spec_figures import QWEN_72B, SPEC_TABLE


def laws(figures: Figures) -> dict[str, AuditFinding]:
    return {one.law: one for one in audit(figures)}


def of(cold: dict[str, Any], warm: dict[str, Any] | None = None, **rest: Any) -> dict[str, AuditFinding]:
    return laws(figures_from_mapping({"cold": cold, "warm": warm or {}, **rest}))


def test_the_reports_table_breaks_little_and_compute_and_strains_the_network() -> None:
    found = laws(figures_from_mapping(SPEC_TABLE))

    assert found["little.cold"].status == "held"
    assert found["little.cold"].left == pytest.approx(7.76, abs=0.01)
    assert found["little.warm"].status == "broken"
    assert found["little.warm"].left == pytest.approx(16.6, abs=0.05)
    assert "16.6 requests in flight, concurrency 8: 107 % too much" in found["little.warm"].detail
    assert found["compute"].status == "broken"
    assert "5.7 PFLOP/s, peak 4.99 PFLOP/s (115 %)" in found["compute"].detail
    assert found["bytes"].status == "warning"
    assert "318 Gb/s of 400 Gb/s (79 %)" in found["bytes"].detail
    assert found["tokens.cold"].status == found["tokens.warm"].status == "held"
    assert found["order.cold"].status == "not_applicable"
    assert found["time.cold"].status == found["time.warm"].status == "held"
    assert found["closed_loop"].status == "warning"
    assert "×2.96, at equal concurrency latency allows ×1.39, ×1.69 with no TTFT" in found["closed_loop"].detail


def test_a_models_config_adds_attention_to_the_compute_bound() -> None:
    found = laws(figures_from_mapping(SPEC_TABLE | {"model": {"config": QWEN_72B}}))["compute"]
    assert "(6.6 with attention) PFLOP/s" in found.detail
    assert found.status == "broken"


def test_what_is_absent_makes_its_laws_not_applicable() -> None:
    found = of({"ttft_ms": {"mean": 1200}, "request_throughput": 2.5})
    assert {one.status for one in found.values()} == {"not_applicable"}
    assert all(one.left is None and one.detail.startswith("needs") for one in found.values())


@pytest.mark.parametrize(
    ("figures", "law"),
    [
        ({"ttft_ms": {"p50": 10.0, "p90": 9.8}}, "order.cold"),
        ({"ttft_ms": {"p90": 10.0, "p95": 9.8}}, "order.cold"),
        ({"e2e_ms": {"mean": 10.0, "min": 10.2}}, "order.cold"),
        ({"tpot_ms": {"mean": 10.0, "max": 9.8}}, "order.cold"),
        ({"ttft_ms": {"mean": 10.0}, "e2e_ms": {"mean": 9.8}}, "order.cold"),
        ({"makespan_s": 10, "latency_sum_s": 90}, "makespan.cold"),
        ({"prompt_tokens": 1000, "server_prompt_tokens": 900}, "counters_prompt.cold"),
        ({"output_tokens": 1000, "server_output_tokens": 1100}, "counters_output.cold"),
        ({"request_throughput": 2.0, "output_token_throughput": 300}, "tokens.cold"),
        ({"request_throughput": 2.0, "e2e_ms": {"mean": 4200}}, "little.cold"),
    ],
)
def test_each_law_is_broken_by_figures_that_cannot_be_true(figures: dict[str, Any], law: str) -> None:
    found = of(figures, concurrency=8, output_tokens=128)
    assert [name for name, one in found.items() if one.status == "broken"] == [law]


def test_an_impossible_ttft_names_the_cache_that_was_hit() -> None:
    hardware = {"gpus": 1, "peak_tflops_per_gpu": 100}
    rest = {"prompt_tokens": 1000, "model": {"parameters": 1e9, "kv_bytes_per_token": 1000000}, "hardware": hardware}
    found = of({"ttft_ms": {"mean": 10}}, {"ttft_ms": {"mean": 10}}, network_gbps=100, **rest)
    assert found["time.cold"].status == "broken"
    assert "50 % too little; usual cause: the cold round hit a cache" in found["time.cold"].detail
    assert found["time.warm"].status == "broken"


def test_the_engines_gauges_are_only_warned_about() -> None:
    found = of({"request_throughput": 2, "e2e_ms": {"mean": 2000}, "engine_in_flight": 8})
    assert found["little_engine.cold"].status == "warning"
    assert "somebody else's traffic" in found["little_engine.cold"].detail


def test_counters_are_not_compared_when_requests_failed() -> None:
    one = RoundFigures(failed=1, prompt_tokens=10, server_prompt_tokens=20)
    assert laws(Figures(cold=one, warm=RoundFigures()))["counters_prompt.cold"].status == "not_applicable"


def test_zero_of_everything_divides_nothing() -> None:
    none = RoundFigures(
        request_throughput=0.0, e2e_ms=Distribution(mean=0.0), output_token_throughput=0.0, prompt_tokens=0,
        server_prompt_tokens=0, engine_in_flight=0.0, makespan_s=0.0, latency_sum_s=1.0,
    )  # fmt: skip
    found = laws(Figures(concurrency=1, output_tokens=1, cold=none, warm=none))
    assert found["makespan.cold"].status == "broken"
    assert "nothing allowed" in found["makespan.cold"].detail
    assert found["counters_prompt.cold"].status == "held"


def with_counters(one: Round, prompt: int, output: int) -> Round:
    def scrape(tokens: tuple[int, int]) -> Scrape:
        names = ('vllm:prompt_tokens_total{engine="0"}', 'vllm:generation_tokens_total{engine="0"}')
        return Scrape(source="engine:0", at_ns=0, samples=dict(zip(names, map(float, tokens), strict=True)))

    return replace(one, before=(scrape((50, 5)),), after=(scrape((50 + prompt, 5 + output)),))


def test_a_measured_run_obeys_its_own_laws() -> None:
    rounds = chain([(1200, 15)] * 3, [(300, 14)] * 2)
    counted = tuple(with_counters(one, 4000, 20) for one in rounds)
    found = {one.law: one for one in audit_rounds(counted, 1)}

    assert {one.status for one in found.values()} <= {"held", "not_applicable"}
    assert found["counters_prompt.cold"].left == found["counters_prompt.cold"].right == 12000
    assert found["little.cold"].left == pytest.approx(1, rel=1e-4)


def test_foreign_tokens_on_the_engine_break_the_counters() -> None:
    rounds = tuple(with_counters(one, 4000, 900) for one in chain([(1200, 15)] * 2, [(300, 14)]))
    found = {one.law: one for one in audit_rounds(rounds, 1)}
    assert found["counters_output.warm"].status == "broken"
    assert found["counters_prompt.warm"].status == "held"


def test_an_engine_that_restarted_or_is_several_tells_no_tokens() -> None:
    fallen = with_counters(a_round([request()]), -10, 5)
    silent = a_round([request()], number=1, kind=Kind.WARM)
    assert server_tokens([fallen]) == (None, None)
    assert server_tokens([with_counters(a_round([request()]), 10, 5)], untold={"engine:0"}) == (None, None)
    assert server_tokens([with_counters(silent, 7, 5), silent]) == (None, None)


def seen_by(one: Round, *, served: float, started_s: tuple[float, float] = (1.0, 1.0)) -> Round:
    """The round, of whose requests an engine counted so many."""
    name = "vllm:request_success_total"
    before, after = (
        replace(scrapes[0], samples={**scrapes[0].samples, name: counted}, started_s=start)
        for scrapes, counted, start in zip((one.before, one.after), (0.0, served), started_s, strict=True)
    )
    return replace(one, before=(before,), after=(after,))


def test_counters_that_saw_only_some_of_the_requests_or_several_processes_break_no_law() -> None:
    rounds = [with_counters(one, 2000, 10) for one in chain([(1200, 15)] * 3, [(300, 14)] * 2)]
    half = [seen_by(one, served=len(one.requests) / 2) for one in rounds]
    others = [seen_by(one, served=len(one.requests)) for one in rounds[:-1]]
    others.append(seen_by(rounds[-1], served=len(rounds[-1].requests), started_s=(1.0, 900.0)))
    for measured in (half, others):
        found = {one.law: one.status for one in audit_rounds(measured, 4)}
        assert {found[f"counters_{what}.{side}"] for what in ("prompt", "output") for side in ("cold", "warm")} == {
            "not_applicable"
        }
    whole = [seen_by(one, served=len(one.requests)) for one in rounds]
    assert {one.law: one.status for one in audit_rounds(whole, 4)}["counters_prompt.cold"] == "broken"


def with_latency(one: Round, seconds: float, *, engines: int = 1) -> Round:
    def scrapes(start: float, each: float) -> tuple[Scrape, ...]:
        name = "vllm:e2e_request_latency_seconds_sum"
        return tuple(
            Scrape(source=f"engine:{i}", at_ns=0, samples={f'{name}{{engine="{i}"}}': start + each})
            for i in range(engines)
        )

    return replace(one, before=scrapes(100.0, 0.0), after=scrapes(100.0, seconds / engines))


def test_the_engines_own_latencies_say_how_many_requests_it_had_in_hand() -> None:
    rounds = [with_latency(a_round([request()], number=i), 6.0, engines=2) for i in range(2)]
    assert engine_in_flight(rounds, 4.0) == pytest.approx(3.0)
    assert engine_in_flight(rounds, None) is None
    assert engine_in_flight([*rounds, a_round([request()])], 4.0) is None
    assert engine_in_flight([with_latency(rounds[0], -1.0)], 4.0) is None


@pytest.mark.parametrize(("factor", "status"), [(1.0, "held"), (1.3, "held"), (1.4, "warning"), (0.7, "warning")])
def test_an_engine_that_is_busier_than_the_client_knows_is_a_warning(factor: float, status: str) -> None:
    """One request of 1260 ms (1200 + 4 × 15) at a time; the engine counts so many times as much latency."""
    rounds = [with_latency(one, 4 * 1.26 * factor) for one in chain([(1200, 15)] * 2, [(1200, 15)])]
    found = {one.law: one for one in audit_rounds(rounds, 1)}["little_engine.warm"]
    assert found.status == status
    assert f"the engine saw {factor:.1f} requests in flight, the client 1.0" in found.detail


@given(st.lists(st.floats(1, 1e4), min_size=2, max_size=9), st.integers(1, 8))
def test_requests_sent_one_after_another_never_break_a_law(ttfts: list[float], count: int) -> None:
    latency = 0.0
    requests = []
    for i, ttft in enumerate(ttfts * count):
        requests.append(request(i, sent_ms=latency, ttft_ms=ttft))
        latency += ttft + 40.001
    found = audit_rounds((a_round(requests), a_round(requests, number=1, kind=Kind.WARM)), 1)
    assert "broken" not in {one.status for one in found}


def test_an_open_loop_is_not_held_to_the_laws_of_a_closed_one() -> None:
    found = {one.law: one for one in audit_rounds(chain([(1200, 15)] * 3, [(300, 14)] * 2), None)}
    assert {found[law].status for law in ("closed_loop", "little.cold", "makespan.warm")} == {"not_applicable"}
    assert found["tokens.cold"].status == "held"


def test_a_measured_run_is_held_against_its_machines() -> None:
    """1000 prompt tokens of a model of 1e9 parameters are 2 TFLOP; cold rounds make 1/1.26 requests a second."""
    rounds = chain([(1200, 15)] * 2, [(300, 15)])
    model = Geometry(parameters=1e9, kv_bytes_per_token=1000)
    slow = {
        one.law: one for one in audit_rounds(rounds, 1, model=model, hardware=Hardware(gpus=1, peak_tflops_per_gpu=1.5))
    }
    fast = {
        one.law: one for one in audit_rounds(rounds, 1, model=model, hardware=Hardware(gpus=2, peak_tflops_per_gpu=9))
    }
    assert slow["compute"].status == "broken"
    assert slow["compute"].left == pytest.approx(2e12 / 1.26, rel=1e-3)
    assert fast["compute"].status == fast["time.cold"].status == "held"
    assert {one.law: one for one in audit_rounds(rounds, 1)}["compute"].status == "not_applicable"


def test_tokens_that_a_cold_round_reused_cost_no_compute() -> None:
    half = RoundFigures(requests=2, request_throughput=1.0, prompt_tokens=2000, cached_tokens=1000)
    whole = replace(half, cached_tokens=0)
    lefts = [
        laws(
            Figures(
                prompt_tokens=1000, cold=one, warm=RoundFigures(), model=Geometry(parameters=1e9),
                hardware=Hardware(gpus=1, peak_tflops_per_gpu=3),
            )
        )["compute"].left
        for one in (half, whole)
    ]  # fmt: skip
    assert lefts == pytest.approx([1e12, 2e12])
