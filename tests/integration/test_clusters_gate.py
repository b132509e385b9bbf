"""Clusters whose cached answers are wrong, or cannot be checked: never passed, and a healthy one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clusters import FAILED, NOT_PASSED, Case, assert_right

CASES = (
    Case(name="cache_salt is refused", cluster=("--no-salt",)),
    Case(name="no alternatives at all", cluster=("--tops", "null")),
    Case(name="an empty list of alternatives", cluster=("--tops", "empty")),
    Case(name="one request fails", cluster=("--fail-index", "15"), verdicts=FAILED),
    Case(
        name="the gate never answers",
        cluster=("--hang-gate",),
        options=("--mooncake-timeout=run=60",),
        verdicts=NOT_PASSED,
    ),
    Case(name="every cached answer is wrong, one alternative", cluster=("--wrong-bytes",), verdicts=NOT_PASSED),
    Case(name="every cached answer is wrong, five alternatives", cluster=("--wrong-bytes", "--five"), verdicts=FAILED),
    Case(
        name="every cached answer is wrong, and the prefix cache would answer the gate",
        cluster=("--apc", "--wrong-bytes", "--five"),
        options=("--mooncake-allow-clear",),
        verdicts=FAILED,
    ),
    Case(
        name="every cached answer is wrong, behind replicas whose prefix caches would answer the gate",
        cluster=("--replicas", "2", "--per-request", "--apc", "--wrong-bytes", "--five"),
        verdicts=FAILED,
        said=("correct_text",),
    ),
    Case(
        name="a healthy LMCache that is sent tags",
        cluster=("--apc", "--lmcache", "--five"),
        options=("--mooncake-allow-clear",),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_suite_says_of_a_cluster_what_is_right(case: Case, tmp_path: Path) -> None:
    assert_right(case, tmp_path)
