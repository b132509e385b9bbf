"""Feasibility: from which figure on the words warn, and what they say it would take."""

from __future__ import annotations

import math

import pytest

from pytest_mooncake.analysis.audit.feasibility import Probe, feasibility

EVEN = Probe(k=1.0, rho=1.0)
"""Decode takes as long as TTFT, cold and warm: a cut of 60 % gives 2/1.4 = ×1.4286."""


@pytest.mark.parametrize(("asked", "feasible"), [(1.42, True), (2 / 1.4, True), (1.45, True), (1.46, False)])
def test_a_demand_within_two_percent_of_what_is_possible_is_not_warned_of(asked: float, feasible: bool) -> None:
    assert feasibility(EVEN, throughput_ratio=asked, ttft_cut=0.6).feasible is feasible


def test_a_demand_that_a_larger_cut_would_meet_names_the_cut_and_the_workload() -> None:
    found = feasibility(EVEN, throughput_ratio=1.6, ttft_cut=0.6)
    assert found.needed_cut == pytest.approx(0.75)
    assert "it would take a TTFT cut of 75 %; it would take k ≤ 0.60: longer prompts or fewer output tokens" in (
        found.sentence
    )


def test_a_demand_beyond_the_limit_says_that_no_cut_would_do() -> None:
    found = feasibility(EVEN, throughput_ratio=2.5, ttft_cut=0.7)
    assert found.needed_cut == pytest.approx(1.2)
    assert "not even with TTFT at zero (×2.00); it would take k ≤ 0.17" in found.sentence
    assert "极限 ×2.00" in found.sentence_zh


@pytest.mark.parametrize(
    ("rho", "cut", "k"), [(0.4, 0.9, math.inf), (0.3, 0.9, math.inf), (1.0, 0.5, 0.0), (1.0, 0.6, 0.0), (1.0, 0.9, 0.5)]
)
def test_the_largest_k_that_brings_a_ratio(rho: float, cut: float, k: float) -> None:
    assert Probe(k=1.0, rho=rho).k_for(2.5, cut) == pytest.approx(k)


def test_a_workload_that_cannot_help_is_not_advised() -> None:
    """With ρ at 1/R any k would do; with too small a cut none does."""
    for probe, cut in ((Probe(k=2.0, rho=0.4), 0.3), (EVEN, 0.5)):
        assert "k ≤" not in feasibility(probe, throughput_ratio=2.5, ttft_cut=cut).sentence
