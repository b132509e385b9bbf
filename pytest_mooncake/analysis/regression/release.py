"""What a release comes to: the alarm of its history, and whether turns with the old endpoint confirm it.

FAIL takes both. An alarm that is not confirmed is INCONCLUSIVE; what could not be compared is said, and is no PASS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mooncake.analysis.regression.alarm import Comparison, Standing, change
from pytest_mooncake.analysis.regression.versus import Versus
from pytest_mooncake.records import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFinding:
    """What a release came to. `verdict` is `None` where it could not be compared."""

    verdict: Verdict | None
    words: str
    comparison: Comparison
    confirmed: tuple[str, ...] = ()
    """Metrics that alarmed and were slower in turns with the old endpoint as well."""

    @property
    def text(self) -> str:
        """What was found, as one sentence of a report."""
        verdict = self.verdict.value if self.verdict else "not judged"
        return f"release against its history: {verdict}: {self.words}"

    @property
    def text_zh(self) -> str:
        """The same in Chinese, without what each metric could have shown."""
        word = "未判定" if self.verdict is None else _ZH[self.verdict]
        compared = (
            f"用 {self.comparison.runs} 次历史运行比较了 {self.comparison.compared}/{self.comparison.asked} 项指标"
        )
        alarms = "、".join(f"{one.metric} {change(one.ratio)}" for one in self.comparison.alarms)
        expected = f"每年误报不超过 {self.comparison.false_alarms_a_year:.1f} 次"
        return f"与历史版本比较：{word}；{compared}；{f'告警：{alarms}' if alarms else '无告警'}；{expected}"

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`."""
        verdict = self.verdict.value if self.verdict else None
        compared = self.comparison.to_json()
        return {"verdict": verdict, "words": self.words, "confirmed": list(self.confirmed), "comparison": compared}


_ZH = {Verdict.PASS: "通过", Verdict.FAIL: "未通过", Verdict.INCONCLUSIVE: "未决", Verdict.INVALID: "无效"}


def gated(run: Verdict, release: ReleaseFinding | None, versus: Versus | None) -> Verdict:
    """The verdict on which a pipeline acts, from that of the run, of its release, and of turns with the old endpoint.

    A failed request of the new endpoint is a FAIL; else an INVALID run says nothing of anything. Slower in turns alone,
    or undecided, is INCONCLUSIVE: FAIL takes an alarm of the history as well. What could not be compared changes
    nothing.

    >>> gated(Verdict.PASS, None, None)
    <Verdict.PASS: 'PASS'>
    """
    if versus is not None and versus.failed_new:
        return Verdict.FAIL
    found = {run}
    if release is not None and release.verdict is not None:
        found.add(release.verdict)
    if versus is not None:
        found.add(versus.verdict)
    if run is Verdict.INVALID:
        return run
    return next(one for one in (Verdict.FAIL, Verdict.INVALID, Verdict.INCONCLUSIVE, Verdict.PASS) if one in found)


def finding_of(comparison: Comparison, versus: Versus | None) -> ReleaseFinding:
    """Alarm and confirmation together."""
    if comparison.standing is not Standing.COMPARED:
        return ReleaseFinding(verdict=None, words=comparison.words, comparison=comparison)
    alarms = dict.fromkeys(one.metric for one in comparison.alarms)
    if not alarms:
        verdict = Verdict.PASS if comparison.compared == comparison.asked else None
        words = "; ".join((comparison.words, *comparison.not_compared))
        return ReleaseFinding(verdict=verdict, words=words, comparison=comparison)
    confirmed = tuple(name for name in alarms if versus is not None and name in versus.slower)
    said = "; ".join(one.words for one in comparison.alarms)
    return ReleaseFinding(
        verdict=Verdict.FAIL if confirmed else Verdict.INCONCLUSIVE,
        words=f"{said}; {_confirmation(confirmed, versus)}; {comparison.words}",
        comparison=comparison,
        confirmed=confirmed,
    )


def _confirmation(confirmed: Sequence[str], versus: Versus | None) -> str:
    if versus is None:
        return "not confirmed: give --mooncake-url NEW and --mooncake-versus OLD to measure both in turns"
    return f"confirmed by {versus.text}" if confirmed else f"not confirmed by {versus.text}"
