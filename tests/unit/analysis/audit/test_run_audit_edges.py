"""From which figure on each law of the audit warns or is broken, and which figures it takes.

Figures are given with more digits than the edge needs: what rounding allows is tested in `test_audit_rounding.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mooncake.analysis.audit.external_figures import figures_from_mapping
from pytest_mooncake.analysis.audit.run_audit import audit
from pytest_mooncake.records import AuditFinding


def law(name: str, cold: dict[str, Any] | None = None, warm: dict[str, Any] | None = None, **rest: Any) -> AuditFinding:
    figures = figures_from_mapping({"cold": cold or {}, "warm": warm or {}, **rest})
    return {one.law: one for one in audit(figures)}[name]


@pytest.mark.parametrize(("throughput", "status"), [(10.0, "held"), (10.15, "held"), (10.4, "broken"), (9.0, "held")])
def test_little_allows_two_percent_of_rounding(throughput: float, status: str) -> None:
    found = law("little.cold", {"request_throughput": throughput, "e2e_ms": {"mean": 400}}, concurrency=4)
    assert found.status == status
    assert found.left == pytest.approx(throughput * 0.4)


@pytest.mark.parametrize(("tokens", "status"), [(1000, "held"), (1019, "held"), (1030, "warning"), (1060, "broken")])
def test_token_throughput_warns_from_two_and_breaks_from_five_percent(tokens: float, status: str) -> None:
    side = {"request_throughput": "10.000", "output_token_throughput": tokens, "requests": 10, "failed": 0}
    found = law("tokens.cold", side | {"output_tokens": 1000}, output_tokens=100)
    assert found.status == status


def test_tokens_of_a_request_are_those_of_the_successes() -> None:
    side = {"request_throughput": 10, "output_token_throughput": 500, "requests": 8, "failed": 3, "output_tokens": 250}
    assert law("tokens.cold", side, output_tokens=99).right == pytest.approx(500)
    nothing = law("tokens.cold", side | {"failed": 8}, output_tokens=99)
    assert nothing.right == pytest.approx(990)
    one = law("tokens.cold", side | {"requests": 1, "failed": 0})
    assert one.right == pytest.approx(2500)


@pytest.mark.parametrize(
    ("server", "status"),
    [(10_000, "held"), (10_049, "held"), (10_060, "warning"), (10_400, "warning"), (10_600, "broken")],
)
def test_counters_warn_from_half_a_percent_and_break_from_five(server: int, status: str) -> None:
    assert law("counters_prompt.warm", warm={"prompt_tokens": 10_000, "server_prompt_tokens": server}).status == status


@pytest.mark.parametrize(("gain", "status"), [(1.0, "held"), (1.3, "held"), (1.4, "warning"), (0.7, "warning")])
def test_a_loop_whose_gain_strays_from_its_latency_by_a_quarter_warns(gain: float, status: str) -> None:
    side = {"e2e_ms": {"mean": 400}}
    found = law("closed_loop", side | {"request_throughput": 1}, side | {"request_throughput": gain})
    assert found.status == status


@pytest.mark.parametrize(("rate", "status"), [(1.0, "held"), (3.7, "held"), (3.8, "warning"), (5.1, "broken")])
def test_compute_warns_from_three_quarters_of_the_peak(rate: float, status: str) -> None:
    """1000 tokens of 1e9 parameters are 2 TFLOP; the peak is 10 TFLOP/s."""
    found = law(
        "compute", {"request_throughput": rate}, prompt_tokens=1000, model={"parameters": 1e9},
        hardware={"gpus": 1, "peak_tflops_per_gpu": 10},
    )  # fmt: skip
    assert found.status == status
    assert f"{rate:g} req/s × 0.00 PFLOP" in found.detail
    assert found.left == pytest.approx(rate * 2e12)


def test_compute_tells_what_attention_adds() -> None:
    found = law(
        "compute", {"request_throughput": 2}, prompt_tokens=100_000,
        hardware={"gpus": 100, "peak_tflops_per_gpu": 1000},
        model={"parameters": 1e10, "attention_layers": 10, "attention_width": 1000},
    )  # fmt: skip
    assert "2 req/s × 2.00 PFLOP = 4.0 (4.4 with attention) PFLOP/s, peak 100.00 PFLOP/s (4 %)" in found.detail


@pytest.mark.parametrize(("rate", "status"), [(1.0, "held"), (6.9, "held"), (7.1, "warning"), (10.1, "broken")])
def test_bytes_warn_from_seven_tenths_of_the_network(rate: float, status: str) -> None:
    """1000 tokens of 125,000 bytes are one gigabit."""
    found = law(
        "bytes", warm={"request_throughput": rate}, prompt_tokens=1000, model={"kv_bytes_per_token": 125_000},
        network_gbps=10,
    )  # fmt: skip
    assert found.status == status
    assert found.left == pytest.approx(rate)
    assert f"{rate:g} req/s × 0.12 GB = {rate:.0f} Gb/s of 10 Gb/s" in found.detail


@pytest.mark.parametrize(
    ("counts", "tokens"),
    [
        ({}, 1000),
        ({"requests": 5, "failed": 1, "cached_tokens": 2000}, 500),
        ({"requests": 1, "cached_tokens": 300}, 300),
        ({"requests": 4, "failed": 4, "cached_tokens": 2000}, 1000),
        ({"cached_tokens": 2000}, 1000),
    ],
)
def test_a_warm_request_loads_its_cached_tokens_where_they_are_known(counts: dict[str, int], tokens: int) -> None:
    warm = {"request_throughput": 1, "ttft_ms": {"mean": 500}, **counts}
    rest: dict[str, Any] = {"prompt_tokens": 1000, "model": {"kv_bytes_per_token": 125_000}, "network_gbps": 10}
    assert law("bytes", {}, warm, **rest).left == pytest.approx(tokens / 1000)
    assert law("time.warm", {}, warm, **rest).right == pytest.approx(tokens / 10)


@pytest.mark.parametrize(("ttft_ms", "status"), [(101.0, "held"), (98.2, "held"), (97.8, "broken")])
def test_no_load_beats_one_engines_own_link(ttft_ms: float, status: str) -> None:
    found = law(
        "time.warm", warm={"ttft_ms": {"mean": ttft_ms}}, prompt_tokens=1000, model={"kv_bytes_per_token": 125_000},
        hardware={"link_gbps": 10}, network_gbps=1000,
    )  # fmt: skip
    assert found.status == status
    assert found.right == pytest.approx(100)


@pytest.mark.parametrize(("ttft_ms", "status"), [(201.0, "held"), (196.2, "held"), (195.0, "broken")])
def test_no_prefill_beats_the_peak(ttft_ms: float, status: str) -> None:
    found = law(
        "time.cold", {"ttft_ms": {"mean": ttft_ms}}, prompt_tokens=1000, model={"parameters": 1e9},
        hardware={"gpus": 2, "peak_tflops_per_gpu": 5},
    )  # fmt: skip
    assert found.status == status
    assert found.right == pytest.approx(200)
