"""Sentences about claims, in English and Chinese: the figures first, then what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.figures.interference import CalmDecode
from pytest_mooncake.analysis.figures.metrics import Metric
from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.analysis.statistics.contrast import Contrast, Untestable
from pytest_mooncake.plan.targets.grammar import Direction
from pytest_mooncake.records import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPercentiles:
    """A warm percentile over a cold one, each of all requests of its kind; `why` in words where it has no interval."""

    ratio: float | None
    n_warm: int
    n_cold: int
    why: str | None = None
    why_zh: str | None = None
    measured: bool = True
    """Whether every round has a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimFinding:
    """All that a sentence about one claim needs; ratios are warm/cold."""

    metric: Metric
    direction: Direction
    target_ratio: float | None
    stated: str
    found: Contrast | Untestable | OfPercentiles
    interval: tuple[float, float] | None
    confidence: float
    verdict: Verdict
    trials: int
    next_look: int | None
    settling_trials: int | None
    waiting: bool
    """Whether no look has been reached yet."""


def change(ratio: float) -> str:
    """A ratio as a signed percentage.

    >>> change(0.333), change(2.96)
    ('−66.7 %', '+196.0 %')
    """
    percent = (ratio - 1) * 100
    return f"{'−' if percent < 0 else '+'}{abs(percent):.1f} %"


def times(ratio: float) -> str:
    """A ratio as a factor, three digits that matter.

    >>> times(0.4), times(2.5)
    ('×0.4', '×2.5')
    """
    return f"×{ratio:.3g}"


def asked(finding: ClaimFinding) -> str:
    """The target: its factor and the words of whoever set it."""
    ratio = finding.target_ratio
    if ratio is None:
        return "reported, nothing is asked of it"
    if finding.direction == "equivalent":
        bound = max(ratio, 1 / ratio)
        return f"between {times(1 / bound)} and {times(bound)} asked{_stated(finding, '({})', ' ')}"
    side = "at most" if finding.direction == "lower" else "at least"
    return f"{side} {times(ratio)} asked{_stated(finding, '({})', ' ')}"


def asked_zh(finding: ClaimFinding) -> str:
    """The target in Chinese."""
    ratio = finding.target_ratio
    if ratio is None:
        return "仅报告，未设目标"
    if finding.direction == "equivalent":
        bound = max(ratio, 1 / ratio)
        return f"目标 {times(1 / bound)} 至 {times(bound)}{_stated_zh(finding)}"
    side = "不高于" if finding.direction == "lower" else "不低于"
    return f"目标{side} {times(ratio)}{_stated_zh(finding)}"


def _stated(finding: ClaimFinding, form: str, gap: str = "") -> str:
    """The target's own words; a dash says that nobody set one."""
    return gap + form.format(finding.stated) if finding.stated.strip(" -–—") else ""


def _stated_zh(finding: ClaimFinding) -> str:
    """The same in Chinese, where the one word that targets know is a word of ours."""
    return _stated(finding, "（{}）").replace("（stable）", "（稳定）")


def estimate(finding: ClaimFinding) -> str:
    """Estimate, interval and n."""
    ratio = finding.found.ratio
    if ratio is None:
        return f"{finding.metric.title}: no estimate"
    spread = ""
    if finding.interval:
        low, high = finding.interval
        spread = f", {percent(finding.confidence)} interval {times(low)} to {times(high)}"
    return f"{finding.metric.title} {change(ratio)} ({times(ratio)}{spread}, {trials_words(finding.trials)})"


def estimate_zh(finding: ClaimFinding) -> str:
    """Estimate, interval and n in Chinese."""
    ratio = finding.found.ratio
    if ratio is None:
        return f"{finding.metric.title_zh}：无法估计"
    spread = ""
    if finding.interval:
        low, high = finding.interval
        spread = f"，{percent(finding.confidence)} 区间 {times(low)} 至 {times(high)}"
    return f"{finding.metric.title_zh} {change(ratio)}（{times(ratio)}{spread}，{finding.trials} 次试验）"


def trials_words(count: int) -> str:
    """A number of trials as people say it."""
    return f"{count} trial{'' if count == 1 else 's'}"


def sentence(finding: ClaimFinding, calm: str = "") -> str:
    """The whole reason of a claim in English."""
    return f"{estimate(finding)}; {asked(finding)}{_outcome(finding)}{calm}"


