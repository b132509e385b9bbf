"""Alarm and confirmation together: which word a release gets."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from pytest_mooncake.analysis.regression.alarm import PastRun, compare_release
from pytest_mooncake.analysis.regression.release import ReleaseFinding, finding_of, gated
from pytest_mooncake.analysis.regression.versus import Standing, Versus, VersusMetric
from pytest_mooncake.records import Verdict
from tests.support.past_releases import TTFT, history, run


def turns(standing: Standing, metric: str = TTFT) -> Versus:
    one = VersusMetric(metric=metric, title="warm mean TTFT", ratio=1.2, ci_ratio=(1.1, 1.3), standing=standing)
    return Versus(visits=3, confidence=0.9, metrics=(one,))


def found(slower: float, versus: Versus | None = None) -> ReleaseFinding:
    return finding_of(compare_release(run("new", {TTFT: slower}), history(20)), versus)


def test_no_alarm_over_all_metrics_passes_whatever_turns_say() -> None:
    assert found(1.0).verdict is Verdict.PASS
    assert found(1.0, turns("slower")).verdict is Verdict.PASS


def test_an_alarm_alone_is_inconclusive_and_says_how_to_confirm_it() -> None:
    told = found(1.3)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "not confirmed: give --mooncake-url NEW and --mooncake-versus OLD" in told.words


@pytest.mark.parametrize("standing", ["not slower", "undecided"])
def test_an_alarm_that_turns_do_not_confirm_is_inconclusive(standing: Standing) -> None:
    told = found(1.3, turns(standing))
    assert (told.verdict, told.confirmed) == (Verdict.INCONCLUSIVE, ())
    assert "not confirmed by new against old, 3 visits" in told.words


def test_another_metric_that_is_slower_confirms_no_alarm() -> None:
    assert found(1.3, turns("slower", "warm.tpot_mean_ms")).verdict is Verdict.INCONCLUSIVE


def test_an_alarm_that_is_confirmed_fails() -> None:
    told = found(1.3, turns("slower"))
    assert (told.verdict, told.confirmed) == (Verdict.FAIL, (TTFT,))
    assert "; confirmed by new against old" in told.words
    assert told.text.startswith("release against its history: FAIL: warm mean TTFT +")
    assert "未通过" in told.text_zh


def test_what_could_not_be_compared_is_no_pass() -> None:
    none = finding_of(compare_release(run("new"), []), turns("slower"))
    assert none.verdict is None
    assert none.text == (
        "release against its history: not judged: nothing to compare with: the history holds no earlier run; "
        "10 are needed"
    )
    assert "未判定" in none.text_zh


def test_a_metric_left_out_takes_the_pass_away() -> None:
    bare = PastRun(
        run_id="n", release="n", fingerprint="same", metrics={**run("n").metrics, "warm.hit_share": math.nan}
    )
    told = finding_of(compare_release(bare, history(20)), None)
    assert told.verdict is None
    assert told.words.startswith("compared 4 of 5 metrics")
    assert told.words.endswith("warm hit share: not measured in this run")


def test_it_goes_into_json() -> None:
    told = json.loads(json.dumps(found(1.3, turns("slower")).to_json()))
    assert (told["verdict"], told["confirmed"], told["comparison"]["compared"]) == ("FAIL", [TTFT], 5)


@pytest.mark.parametrize(
    ("verdict", "slower", "versus", "expected"),
    [
        (Verdict.PASS, 1.0, None, Verdict.PASS),
        (Verdict.PASS, 1.3, None, Verdict.INCONCLUSIVE),
        (Verdict.PASS, 1.3, "slower", Verdict.FAIL),
        (Verdict.PASS, 1.0, "slower", Verdict.INCONCLUSIVE),
        (Verdict.PASS, 1.0, "undecided", Verdict.INCONCLUSIVE),
        (Verdict.PASS, 1.0, "not slower", Verdict.PASS),
        (Verdict.INCONCLUSIVE, 1.3, "slower", Verdict.FAIL),
        (Verdict.FAIL, 1.0, "not slower", Verdict.FAIL),
        (Verdict.INVALID, 1.3, "slower", Verdict.INVALID),
    ],
)
def test_a_pipeline_acts_on_the_worst_of_the_run_its_release_and_the_turns(
    verdict: Verdict, slower: float, versus: Standing | None, expected: Verdict
) -> None:
    told = turns(versus) if versus else None
    assert gated(verdict, found(slower, told), told) is expected


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_failed_request_of_the_new_endpoint_fails_whatever_else_was_found(verdict: Verdict) -> None:
    told = replace(turns("not slower"), failed_new=1)
    assert gated(verdict, found(1.0, told), told) is Verdict.FAIL


@pytest.mark.parametrize("changes", [{"failed_old": 1}, {"ended": "killed"}, {"metrics": ()}])
def test_turns_that_could_not_be_compared_to_the_end_are_no_pass(changes: dict[str, Any]) -> None:
    told = replace(turns("not slower"), **changes)
    assert gated(Verdict.PASS, None, told) is Verdict.INCONCLUSIVE


def test_a_release_that_could_not_be_compared_changes_nothing() -> None:
    assert gated(Verdict.PASS, finding_of(compare_release(run("new"), []), None), None) is Verdict.PASS
