"""What stands beside a verdict in every output: remarks, outlook and feasibility, as plain values for reports.

Each part carries its sentence in both languages (`text`, `text_zh`) beside its figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.audit.feasibility import Probe, feasibility
from pytest_mooncake.analysis.figures.summary import summarise
from pytest_mooncake.analysis.outlook.forecast import Forecast, outlook
from pytest_mooncake.analysis.statistics.levels import nominal_level
from pytest_mooncake.analysis.statistics.looks import LEAST_TESTABLE
from pytest_mooncake.analysis.statistics.power import Design
from pytest_mooncake.records import Claim, Kind, Verdict

if TYPE_CHECKING:
    from pytest_mooncake.plan.targets.models import Target, TargetsPlan
    from pytest_mooncake.records import Round

__all__ = [
    "design_of",
    "feasibility_of",
    "feasibility_of_times",
    "forecast_json",
    "outlook_of",
    "settlement_of",
    "trial_seconds",
]

RERUNS = "a run repeated until it passes does not keep to 5 %: with three reruns it is 12 to 17 %"
RERUNS_ZH = "反复重跑直至通过，误判率不再是 5 %：重跑三次为 12 至 17 %"
RUNS = 2_000
"""Simulated runs of an outlook between two trials: it must not cost what the client needs."""


def design_of(targets: TargetsPlan, looks: tuple[int, ...]) -> Design | None:
    """The sequential design of a run; `None` where no look can test anything."""
    testable = tuple(look for look in looks if look >= LEAST_TESTABLE)
    if not testable:
        return None
    return Design(looks=testable, level=nominal_level(testable, round(1 - targets.confidence, 9)))


def outlook_of(
    targets: TargetsPlan, looks: tuple[int, ...], claims: Sequence[Claim], rounds: Sequence[Round], trials: int
) -> dict[str, Any] | None:
    """How long it will still take and which claim binds, from the claims of the last look.

    Args:
        targets: of the run.
        looks: its design.
        claims: as judged at the last look.
        rounds: valid chain rounds, for how long a trial takes.
        trials: valid trials so far.

    Returns:
        Figures and sentences; `None` before the first look, after the last one, or where no claim could be tested.
    """
    design = design_of(targets, looks)
    if design is None or not design.looks[0] <= trials < design.looks[-1]:
        return None
    seen = outlook(design, claims, trial_s=trial_seconds(rounds), done=trials, runs=RUNS)
    return None if seen is None else forecast_json(seen)


def forecast_json(seen: Forecast) -> dict[str, Any]:
    """A forecast as plain values."""
    return {
        "trials": seen.trials,
        "minutes": seen.minutes,
        "passes": seen.passes,
        "alone": {name: tuple(share) for name, share in seen.alone.items()},
        "binding": seen.binding,
        "least_effects": dict(seen.least_effects),
        "text": seen.sentence,
        "text_zh": seen.sentence_zh,
    }


def settlement_of(claims: Sequence[Claim], trial_s: float | None) -> dict[str, Any] | None:
    """What would settle a run that stays undecided: trials, minutes and the claim that needs the most of them.

    `None` where no gating claim is undecided; `trials` is `None` where the estimate lies on its target.
    """
    open_claims = [one for one in claims if one.gating and _is_open(one)]
    if not open_claims:
        return None
    on_target = next((one for one in open_claims if one.details["settling_trials"] is None), None)
    binding = on_target or max(open_claims, key=lambda one: one.details["settling_trials"])
    trials = binding.details["settling_trials"]
    minutes = trials * trial_s / 60 if trials and trial_s else None
    text, text_zh = _settlement_words(binding, trials, minutes)
    return {"trials": trials, "minutes": minutes, "binding": binding.id, "text": text, "text_zh": text_zh}


def _is_open(claim: Claim) -> bool:
    """Whether a claim was tested and its interval holds the target."""
    tested = claim.ci_ratio or claim.details.get("interval")
    return claim.verdict is Verdict.INCONCLUSIVE and bool(tested) and "settling_trials" in claim.details


def _settlement_words(binding: Claim, trials: int | None, minutes: float | None) -> tuple[str, str]:
    title, title_zh = binding.title, binding.details.get("title_zh", binding.title)
    if trials is None:
        return (
            f"more trials alone would hardly settle it: {title} lies on its target; {RERUNS}",
            f"仅增加试验难以判定：{title_zh} 就在目标上；{RERUNS_ZH}",
        )
    long, long_zh = (f" ({minutes:.0f} min)", f"（{minutes:.0f} 分钟）") if minutes else ("", "")
    return (
        f"about {trials} trials{long} in one run planned for them would settle it: {title} needs the most; {RERUNS}",
        f"需要一次事先计划好约 {trials} 次试验{long_zh}的运行：{title_zh} 所需最多；{RERUNS_ZH}",
    )


def trial_seconds(rounds: Sequence[Round]) -> float | None:
    """Mean seconds of one warm and one cold round, with the time they took to settle."""
    seconds = []
    for kind in Kind:
        held = [_seconds(one) for one in rounds if one.kind is kind]
        if not held:
            return None
        seconds.append(math.fsum(held) / len(held))
    return math.fsum(seconds)


def _seconds(one: Round) -> float:
    return (one.ended_ns - one.started_ns) / 1e9 + (one.settle.seconds if one.settle else 0.0)


def feasibility_of(targets: TargetsPlan, rounds: Sequence[Round]) -> dict[str, Any] | None:
    """Whether the throughput asked for can come from the cut of TTFT that was measured, in a closed loop.

    Args:
        targets: of the run.
        rounds: the cold and warm rounds measured so far; they are the probe of k and ρ.

    Returns:
        Figures and sentences; `None` where no throughput is asked for or a kind of rounds is missing.
    """
    cold, warm = (summarise([one for one in rounds if one.kind is kind]) for kind in (Kind.COLD, Kind.WARM))
    return feasibility_of_times(
        targets, ttft_ms=(cold.ttft_ms.mean, warm.ttft_ms.mean), e2e_ms=(cold.e2e_ms.mean, warm.e2e_ms.mean)
    )


def feasibility_of_times(
    targets: TargetsPlan, *, ttft_ms: tuple[float | None, float | None], e2e_ms: tuple[float | None, float | None]
) -> dict[str, Any] | None:
    """The same from mean TTFT and mean end-to-end latency of a request, cold and warm."""
    asked = next((one for one in targets.claims if _asks_throughput(one)), None)
    decode = [None if end is None or first is None else end - first for first, end in zip(ttft_ms, e2e_ms, strict=True)]
    probe = Probe.of_times(ttft_ms[0], *decode)
    if asked is None or asked.ratio is None or probe is None or not ttft_ms[0] or ttft_ms[1] is None:
        return None
    cut = 1 - ttft_ms[1] / ttft_ms[0]
    found = asdict(feasibility(probe, throughput_ratio=asked.ratio, ttft_cut=cut))
    text, text_zh = found.pop("sentence"), found.pop("sentence_zh")
    figures = {"k": probe.k, "rho": probe.rho, "ttft_cut": cut, "asked_ratio": asked.ratio, **found}
    known = {
        key: value if not isinstance(value, float) or math.isfinite(value) else None for key, value in figures.items()
    }
    return {**known, "text": text, "text_zh": text_zh}


def _asks_throughput(target: Target) -> bool:
    return target.metric == "request_throughput" and target.direction == "higher" and target.gating
