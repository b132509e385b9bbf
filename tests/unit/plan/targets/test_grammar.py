"""Targets as people write them become numbers, and what cannot be read is refused with what to write instead."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.plan.targets.grammar import ParsedTarget, parse_target
from pytest_mooncake.plan.targets.metrics import NAMED

TTFT, RATE, TPOT, SHARE = (NAMED[n] for n in ("ttft_mean", "request_throughput", "tpot_mean", "cached_share"))


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("down >= 60 %", 0.4), ("down ≥ 60%", 0.4), ("-60 %", 0.4), ("−60%", 0.4), ("Down by at least 60 %", 0.4),
        ("降低 ≥60%", 0.4), ("<= 0.4x", 0.4), ("≤ ×0.4", 0.4), ("at most 0.4x", 0.4), ("down 66.7 %", 0.333),
    ],
)  # fmt: skip
def test_a_fall_is_a_ratio_below_one(text: str, ratio: float) -> None:
    parsed = parse_target(text, TTFT)
    assert (parsed.direction, parsed.ratio, parsed.bound) == ("lower", ratio, None)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("up >= 150 %", 2.5), ("up ≥ 150%", 2.5), ("+150 %", 2.5), ("提升 ≥150%", 2.5), (">= 2.5x", 2.5),
        ("≥ 2.5×", 2.5), ("at least 2.5 x", 2.5), ("up by 5 %", 1.05),
    ],
)  # fmt: skip
def test_a_rise_adds_to_one(text: str, ratio: float) -> None:
    parsed = parse_target(text, RATE)
    assert (parsed.direction, parsed.ratio) == ("higher", ratio)


@pytest.mark.parametrize("text", ["within +-10 %", "within ±10 %", "±10%", "within 10 %", "+/-10 %"])
def test_within_is_two_sided(text: str) -> None:
    assert parse_target(text, TPOT) == ParsedTarget(direction="equivalent", ratio=1.1, stated="±10 %")


@pytest.mark.parametrize(
    ("text", "margin", "ratio"),
    [
        ("stable", None, 1.1), ("保持稳定", None, 1.1), ("stable within 5 %", None, 1.05), ("stable", 0.02, 1.02),
        ("not worse than 5 %", None, 1.05), ("not worse than +5 %", None, 1.05), ("stable, 5 %", 0.05, 1.05),
    ],
)  # fmt: skip
def test_stable_is_not_worse_than_its_margin(text: str, margin: float | None, ratio: float) -> None:
    assert parse_target(text, TPOT, margin).ratio == ratio
    assert parse_target(text, TPOT, margin).direction == "lower"
    assert parse_target(text, RATE, margin).ratio == pytest.approx(2 - ratio)
    assert parse_target(text, RATE, margin).direction == "higher"


@pytest.mark.parametrize(
    ("text", "metric", "direction", "bound", "rounds"),
    [
        ("<= 450 ms", "ttft_mean", "lower", 450, "warm"),
        ("≤ 0.45 s", "ttft_p90", "lower", 450, "warm"),
        ("at most 450000 us", "ttft_p90", "lower", 450, "warm"),
        ("<= 2 s cold", "ttft_mean", "lower", 2000, "cold"),
        ("<= 2 s in cold rounds", "ttft_mean", "lower", 2000, "cold"),
        (">= 7 req/s", "request_throughput", "higher", 7, "warm"),
        (">= 420 req/min", "request_throughput", "higher", 7, "warm"),
        (">= 900 tok/s", "output_token_throughput", "higher", 900, "warm"),
        ("<= 2 min", "makespan", "lower", 120, "warm"),
        (">= 99 %", "cached_share", "higher", 0.99, "warm"),
        (">= 0.99", "cached_share", "higher", 0.99, "warm"),
        ("<= 5 %", "stall_share", "lower", 0.05, "warm"),
        (">= 500 ms cold", "ttft_mean", "higher", 500, "cold"),
    ],
)
def test_a_bound_is_kept_in_the_metrics_own_unit(
    text: str, metric: str, direction: str, bound: float, rounds: str
) -> None:
    parsed = parse_target(text, NAMED[metric])
    assert (parsed.direction, parsed.bound, parsed.rounds, parsed.ratio) == (direction, bound, rounds, None)


@pytest.mark.parametrize(
    ("text", "metric", "stated"),
    [
        ("down >= 60 %", "ttft_mean", "-60 %"), ("up >= 150 %", "request_throughput", "+150 %"),
        (">= 2.5x", "request_throughput", "≥ ×2.5"), ("<= 0.4x", "ttft_mean", "≤ ×0.4"),
        ("stable", "tpot_mean", "stable"),
        ("not worse than 5 %", "tpot_mean", "≤ 5 % worse"), ("<= 450 ms", "ttft_mean", "≤ 450 ms"),
        ("<= 2 s cold", "ttft_mean", "≤ 2 s (cold)"), (">= 99 %", "cached_share", "≥ 99 %"),
    ],
)  # fmt: skip
def test_a_target_is_stated_in_few_words(text: str, metric: str, stated: str) -> None:
    assert parse_target(text, NAMED[metric]).stated == stated


@pytest.mark.parametrize(
    ("text", "metric", "message"),
    [
        ("60", "ttft_mean", "'60' is no target; write 'down >= 60 %'"),
        ("60 %", "ttft_mean", "is no target"),
        ("<= 1,450 ms", "ttft_mean", "is no target"),
        ("down >= 100 %", "ttft_mean", "nothing falls by 100 %"),
        (">= 60 %", "ttft_mean", "a change is written 'down >= 60 %'"),
        (">= 60 %", "request_throughput", "a change is written 'up >= 60 %'"),
        ("<= 450", "ttft_mean", "no unit is given for ttft_mean; write one of: ms, s, us"),
        ("<= 450 req/s", "ttft_mean", "'req/s' does not fit for ttft_mean"),
        ("up >= 150 %", "ttft_mean", "asks ttft_mean to be higher, which is worse"),
        ("down >= 10 %", "request_throughput", "asks request_throughput to be lower"),
        (">= 450 ms", "ttft_mean", "asks ttft_mean to be higher"),
        (">= 120 %", "cached_share", "a share lies between 0 and 100 %"),
        (">= 0x", "request_throughput", "must be above 0"),
        ("within 0 %", "tpot_mean", "a margin must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, metric: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_target(text, NAMED[metric])


@pytest.mark.parametrize(
    ("text", "margin", "message"),
    [("down 60 %", 0.1, "has no margin"), ("stable 5 %", 0.1, "give it once"), ("<= 5 ms", 0.1, "has no margin")],
)
def test_a_margin_belongs_to_stable_alone_and_is_given_once(text: str, margin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_target(text, TPOT, margin)


def test_a_margin_that_allows_everything_is_refused_for_throughput() -> None:
    with pytest.raises(ValueError, match="allows everything"):
        parse_target("not worse than 100 %", RATE)


@given(st.integers(1, 99))
def test_a_fall_in_percent_and_its_factor_are_the_same_target(percent: int) -> None:
    by_percent = parse_target(f"down >= {percent} %", TTFT)
    by_factor = parse_target(f"<= {(100 - percent) / 100:g}x", TTFT)
    assert by_percent.ratio == by_factor.ratio
    assert by_percent.direction == by_factor.direction


@given(st.text(max_size=30), st.sampled_from(sorted(NAMED)))
def test_any_text_is_read_or_refused_in_words(text: str, metric: str) -> None:
    parsed = None
    with contextlib.suppress(ValueError):
        parsed = parse_target(text, NAMED[metric])
    assert parsed is None or (parsed.ratio is None) != (parsed.bound is None)


@pytest.mark.parametrize(
    ("text", "metric", "bound"),
    [
        ("<= 1500 ms", "makespan", 1.5), ("<= 2 s", "makespan", 2), ("<= 1.5 min", "makespan", 90),
        (">= 7 rps", "goodput", 7), (">= 7 requests/s", "goodput", 7), (">= 7 token/s", "output_token_throughput", 7),
        (">= 7 tokens/s", "output_token_throughput", 7), (">= 100 %", "cached_share", 1), (">= 1", "cached_share", 1),
        ("<= 3 us", "itl_p99", 0.003),
    ],
)  # fmt: skip
def test_every_unit_has_its_factor(text: str, metric: str, bound: float) -> None:
    assert parse_target(text, NAMED[metric]).bound == bound


@pytest.mark.parametrize(
    ("text", "metric", "refused"),
    [
        (">= 0.5x", "ttft_mean", False), (">= 1x", "ttft_mean", False), (">= 1.01x", "ttft_mean", True),
        ("<= 2x", "request_throughput", False), ("<= 1x", "request_throughput", False),
        ("<= 0.99x", "request_throughput", True), ("<= 2x", "ttft_mean", False), (">= 0.5x", "goodput", False),
    ],
)  # fmt: skip
def test_only_what_asks_a_metric_to_get_worse_is_refused(text: str, metric: str, refused: bool) -> None:
    """A limit on how much a metric may improve is odd but means something; one that it must worsen does not."""
    with pytest.raises(ValueError, match="which is worse") if refused else contextlib.nullcontext():
        parse_target(text, NAMED[metric])
