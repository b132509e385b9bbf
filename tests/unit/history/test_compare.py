"""Two releases side by side: a ratio a metric, or words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import UsageError
from pytest_mooncake.history.compare import Change, changes, comparable, higher_is_better, levels
from tests.support.made_runs import made_run

TTFT = "warm.ttft_mean_ms"
POSITIVE = st.floats(1e-3, 1e6)


@given(st.lists(POSITIVE, min_size=1, max_size=9))
def test_the_level_of_several_runs_lies_between_them_and_multiplies(values: list[float]) -> None:
    level = levels([made_run(str(i), {TTFT: value}) for i, value in enumerate(values)])[TTFT]
    doubled = levels([made_run(str(i), {TTFT: 2 * value}) for i, value in enumerate(values)])[TTFT]
    assert min(values) * (1 - 1e-9) <= level <= max(values) * (1 + 1e-9)
    assert doubled == pytest.approx(2 * level)


def test_a_share_of_zero_has_an_arithmetic_mean() -> None:
    assert levels([made_run("a", {"warm.hit_share": 0.0}), made_run("b", {"warm.hit_share": 1.0})])[
        "warm.hit_share"
    ] == pytest.approx(0.5)


@given(POSITIVE, POSITIVE)
def test_worse_means_longer_times_and_less_throughput(before: float, after: float) -> None:
    time = Change(metric=TTFT, before=before, after=after).worse_share
    rate = Change(metric="warm.request_throughput", before=after, after=before).worse_share
    assert time == pytest.approx(after / before - 1)
    assert rate == pytest.approx(time)


@pytest.mark.parametrize(("before", "after"), [(None, 1.0), (1.0, None), (0.0, 1.0)])
def test_what_was_not_measured_has_no_ratio(before: float | None, after: float | None) -> None:
    change = Change(metric=TTFT, before=before, after=after)
    assert (change.ratio, change.worse_share) == (None, None)


def test_a_hit_share_that_is_gone_is_worse_without_end() -> None:
    assert Change(metric="warm.hit_share", before=0.9, after=0.0).worse_share == math.inf


@pytest.mark.parametrize(
    ("metric", "higher"),
    [(TTFT, False), ("warm.hit_share", True), ("cold.output_token_throughput", True), ("ratio.tpot_mean", False)],
)
def test_which_way_is_better_follows_from_the_name(metric: str, higher: bool) -> None:
    assert higher_is_better(metric) is higher


def test_a_metric_of_one_side_only_is_listed_with_the_other_missing() -> None:
    bare = made_run("b", metrics={})
    found = {one.metric: one for one in changes([made_run(metrics={"cold.extra": 1.0})], [bare])}
    assert (found["cold.extra"].before, found["cold.extra"].after) == (1.0, None)
    assert found[TTFT].ratio == pytest.approx(1.0)


def test_other_fingerprints_are_refused_and_every_part_that_differs_is_named() -> None:
    old = made_run("old", fingerprint="e" * 24, parts={"workload.prompt_tokens": 16384, "hardware.cpu": "A"})
    new = made_run("new", parts={"workload.prompt_tokens": 4096, "hardware.cpu": "B"})
    with pytest.raises(UsageError) as caught:
        comparable([old], [new])
    assert str(caught.value) == (
        "not comparable: hardware.cpu B here, A there; workload.prompt_tokens 4096 here, 16384 there "
        "(new here, old there)"
    )


def test_of_releases_that_ran_on_several_machines_the_newest_common_one_is_compared() -> None:
    here, there = "a" * 24, "b" * 24
    old = [made_run("1", fingerprint=here), made_run("2", fingerprint=there)]
    new = [made_run("3", fingerprint=there), made_run("4", fingerprint=here), made_run("5", fingerprint="c" * 24)]
    before, after = comparable(old, new)
    assert ([one.id for one in before], [one.id for one in after]) == (["1"], ["4"])
