"""Regressions planted into a real deployment, caught by measuring it in turns with the one it replaces, and named."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_mooncake.analysis.regression.versus import Versus
from tests.support.regressions import Gateway, another_engine, in_turns, old_deployment, store_of, throttle
from tests.support.sabotage import running_store

pytestmark = [pytest.mark.stack, pytest.mark.full]

HIT_SHARE, WARM_TTFT = "warm.hit_share", "warm.ttft_mean_ms"


def sentence_of(found: Versus, metric: str) -> str:
    return next(one.words for one in found.metrics if one.metric == metric)


def test_a_larger_chunk_is_named_as_a_lower_hit_share(tmp_path: Path) -> None:
    """LMCache stores whole chunks only: of 2,304 tokens two of 1,024 stay, where nine of 256 were."""
    with (
        old_deployment(tmp_path) as old,
        another_engine(tmp_path, store_of(old), "connector:\n  chunk_tokens: 1024\n") as new,
    ):
        found = in_turns(tmp_path, new=new, old=old.engines[0].url)
    assert HIT_SHARE in found.slower, found.text
    assert "slower" in sentence_of(found, HIT_SHARE)
    ratio = next(one.ratio for one in found.metrics if one.metric == HIT_SHARE)
    assert ratio == pytest.approx(2048 / 2303, rel=1e-3)


def test_a_replica_without_its_connector_is_named_as_a_lower_hit_share_and_a_higher_ttft(tmp_path: Path) -> None:
    """Every second request meets an engine that was rolled out without its connector: HTTP 200, and no hit."""
    with ExitStack() as held:
        old = held.enter_context(old_deployment(tmp_path))
        bare = held.enter_context(another_engine(tmp_path, store_of(old), "connector:\n  kind: none\n"))
        new = held.enter_context(Gateway((old.engines[0].url, bare)).serving())
        found = in_turns(tmp_path, new=new, old=old.engines[0].url)
    assert {HIT_SHARE, WARM_TTFT} <= set(found.slower), found.text
    ratio = next(one.ratio for one in found.metrics if one.metric == HIT_SHARE)
    assert ratio is not None
    assert ratio <= 0.6, "of two requests one at most is served twice by the engine that has it"


@pytest.mark.skipif(shutil.which("tc") is None, reason="tc (iproute2) is not here")
def test_a_throttled_store_is_named_as_a_higher_warm_ttft_at_the_same_hit_share(tmp_path: Path) -> None:
    with ExitStack() as held:
        old = held.enter_context(old_deployment(tmp_path))
        slow = running_store(held, tmp_path)
        new = held.enter_context(another_engine(tmp_path, slow.options))
        throttle(slow.node_pid, "40mbit")
        found = in_turns(tmp_path, new=new, old=old.engines[0].url)
    assert WARM_TTFT in found.slower, found.text
    assert HIT_SHARE not in found.slower, "what is slow is not what is missing"
