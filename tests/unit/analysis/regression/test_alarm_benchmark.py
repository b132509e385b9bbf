"""The benchmark's vectorised alarm is the product's rule, and the promises hold on a small sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.regression.simulate import alarm_rate, alarmed, alarms_over_releases, caught_rate, normal
from pytest_mooncake.analysis.regression.alarm import HIT_SHARE, PastRun, Watched, compare_release

NAMES = ("a", "b", "c", "d", HIT_SHARE.name)
WATCHED = (*(Watched(name=name, title=name, better="lower") for name in NAMES[:4]), HIT_SHARE)


def as_run(name: str, logs: NDArray[Any]) -> PastRun:
    signs = (1, 1, 1, 1, -1)
    figures = {one: math.exp(sign * log) for one, sign, log in zip(NAMES, signs, logs, strict=True)}
    return PastRun(run_id=name, release=name, fingerprint="same", metrics=figures)


def test_the_vectorised_alarm_is_that_of_the_product() -> None:
    made = 0.02 * np.random.default_rng(5).standard_normal((40, 15, 5))
    made[:, -1, :2] += np.linspace(0, 0.2, 40)[:, None]
    found = alarmed(made[:, :-1], made[:, -1])
    for history, alarms in zip(made, found, strict=True):
        *past, new = (as_run(str(i), logs) for i, logs in enumerate(history))
        named = {one.metric for one in compare_release(new, past, watched=WATCHED).alarms}
        assert named == {name for name, alarm in zip(NAMES, alarms, strict=True) if alarm}
    assert 20 < found.sum() < 80


def test_what_is_promised_holds_on_a_small_sample() -> None:
    sizes = {"runs": 4000, "past": 20, "metrics": 5}
    assert alarm_rate(normal, sigma=0.05, **sizes) <= 0.05 + 0.011
    assert caught_rate(normal, sigma=0.02, **sizes) >= 0.95
    ever, confirmed = alarms_over_releases(normal, sigma=0.05, releases=40, confirm=0.05, **sizes | {"runs": 1000})
    assert confirmed <= 0.10 + 0.03 < ever
