"""Clusters as their users run them: replicas, chunk sizes, templates, flaky counters. None is misjudged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clusters import CHAT, Case, assert_right

CASES = (
    Case(name="four tokens a chunk, usage at the end only", cluster=("--per-chunk", "4"), said=("ITL",)),
    Case(name="two replicas, connections dealt out", cluster=("--replicas", "2"), said=("tier unproven",)),
    Case(
        name="two replicas, requests dealt out", cluster=("--replicas", "2", "--per-request"), said=("tier unproven",)
    ),
    Case(name="chunks of 1,024 tokens", cluster=("--chunk", "1024"), prompt_tokens=9000),
    Case(name="chunks of 544 tokens", cluster=("--chunk", "544"), prompt_tokens=9000),
    Case(
        name="chat with a template of whole blocks and a prefix cache",
        cluster=(*CHAT, "--template", "30", "--apc"),
        said=("correctness",),
    ),
    Case(name="chat with a short template", cluster=(*CHAT, "--template", "10", "--apc"), said=("correctness",)),
    Case(name="one 503 of /metrics before the run", cluster=("--flaky", "5")),
    Case(name="one 503 of /metrics in a warm round", cluster=("--flaky", "16")),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_suite_says_of_a_cluster_what_is_right(case: Case, tmp_path: Path) -> None:
    assert_right(case, tmp_path)
