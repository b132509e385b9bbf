"""What the dry run says of power and cost: from a past run, else from assumptions that it states."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.outlook.forecast import assumed_of
from pytest_mooncake.analysis.outlook.power_lines import BEYOND, Past, _assumed, power_lines
from pytest_mooncake.plan.targets.models import Target, TargetsPlan
from tests.support.made_rounds import LOOKS, noisy
from tests.support.spec_figures import SPEC


def said(targets: TargetsPlan = SPEC, looks: tuple[int, ...] = LOOKS, past: Past | None = None) -> dict[str, str]:
    return dict(power_lines(targets, looks, past))


def past(trials: int, sigma: float, *, trial_s: float | None = 60.0) -> Past:
    claims = judge_claims(SPEC, noisy(trials, 0.3, sigma=sigma), looks=LOOKS, trials=trials, quick=False)
    return Past(
        name=f"20261124-2000-abcd ({trials} trials)", assumed=assumed_of(claims), df=2 * trials - 2, trial_s=trial_s
    )


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", text)]


def test_without_a_past_the_assumptions_stand_first_and_minutes_are_not_invented() -> None:
    lines = said()
    assert lines["assumes"].startswith("rounds vary by 1.5 % to 8.0 %, targets are met by 15 %")
    assert lines["power"].startswith("a verdict after 3 to 10 trials; PASS in ")
    assert lines["power"].endswith("tpot_mean binds")
    assert "ttft_mean ×0.3" in lines["resolves"]
    assert "request_throughput ×2." in lines["resolves"]
    assert lines["minutes"].startswith("not known before the first trial")


def test_with_a_past_run_nothing_is_assumed_and_minutes_are_a_range() -> None:
    lines = said(past=past(10, 0.02))
    assert "assumes" not in lines
    assert lines["power"].startswith("if it goes as in 20261124-2000-abcd (10 trials): a verdict after ")
    low, high = numbers(lines["minutes"])[:2]
    assert 3 <= low <= high <= 11


def test_a_quieter_past_promises_an_earlier_verdict() -> None:
    quiet, noisy_past = (numbers(said(past=past(10, sigma))["minutes"])[1] for sigma in (0.01, 0.15))
    assert quiet < noisy_past


def test_a_past_of_one_trial_or_without_durations_tells_less() -> None:
    assert "assumes" in said(past=past(1, 0.02))
    assert said(past=past(5, 0.02, trial_s=None))["minutes"].startswith("not known")


def test_where_nothing_gates_or_no_look_tests_there_is_nothing_to_forecast() -> None:
    reported = TargetsPlan(name="t", claims=(Target(metric="ttft_p90", gating=False),))
    bounded = TargetsPlan(name="t", claims=(Target(metric="ttft_p90", target="<= 5 s"),))
    for lines in (said(reported), said(bounded), said(SPEC, (1,))):
        assert lines == {"power": "no gating claim on a ratio is tested, so there is nothing to forecast"}


@pytest.mark.parametrize(
    ("target", "metric", "ratio"),
    [
        ("down 60 %", "ttft_mean", 0.4 / (1 + BEYOND)),
        ("up 150 %", "request_throughput", 2.5 * (1 + BEYOND)),
        ("stable", "tpot_mean", 1.0),
        ("stable", "request_throughput", 1.0),
        ("within 10 %", "tpot_mean", 1.0),
    ],
)
def test_gains_are_assumed_to_be_exceeded_and_what_is_to_stay_stable_to_stay(
    target: str, metric: str, ratio: float
) -> None:
    assert _assumed(Target(metric=metric, target=target)).ratio == pytest.approx(ratio)


@pytest.mark.parametrize(("feasible", "label"), [(True, "feasible"), (False, "WARNING")])
def test_a_past_in_which_the_targets_could_not_be_met_together_warns(feasible: bool, label: str) -> None:
    known = replace(past(4, 0.02), feasibility={"feasible": feasible, "text": "words"})
    lines = said(past=known)
    assert lines[label] == "words"
    assert {"feasible", "WARNING"} & {*lines} == {label}
