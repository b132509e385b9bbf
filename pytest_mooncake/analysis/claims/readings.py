"""What the rounds say about a claim in a metric's own unit, as figures and words."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.claims.wording import trials_words, what_settles, what_settles_zh
from pytest_mooncake.analysis.statistics.looks import Look
from pytest_mooncake.records import Verdict

__all__ = ["Reading", "no_data", "outcome", "undecided", "waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the rounds say about a bound, in the metric's own unit; words start after "… asked: "."""

    verdict: Verdict
    estimate: float | None
    interval: tuple[float, float] | None
    words: str
    words_zh: str
    level: float | None = None
    settling_trials: int | None = None


def no_data(missing: int, rounds: str) -> Reading:
    """Rounds without a figure, or none at all."""
    seen = f"{missing} {rounds} rounds have no figure" if missing else f"there is no {rounds} round"
    return Reading(
        verdict=Verdict.INVALID,
        estimate=None,
        interval=None,
        words=f"not tested: {seen} for this metric",
        words_zh="未检验：有轮次没有该指标的数据",
    )


def waiting(estimate: float | None, look: Look) -> Reading:
    """Before the first look, and where there is none."""
    if look.next is None:
        return undecided(estimate, "not tested: no look was reached", "未检验：未到判定点")
    words = f"not tested yet: the first look comes after {trials_words(look.next)}"
    return undecided(estimate, words, f"尚未检验：第一次判定在 {look.next} 次试验之后")


def undecided(estimate: float | None, words: str, words_zh: str) -> Reading:
    """Described and not tested."""
    return Reading(verdict=Verdict.INCONCLUSIVE, estimate=estimate, interval=None, words=words, words_zh=words_zh)


def outcome(verdict: Verdict, look: Look, settling: int | None) -> tuple[str, str]:
    """Where an interval lies, in English and Chinese."""
    if verdict is Verdict.PASS:
        return "met, the whole interval lies on the good side", "达到，整个区间都在好的一侧"
    if verdict is Verdict.FAIL:
        return "missed, the whole interval lies on the bad side", "未达到，整个区间都在坏的一侧"
    return (
        f"undecided, the interval holds the bound; {what_settles(look.next, settling)}",
        f"未决，区间包含目标；{what_settles_zh(look.next, settling)}",
    )
