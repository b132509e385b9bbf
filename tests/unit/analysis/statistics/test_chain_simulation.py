"""Rounds on their way to the statistics: trials cut off at a look, segments, recorded details, light imports."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_mooncake.analysis.claims.judge_claims import geometric_mean, judge_claims, judge_observed
from pytest_mooncake.analysis.figures.columns import columns_of, pooled
from pytest_mooncake.analysis.figures.metrics import metric_named
from pytest_mooncake.analysis.figures.summary import summarise, summarise_columns
from pytest_mooncake.analysis.statistics.chain_simulation import batches, statistics, sums
from pytest_mooncake.analysis.statistics.observed import observe, observe_columns, points_of, trial_ratios, up_to_trial
from pytest_mooncake.records import Kind, Round, Verdict
from tests.support.made_rounds import LOOKS, a_round, chain, noisy, request
from tests.support.spec_figures import SPEC

TTFT = metric_named("ttft_mean")
ROOT = Path(__file__).parents[4]


def numbers(rounds: tuple[Round, ...], trials: int) -> list[int]:
    return [one.round for one in up_to_trial([observe(one) for one in rounds], trials)]


def two_segments() -> tuple[Round, ...]:
    """C0 W1 C1 and, after an invalid trial, C0 W1 C1 W2 C2 on a machine that had become slower by a fifth."""
    first = chain([(1200, 15), (1210, 15)], [(361, 15)])
    second = chain([(1440, 18), (1452, 18), (1430, 18)], [(433, 18), (430, 18)])
    return (
        *first,
        *(replace(one, round=one.round + 10, segment=1) for one in second),
    )


def test_a_trial_ends_with_the_cold_round_after_its_warm_one() -> None:
    rounds = noisy(3, 0.3)
    assert numbers(rounds, 1) == [0, 1, 2]
    assert numbers(rounds, 2) == [0, 1, 2, 3, 4]
    assert numbers(rounds, 9) == [0, 1, 2, 3, 4, 5, 6]
    assert numbers(rounds[::-1], 1) == [0, 1, 2]


def test_no_trial_keeps_the_cold_rounds_before_the_first_warm_one() -> None:
    assert numbers(noisy(2, 0.3), 0) == [0]


def test_a_quick_run_of_two_rounds_is_kept_whole() -> None:
    assert numbers(noisy(1, 0.3)[:2], 1) == [0, 1]


def test_trials_are_counted_across_segments() -> None:
    assert numbers(two_segments(), 2) == [0, 1, 2, 10, 11, 12]


def test_a_machine_that_got_slower_between_segments_does_not_blur_the_ratio() -> None:
    claims = {one.id: one for one in judge_claims(SPEC, two_segments(), looks=LOOKS, trials=3, quick=False)}
    claim = claims["ttft_mean"]

    assert claim.verdict is Verdict.PASS
    assert claim.estimate_ratio == pytest.approx(0.30, abs=0.005)
    assert claim.details["s_c"] < 0.02


def test_ratios_of_trials_never_reach_across_segments() -> None:
    observed = [observe(one) for one in two_segments()]
    ratios = trial_ratios(observed, TTFT)
    assert ratios == pytest.approx(
        (361 / math.sqrt(1200 * 1210), 433 / math.sqrt(1440 * 1452), 430 / math.sqrt(1452 * 1430))
    )


def test_a_warm_round_without_cold_neighbours_has_no_ratio() -> None:
    lone = replace(chain([(10, 1)] * 2, [(4, 1)])[1], position=7)
    assert trial_ratios([observe(lone)], TTFT) == (None,)


def test_points_carry_place_and_value() -> None:
    points = points_of([observe(one) for one in two_segments()], TTFT)
    assert [(one.segment, one.position, one.kind) for one in points[3:5]] == [(1, 0, Kind.COLD), (1, 1, Kind.WARM)]
    assert points[0].value == pytest.approx(1200)


def test_columns_in_memory_are_judged_like_the_rounds_they_came_from() -> None:
    rounds = noisy(4, 0.35)
    observed = [
        observe_columns(columns_of(one.requests), number=one.round, kind=one.kind, segment=0, position=one.position)
        for one in rounds
    ]
    assert judge_observed(SPEC, observed, looks=LOOKS, trials=4, quick=False) == judge_claims(
        SPEC, rounds, looks=LOOKS, trials=4, quick=False
    )


def test_pooled_columns_summarise_like_pooled_rounds() -> None:
    rounds = noisy(2, 0.35)[::2]
    assert summarise_columns(pooled([columns_of(one.requests) for one in rounds])) == summarise(rounds)


def test_a_geometric_mean_needs_every_round() -> None:
    observed = [observe(one) for one in chain([(100, 10), (400, 10)], [(50, 10)])]
    nothing = observe(a_round([request(error="cut")], number=9))
    assert geometric_mean(observed, TTFT, Kind.COLD) == pytest.approx(200)
    assert geometric_mean([*observed, nothing], TTFT, Kind.COLD) is None
    assert geometric_mean([], TTFT, Kind.WARM) is None


@pytest.mark.parametrize("trials", [1, 3])
def test_everything_a_claim_records_can_be_written_as_json(trials: int) -> None:
    for claim in judge_claims(SPEC, noisy(trials, 0.3), looks=LOOKS, trials=trials, quick=False):
        written = json.loads(json.dumps(dict(claim.details), allow_nan=False))
        assert written["reason_zh"]
        assert written["stated"] == claim.details["stated"]


def test_the_closed_form_scales_with_the_noise() -> None:
    noise = np.random.default_rng(0).standard_normal((50, 9))
    once = statistics(sums(noise, 4))
    thrice = statistics(sums(noise, 4), scale_w=3, scale_c=3)
    assert thrice.effect == pytest.approx(3 * once.effect)
    assert thrice.se == pytest.approx(3 * once.se)
    assert thrice.df == pytest.approx(once.df)


def test_a_look_sees_only_its_own_rounds() -> None:
    noise = np.random.default_rng(0).standard_normal((50, 9))
    later = noise.copy()
    later[:, 5:] = 99
    assert statistics(sums(noise, 2)).effect == pytest.approx(statistics(sums(later, 2)).effect)


def test_batches_add_up_to_the_runs() -> None:
    assert list(batches(60_000)) == [25_000, 25_000, 10_000]
    assert list(batches(0)) == []


def test_the_welch_df_lies_between_the_smaller_groups_and_their_sum() -> None:
    found = statistics(sums(np.random.default_rng(1).standard_normal((500, 7)), 3))
    least, most = min(3 - 1 - 8 / 28, 4 - 1 - 20 / 28), 7 - 3
    assert found.df.min() >= least - 1e-9
    assert found.df.max() <= most + 1e-9


def test_reading_the_words_of_a_verdict_loads_no_heavy_library() -> None:
    claims = "judge_claims", "point_estimates", "remarks", "combine"
    modules = "audit.run_audit", "audit.limits", "outlook.forecast", *(f"claims.{name}" for name in claims)
    imports = "; ".join(f"import pytest_mooncake.analysis.{name}" for name in modules)
    heavy = "numpy", "scipy", "pydantic", "yaml", "aiohttp", "pytest"
    code = f"import sys; {imports}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
