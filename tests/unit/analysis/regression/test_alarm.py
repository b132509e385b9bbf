"""The alarm of a release against its history."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest

from pytest_mooncake.analysis.regression.alarm import (
    HIT_SHARE,
    WATCHED,
    Comparison,
    PastRun,
    Standing,
    Watched,
    change,
    compare_release,
    rolling_runs,
)
from tests.support.past_releases import HITS, THROUGHPUT, TTFT, history, run


def against(factors: Mapping[str, float], past: list[PastRun] | None = None, **more: object) -> Comparison:
    return compare_release(run("new", factors), history(20) if past is None else past, **more)  # type: ignore[arg-type]


def test_a_release_like_its_past_raises_no_alarm_and_says_what_it_could_have_seen() -> None:
    found = against({})
    assert found.alarms == ()
    assert found.words.startswith("compared 5 of 5 metrics with 20 runs; no alarm; smallest change caught in 95 %: ")
    assert found.words.endswith("at most 2.6 false alarms a year at 52 releases")


def test_a_slower_release_raises_an_alarm_for_the_metric_that_is_slower_and_for_no_other() -> None:
    found = against({TTFT: 1.15})
    (alarm,) = found.alarms
    assert (alarm.metric, alarm.baseline, alarm.runs) == (TTFT, "rolling", 20)
    assert alarm.ratio == pytest.approx(1.15, rel=0.02)
    assert alarm.ratio > alarm.bound_ratio > 1.05 - 1e-9
    assert alarm.p_adjusted >= alarm.p
    assert "warm mean TTFT" in found.words
    assert ": alarm (unremarkable up to +" in alarm.words


def test_a_throughput_that_falls_is_worse_and_one_that_rises_is_not() -> None:
    assert [one.metric for one in against({THROUGHPUT: 0.8}).alarms] == [THROUGHPUT]
    assert against({THROUGHPUT: 1.3}).alarms == ()
    assert next(o for o in against({}).metrics if o.metric == THROUGHPUT).bound_ratio < 1


def test_a_ttft_that_falls_is_no_alarm() -> None:
    assert against({TTFT: 0.5}).alarms == ()


def test_a_worsening_below_five_percent_is_no_alarm_however_sure() -> None:
    quiet = history(30, sigma=0.0005)
    assert against({TTFT: 1.04}, quiet).alarms == ()
    assert [one.metric for one in against({TTFT: 1.06}, quiet).alarms] == [TTFT]


def test_a_hit_share_that_never_moved_alarms_when_it_falls() -> None:
    assert [one.metric for one in against({HITS: 0.9}).alarms] == [HITS]
    assert [one.metric for one in against({HITS: 0.0}).alarms] == [HITS]
    assert against({HITS: 0.99}).alarms == ()


def test_the_hit_share_is_always_among_the_metrics() -> None:
    only = Watched(name=TTFT, title="warm mean TTFT", better="lower")
    found = against({HITS: 0.5}, watched=(only,))
    assert found.asked == 2
    assert [one.metric for one in found.alarms] == [HIT_SHARE.name]


def test_no_history_is_said_in_words() -> None:
    found = against({}, [])
    assert (found.standing, found.metrics) == (Standing.NO_BASELINE, ())
    assert found.words == "nothing to compare with: the history holds no earlier run; 10 are needed"


def test_too_few_runs_are_said_in_words() -> None:
    found = against({TTFT: 3.0}, history(9))
    assert (found.standing, found.alarms) == (Standing.TOO_FEW_RUNS, ())
    assert found.words == "not compared: 9 comparable runs since the last accepted change, 10 are needed"


def test_runs_of_another_fingerprint_are_not_compared() -> None:
    past = [run(str(i), fingerprint="other machine") for i in range(20)]
    found = against({TTFT: 3.0}, past)
    assert (found.standing, found.alarms) == (Standing.OTHER_FINGERPRINT, ())
    assert "all 20 earlier runs have another fingerprint" in found.words


def test_runs_before_the_last_accepted_change_do_not_count() -> None:
    past = history(25)
    assert [one.run_id for one in rolling_runs(run("new"), past, since="12")] == [str(i) for i in range(12, 25)]
    assert against({}, past, since="20").standing is Standing.TOO_FEW_RUNS


def test_a_run_is_never_its_own_past_and_old_runs_leave_the_window() -> None:
    past = history(40)
    assert len(rolling_runs(run("new"), past)) == 30
    assert "39" not in {one.run_id for one in rolling_runs(run("39"), past)}


def test_a_metric_without_a_figure_is_named_and_the_others_are_compared() -> None:
    new = run("new")
    bare = PastRun(run_id="new", release="v", fingerprint="same", metrics={**new.metrics, TTFT: math.nan})
    found = compare_release(bare, history(20))
    assert found.not_compared == ("warm mean TTFT: not measured in this run",)
    assert found.words.startswith("compared 4 of 5 metrics with 20 runs")


def test_a_metric_that_the_past_lacks_is_named() -> None:
    past = [
        PastRun(run_id=one.run_id, release=one.release, fingerprint="same", metrics={TTFT: one.metrics[TTFT]})
        for one in history(12)
    ]
    found = compare_release(run("new"), past)
    assert found.compared == 1
    assert "warm hit share: measured in 0 of the past runs, 10 are needed" in found.not_compared


def test_a_run_without_any_figure_is_no_comparison() -> None:
    bare = PastRun(run_id="new", release="v", fingerprint="same", metrics={})
    found = compare_release(bare, history(20))
    assert (found.standing, found.compared) == (Standing.NO_FIGURES, 0)
    assert found.words == "compared 0 of 5 metrics: warm mean TTFT: not measured in this run"


def test_what_grew_by_a_little_in_every_release_is_seen_against_the_anchor() -> None:
    """1.5 % a release: the rolling baseline creeps along."""
    generator = np.random.default_rng(3)
    creeping = [run(str(i), {TTFT: 1.015**i * math.exp(generator.normal(0, 0.01))}) for i in range(30)]
    found = against({TTFT: 1.015**31}, creeping[-12:], anchor=creeping[:2])
    assert {(one.metric, one.baseline) for one in found.alarms} == {(TTFT, "anchored")}
    assert "against 2 anchored runs" in found.alarms[0].words


def test_an_anchor_of_another_fingerprint_is_no_baseline() -> None:
    found = against({}, anchor=[run("anchor", fingerprint="other")])
    assert {one.baseline for one in found.metrics} == {"rolling"}


def test_both_baselines_share_the_error() -> None:
    noisy = history(20, sigma=0.05)
    alone = {one.metric: one for one in against({}, noisy).metrics}
    both = against({}, noisy, anchor=[run("a"), run("b")])
    rolling = {one.metric: one for one in both.metrics if one.baseline == "rolling"}
    assert both.compared == 5
    assert rolling[TTFT].bound_ratio > alone[TTFT].bound_ratio


def test_metrics_too_noisy_to_show_anything_are_said_to_be() -> None:
    assert "no slowdown is caught in 95 %" in against({}, history(20, sigma=8.0)).words


def test_the_comparison_goes_into_json() -> None:
    told = json.loads(json.dumps(against({TTFT: 1.3}).to_json()))
    assert told["standing"] == "compared"
    assert (told["compared"], told["asked"]) == (5, len(WATCHED))
    assert next(one for one in told["metrics"] if one["metric"] == TTFT)["alarm"] is True


def test_a_ratio_reads_as_a_change() -> None:
    assert (change(1.1), change(0.905)) == ("+10.0 %", "-9.5 %")


def test_false_alarms_over_all_metrics_together_stay_below_five_percent() -> None:
    releases, alarmed = 300, 0
    for seed in range(releases):
        *past, new = history(21, seed=seed)
        alarmed += bool(compare_release(new, past).alarms)
    assert alarmed / releases <= 0.05 + 2.33 * math.sqrt(0.05 * 0.95 / releases)
