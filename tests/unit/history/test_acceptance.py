"""Accepting a release is a recorded act of a person, and is refused while something is worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.history.acceptance import Act, accept, anchored_runs, level_since
from pytest_mooncake.history.store import History, open_history
from tests.support.made_runs import FINGERPRINT, made_run

TTFT = "warm.ttft_mean_ms"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with open_history("sqlite:///h.sqlite", base=tmp_path) as opened:
        opened.add(made_run("run-1"))
        yield opened


def act(why: str = "measured twice", at: str = "2026-02-01T00:00:00+00:00", **said: object) -> Act:
    return Act(who="somebody", why=why, at=at, **said)  # type: ignore[arg-type]


def add(history: History, run_id: str, metrics: dict[str, float] | None = None, **changes: object) -> None:
    history.add(made_run(run_id, metrics, label="v2", started_at="2026-01-05T00:00:00+00:00", **changes))


def test_who_when_and_why_are_kept(history: History) -> None:
    (anchor,) = accept(history, "v1", act())
    assert history.anchor(FINGERPRINT) == anchor
    assert (anchor.who, anchor.why, anchor.at) == ("somebody", "measured twice", "2026-02-01T00:00:00+00:00")
    assert [run.id for run in anchored_runs(history, FINGERPRINT)] == ["run-1"]


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        (TTFT, 105.1, "warm.ttft_mean_ms is 5.1% worse than the accepted release's, 105.1 after 100, and 5 %"),
        ("warm.request_throughput", 4.7, "warm.request_throughput is 6.4% worse"),
        ("warm.hit_share", 0.0, "warm.hit_share is inf% worse"),
    ],
)
def test_a_release_that_is_more_than_5_percent_worse_is_refused(
    history: History, metric: str, value: float, words: str
) -> None:
    (first,) = accept(history, "v1", act())
    add(history, "run-2", {metric: value})
    with pytest.raises(UsageError, match="nothing was changed") as caught:
        accept(history, "v2", act())
    assert words in str(caught.value)
    assert history.anchor(FINGERPRINT) == first


def test_up_to_5_percent_and_what_does_not_gate_may_be_worse(history: History) -> None:
    accept(history, "v1", act())
    add(history, "run-2", {TTFT: 104.9, "cold.e2e_mean_ms": 1e9})
    assert accept(history, "v2", act())[0].run_ids == ("run-2",)


def test_a_worse_metric_that_is_named_is_accepted_and_stays_on_record(history: History) -> None:
    accept(history, "v1", act())
    add(history, "run-2", {TTFT: 150.0})
    (anchor,) = accept(history, "v2", act(although=(TTFT,)))
    assert anchor.why == "measured twice (although: warm.ttft_mean_ms)"
    assert {one.label for one in history.anchors(FINGERPRINT)} == {"v1", "v2"}


def test_a_metric_that_was_not_measured_is_no_metric_that_is_as_good(history: History) -> None:
    accept(history, "v1", act())
    run = made_run("run-2", label="v2")
    lost = {name: value for name, value in run.metrics.items() if name != "warm.hit_share"}
    history.add(replace(run, metrics=lost))
    with pytest.raises(UsageError, match=r"warm\.hit_share was not measured"):
        accept(history, "v2", act())


@pytest.mark.parametrize("verdict", ["FAIL", "INVALID"])
def test_a_run_that_did_not_hold_is_accepted_only_by_name(history: History, verdict: str) -> None:
    add(history, "run-2", verdict=verdict)
    with pytest.raises(UsageError, match=f"run run-2 is {verdict}"):
        accept(history, "v2", act())
    assert accept(history, "v2", act(although=("verdict",)))[0].run_ids == ("run-2",)


def test_of_two_acts_in_the_same_second_the_later_one_holds(history: History) -> None:
    add(history, "run-2")
    for name in ("v2", "v1", "v2", "v1"):
        accept(history, name, Act(who="somebody", why="in turns"))
    anchor = history.anchor(FINGERPRINT)
    assert anchor is not None
    assert (anchor.label, len(history.anchors())) == ("v1", 4)


def test_a_run_whose_instrument_failed_does_not_stand_in_the_way_of_its_release(history: History) -> None:
    add(history, "run-2", verdict="INVALID", metrics={})
    add(history, "run-3", verdict="INCONCLUSIVE")
    assert accept(history, "v2", act())[0].run_ids == ("run-3",)


def test_a_release_is_accepted_on_all_its_machines_or_on_none(history: History) -> None:
    accept(history, "v1", act())
    other = "e" * 24
    history.add(
        made_run("run-2", {TTFT: 200.0}, label="v2"),
        made_run("run-3", label="v2", fingerprint=other),
    )
    with pytest.raises(UsageError, match="v2 is not accepted"):
        accept(history, "v2", act())
    assert history.anchor(other) is None
    assert len(accept(history, "v2", act(although=(TTFT,)))) == 2


def test_a_new_level_is_where_the_rolling_baseline_starts(history: History) -> None:
    assert level_since(history, FINGERPRINT) is None
    add(history, "run-2")
    accept(history, "v2", act(new_level=True))
    assert level_since(history, FINGERPRINT) == "run-2"
    assert "somebody accepted a new level: measured twice" in history.findings(FINGERPRINT)[0].words


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("v1", act(why="  "), "--why is empty"),
        ("v1", act(although=("warm.tftt",)), "--although warm.tftt: expected one of warm.ttft_mean_ms"),
        ("v9", act(), "'v9'"),
    ],
)
def test_what_cannot_be_meant_is_refused(history: History, name: str, said: Act, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        accept(history, name, said)
    assert words in str(caught.value)
    assert history.anchors() == ()