def sentence_zh(finding: ClaimFinding, calm: str = "") -> str:
    """The whole reason of a claim in Chinese."""
    return f"{estimate_zh(finding)}；{asked_zh(finding)}{_outcome_zh(finding)}{calm}"


def _outcome(finding: ClaimFinding) -> str:
    if finding.verdict is Verdict.PASS:
        return ": met, the whole interval lies on the good side"
    if finding.verdict is Verdict.FAIL:
        return ": missed, the whole interval lies on the bad side"
    if isinstance(finding.found, Untestable):
        return f": not tested: {finding.found.reason}"
    if isinstance(finding.found, OfPercentiles) and finding.found.why and not (finding.waiting and finding.next_look):
        more = f"; the next look comes after {trials_words(finding.next_look)}" if finding.next_look else ""
        return f": {finding.found.why}{more}"
    if finding.target_ratio is None:
        return ""
    if finding.waiting:
        return f": not tested yet: the first look comes after {trials_words(finding.next_look or 0)}"
    return f": undecided, the interval holds the target; {what_settles(finding.next_look, finding.settling_trials)}"


def _outcome_zh(finding: ClaimFinding) -> str:
    if finding.verdict is Verdict.PASS:
        return "：达到，整个区间都在好的一侧"
    if finding.verdict is Verdict.FAIL:
        return "：未达到，整个区间都在坏的一侧"
    if isinstance(finding.found, Untestable):
        return f"：未检验：{_untestable_zh(finding.found)}"
    if (
        isinstance(finding.found, OfPercentiles)
        and finding.found.why_zh
        and not (finding.waiting and finding.next_look)
    ):
        more = f"；下一次判定在 {finding.next_look} 次试验之后" if finding.next_look else ""
        return f"：{finding.found.why_zh}{more}"
    if finding.target_ratio is None:
        return ""
    if finding.waiting:
        return f"：尚未检验：第一次判定在 {finding.next_look} 次试验之后"
    return f"：未决，区间包含目标；{what_settles_zh(finding.next_look, finding.settling_trials)}"


def _untestable_zh(found: Untestable) -> str:
    if found.measured:
        return "有轮次该指标为 0，无法构成比值；请改用绝对目标"
    if found.effect is None:
        return "有轮次没有该指标的数据"
    if found.n_warm < 2:
        return "只有一次试验，无法估计轮次之间的波动"
    return "无法估计轮次之间的波动"


def what_settles(next_look: int | None, settling: int | None) -> str:
    """What would decide an undecided claim."""
    if next_look:
        return f"the next look comes after {trials_words(next_look)}"
    if settling:
        return f"with this spread about {settling} trials would settle it"
    return "the estimate lies on the target itself, so more trials alone would hardly settle it"


def what_settles_zh(next_look: int | None, settling: int | None) -> str:
    """The same in Chinese."""
    if next_look:
        return f"下一次判定在 {next_look} 次试验之后"
    if settling:
        return f"按目前的波动，约需 {settling} 次试验"
    return "估计值就在目标上，仅增加试验难以判定"


def improved_not_stable(ratio: float, cold: CalmDecode, warm: CalmDecode) -> tuple[str, str]:
    """What to add when a metric that was to stay stable improved beyond its margin, in English and Chinese."""
    percent = f"−{(1 - ratio) * 100:.0f} %"
    calm, calm_zh = calm_words(cold, warm)
    return (
        f"; improved ({percent}), not 'stable': the cold round's decode was interrupted by prefill{calm}",
        f"；是改善（{percent}），而非“稳定”：无缓存轮次的解码被其他请求的 prefill 打断{calm_zh}",
    )


def calm_words(cold: CalmDecode, warm: CalmDecode) -> tuple[str, str]:
    """TPOT of requests whose decode met no foreign prefill, in English and Chinese."""
    one, other = _calm(cold), _calm(warm)
    return (
        f"; TPOT of requests whose decode met no foreign prefill: cold {one}, warm {other}",
        f"；解码未遇到其他请求 prefill 的请求的 TPOT：无缓存 {one}，有缓存 {other}",
    )


def _calm(decode: CalmDecode) -> str:
    if decode.mean_ms is None:
        return f"– (0/{decode.total})"
    return f"{decode.mean_ms:.2f} ms ({decode.requests}/{decode.total})"
