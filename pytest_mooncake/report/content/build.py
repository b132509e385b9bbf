"""The report of a recorded run, made from its plan, stack, rounds and judgement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from pytest_mooncake.analysis.audit.store_need import budget_not_kept
from pytest_mooncake.analysis.claims.client_validity import closed_loop_slots, saturation
from pytest_mooncake.analysis.cold_tax import ColdTax, cold_tax
from pytest_mooncake.analysis.figures.summary import Summary, summarise
from pytest_mooncake.analysis.regression.release import ReleaseFinding
from pytest_mooncake.analysis.regression.versus import Versus
from pytest_mooncake.plan.models import EconomicsPlan, Plan
from pytest_mooncake.records import ClientHealth, Crash, Judgement, Kind, Phase, Round, StackView, Trial
from pytest_mooncake.report.content.business import case_of_run
from pytest_mooncake.report.content.document import (
    NOT_COMPARED,
    RELEASE,
    ClientSummary,
    Protocol,
    Report,
    TrendRun,
    TrialFigures,
)
from pytest_mooncake.report.content.physical_limits import limits_of
from pytest_mooncake.report.content.setting import setting_of


class Beside(TypedDict, total=False):
    """What was measured or found beside the chain, each where it was asked for.

    Attributes:
        without_cache: cold rounds on an engine without a connector.
        versus: the new and the old endpoint in turns.
        release: what the history says of this release.
        past: comparable runs of the history, this one last.
        beside: why parts beside the run were not measured to their end, as the journal says.
        crash: the error of this package itself that ended the measurement.
    """

    without_cache: Sequence[Round]
    versus: Versus | None
    release: ReleaseFinding | None
    past: Sequence[TrendRun]
    beside: Mapping[str, str] | None
    crash: Crash | None


def build(
    plan: Plan,
    view: StackView,
    rounds: Sequence[Round],
    judgement: Judgement,
    environment: Mapping[str, Any],
    *,
    economics: EconomicsPlan | None,
    **extras: Unpack[Beside],
) -> Report:
    """Make the report of a recorded run; its figures cover the valid rounds of the chain only.

    Args:
        plan: what was run.
        view: the stack it ran against.
        rounds: every round of the run, the left-out one included.
        judgement: what the run came to.
        environment: versions, hardware, git state and `started_at`, as the journal holds them.
        economics: costs for the business case, if any.
        extras: what was measured or found beside the chain.
    """
    sides, setting = _sides(rounds, judgement.trials), setting_of(plan, view, environment, rounds)
    tokens, tax = setting.prompt_tokens, _cold_tax(plan, rounds, judgement, extras.get("without_cache", ()))
    versus, release = extras.get("versus"), extras.get("release")
    made = {"cold_tax": tax, "versus": versus, RELEASE: release}
    return Report(
        **_named(plan, view, sides),
        **_measured(rounds, judgement, closed_loop_slots(plan)),
        setting=setting,
        environment=environment,
        economics=case_of_run(plan, view, judgement, economics, tax, tokens) if economics else None,
        cold_tax=tax,
        versus=versus,
        release=release,
        past=tuple(extras.get("past", ())),
        beside_not_made=_beside_not_made(plan, made, extras.get("beside") or {}),
        crash=extras.get("crash"),
        limits=limits_of(plan, view, sides["cold"], sides["warm"], tokens),
    )


def _beside_not_made(plan: Plan, made: Mapping[str, object], why: Mapping[str, str]) -> dict[str, str]:
    """What was planned beside the run and is not there, or not whole, and why."""
    planned = {"cold_tax": plan.cold_tax, "versus": plan.versus is not None, RELEASE: plan.compares_release}
    return {
        name: why.get(name) or (NOT_COMPARED if name == RELEASE else "the run ended before it")
        for name, found in made.items()
        if planned[name] and (found is None or name in why)
    }


def _measured(rounds: Sequence[Round], judgement: Judgement, slots: int | None) -> dict[str, Any]:
    """How it was measured: trials, protocol, the client's own error, and the records themselves."""
    return {
        "trials": _trial_figures(rounds, judgement.trials),
        "protocol": _protocol(rounds, judgement.trials),
        "judgement": judgement,
        "client": _client(rounds, slots),
        "rounds": tuple(rounds),
    }


def _named(plan: Plan, view: StackView, sides: _Sides) -> dict[str, Any]:
    """Which run it was, what was asked of it, and what every output must say of its stack."""
    return {
        "run_id": plan.run_id,
        "label": plan.label,
        "targets": plan.targets.claims,
        "plan": plan.model_dump(mode="json"),
        "simulated": view.simulated,
        **sides,
        "notes": (*view.notes, *filter(None, (budget_not_kept(plan, view),)), *_untold(sides)),
    }


