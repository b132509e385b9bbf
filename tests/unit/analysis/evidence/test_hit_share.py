"""The share of hits as a number, from the strongest source that tells."""

from __future__ import annotations

from dataclasses import replace

from pytest_mooncake.analysis.evidence.hit_share import warm_hit_share
from pytest_mooncake.records import Kind, Round, StackView
from tests.support import scripted_world as world
from tests.support.scripted_world import EXTERNAL, World, play


def warm_share(warm: Round, cold: Round, view: StackView | None = None) -> float | None:
    return warm_hit_share(warm, view or world.view(), reference=cold)


def test_a_warm_round_that_was_served_wholly_has_a_share_of_one() -> None:
    stack = World()
    cold, warm = play(stack, Kind.COLD), play(stack, Kind.WARM)
    assert warm_share(warm, cold) == 1.0


def test_a_round_that_was_not_served_has_a_share_of_nothing_not_of_none() -> None:
    stack = World()
    cold, warm = play(stack, Kind.COLD), play(stack, Kind.WARM, tier="none")
    assert warm_share(warm, cold) == 0.0


def test_without_engine_counters_the_replies_tell() -> None:
    stack = World(hidden={"engine:0"})
    cold, warm = play(stack, Kind.COLD), play(stack, Kind.WARM)
    short = replace(warm, requests=(replace(warm.requests[0], cached_tokens=0), *warm.requests[1:]))
    assert warm_share(warm, cold) == 1.0
    assert warm_share(short, cold) == (EXTERNAL - 1023) / EXTERNAL


def test_where_chunks_are_unknown_whole_chunks_of_the_usual_size_are_wanted() -> None:
    stack = World(hidden={"engine:0"})
    cold, warm = play(stack, Kind.COLD), play(stack, Kind.WARM)
    without_tails = replace(warm, requests=tuple(replace(r, cached_tokens=3 * 256) for r in warm.requests[:3]))
    short = replace(without_tails, requests=(replace(warm.requests[0], cached_tokens=0), *without_tails.requests[1:]))
    unknown = world.view(kv=None)
    assert warm_share(warm, cold, unknown) == 1.0
    assert warm_share(without_tails, cold, unknown) == 1.0
    assert warm_share(short, cold, unknown) == 2 * 768 / (3 * 768)


def test_a_server_that_tells_nothing_gives_no_share() -> None:
    stack = World(hidden={"engine:0"})
    mute = [
        replace(one, requests=tuple(replace(r, cached_tokens=None) for r in one.requests))
        for one in (play(stack, Kind.COLD), play(stack, Kind.WARM))
    ]
    assert warm_share(mute[1], mute[0]) is None
