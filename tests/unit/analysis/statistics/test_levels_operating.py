"""What the verdicts promise under every noise of the benchmark, with few runs; the benchmark runs many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.verdicts.figure import svg
from benchmarks.verdicts.noises import CURABLE, NOISES, STALL_SIGMA, normal
from benchmarks.verdicts.operate import operate
from benchmarks.verdicts.rivals import RIVALS, acceptance
from pytest_mooncake.analysis.statistics.levels import nominal_level
from pytest_mooncake.analysis.statistics.power import Design

LOOKS = (3, 4, 5, 6, 8, 10)
DESIGN = Design(looks=LOOKS, level=nominal_level(LOOKS))
RUNS = 4000


@pytest.mark.parametrize("name", CURABLE)
def test_false_pass_is_at_most_five_percent_or_eight_with_skewed_warm_rounds(name: str) -> None:
    promised = 0.08 if name.startswith("warm only") else 0.05
    found = operate(DESIGN, NOISES[name], shift=0.0, sigma=0.08, runs=RUNS)
    assert found.passes <= promised + 3 * math.sqrt(promised * (1 - promised) / RUNS)


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_centred_and_of_the_shape_asked_for(name: str) -> None:
    made = NOISES[name](np.random.default_rng(0), 3000, 21)
    assert made.shape == (3000, 21)
    if not any(word in name for word in ("drift", "step", "transient", "stalls")):
        contrast = made[:, 1::2].mean() - made[:, 0::2].mean()
        assert abs(contrast) < 4 * made.mean(axis=1).std() / math.sqrt(3000) + 0.25


def test_no_test_on_one_chain_cures_rare_stalls() -> None:
    found = operate(DESIGN, NOISES["stalls, warm only: 0.3 % × 30"], shift=0.0, sigma=STALL_SIGMA, runs=RUNS)
    assert found.passes > 0.5


def test_a_cut_of_67_percent_is_accepted_in_99_percent_within_few_trials() -> None:
    found = operate(DESIGN, normal, shift=math.log(0.40 / 0.33), sigma=0.08, runs=RUNS)
    assert found.passes >= 0.99
    assert found.mean_trials <= 4.4


@pytest.mark.parametrize("name", [name for name in RIVALS if not name.startswith("boot")])
def test_judging_requests_as_if_independent_passes_too_often(name: str) -> None:
    assert acceptance(RIVALS[name], 0.40, sigma_round=0.04, runs=400) > 0.10


def test_a_figure_names_every_curve() -> None:
    drawn = svg({"a < b": [(0, 0.5), (1, 1.0)]}, title="t", x_title="x")
    assert "a &lt; b" in drawn
    assert drawn.startswith("<svg")
    assert drawn.rstrip().endswith("</svg>")