def _untold(sides: _Sides) -> tuple[str, ...]:
    """What every output must say where nobody tells how the tokens of an answer lie in its chunks."""
    both = (sides["cold"], sides["warm"])
    unsplit = sum(side.unsplit for side in both)
    if not unsplit:
        return ()
    answers = sum(side.requests - side.failed for side in both)
    return (
        f"ITL unknown: the server does not tell how many tokens each chunk carries ({unsplit:,} of {answers:,} "
        "answers). Gaps between chunks are reported instead, and TPOT is estimated: the first chunk counts as a mean "
        "one.",
    )


def _cold_tax(
    plan: Plan, rounds: Sequence[Round], judgement: Judgement, without_cache: Sequence[Round]
) -> ColdTax | None:
    counted = _counted_rounds(rounds, judgement.trials)
    cold, warm = ([r for r in counted if r.kind is kind] for kind in (Kind.COLD, Kind.WARM))
    two_sided = 2 * plan.targets.confidence - 1  # as the claims' intervals are
    return cold_tax(without_cache, cold, warm, confidence=round(two_sided, 9))


def _chain(rounds: Iterable[Round]) -> list[Round]:
    return [r for r in rounds if r.phase is Phase.CHAIN]


def _counted_rounds(rounds: Sequence[Round], trials: Sequence[Trial]) -> list[Round]:
    """Chain rounds that belong to a valid trial, or all of the chain where no trial was completed."""
    chain = _chain(rounds)
    if not trials:
        return chain
    used = {number for t in trials if t.valid for number in (t.cold, t.warm, t.cold_after)}
    return [r for r in chain if r.round in used]


class _Sides(TypedDict):
    """The two sides of the comparison."""

    cold: Summary
    warm: Summary


def _sides(rounds: Sequence[Round], trials: Sequence[Trial]) -> _Sides:
    counted = _counted_rounds(rounds, trials)
    cold, warm = (summarise([r for r in counted if r.kind is kind]) for kind in (Kind.COLD, Kind.WARM))
    return _Sides(cold=cold, warm=warm)


def _trial_figures(rounds: Sequence[Round], trials: Sequence[Trial]) -> tuple[TrialFigures, ...]:
    summaries = {r.round: summarise([r]) for r in _chain(rounds)}
    return tuple(
        TrialFigures(
            index=trial.index,
            valid=trial.valid,
            reasons=trial.reasons,
            cold=summaries.get(trial.cold),
            warm=summaries.get(trial.warm),
            cold_after=None if trial.cold_after is None else summaries.get(trial.cold_after),
        )
        for trial in trials
    )


def _protocol(rounds: Sequence[Round], trials: Sequence[Trial]) -> Protocol:
    settles = [r.settle for r in _chain(rounds) if r.kind is Kind.COLD and r.settle]
    seconds = [s.seconds for s in settles]
    return Protocol(
        rounds=len(rounds),
        trials=len(trials),
        invalid_trials=sum(not t.valid for t in trials),
        settle_mean_s=sum(seconds) / len(seconds) if seconds else None,
        settle_max_s=max(seconds, default=None),
        settle_how=settles[-1].how if settles else None,
    )


def _client(rounds: Sequence[Round], slots: int | None) -> ClientSummary:
    chain = _chain(rounds)
    health = [r.client for r in chain]
    cpu_s = sum(h.cpu_s or 0.0 for h in health)
    chunks = sum(h.chunks for h in health if h.cpu_s is not None)
    return ClientSummary(
        loop_lag_ms={
            "p50": _worst(health, "loop_lag_p50_ms"),
            "p99": _worst(health, "loop_lag_p99_ms"),
            "max": _worst(health, "loop_lag_max_ms"),
        },
        send_delay_ms={
            "mean": _worst(health, "send_delay_mean_ms"),
            "p99": _worst(health, "send_delay_p99_ms"),
            "max": _worst(health, "send_delay_max_ms"),
        },
        bias_ms=_worst(health, "bias_ms"),
        itl_bias_ms=_worst(health, "itl_bias_ms"),
        error_p99_ms=_worst(health, "error_p99_ms"),
        cpu_us_per_chunk=cpu_s * 1e6 / chunks if chunks else None,
        saturated=any(_is_saturated(r, slots) for r in chain) if chain else None,
    )


def _worst(health: Sequence[ClientHealth], name: str) -> float | None:
    values = [v for h in health if (v := getattr(h, name)) is not None]
    return max(values, key=abs, default=None)


def _is_saturated(measured: Round, slots: int | None) -> bool:
    ttft_mean_ms = summarise([measured]).ttft_ms.mean
    return saturation(measured, slots=slots, ttft_mean_ms=ttft_mean_ms) is not None
