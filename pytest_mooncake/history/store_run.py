"""A judged run goes into the history: what of it is kept, and what is said when that fails.

Opened once before anything is measured, so that a history which cannot be reached costs nobody a run; a failure
afterwards costs neither the report nor the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.claims.combine import WARM_HIT_SHARE
from pytest_mooncake.analysis.figures.summary import Summary, summarise
from pytest_mooncake.analysis.regression.alarm import RELEASES_PER_YEAR
from pytest_mooncake.analysis.regression.fingerprint import fingerprint_of, parts_of, release_of
from pytest_mooncake.analysis.trials import rounds_of_valid_trials
from pytest_mooncake.errors import MooncakeError, UsageError
from pytest_mooncake.history import DEFAULT_URL
from pytest_mooncake.journal import Recorded
from pytest_mooncake.plan.options import Options
from pytest_mooncake.records import Claim, Judgement, Kind, Round, StackView

if TYPE_CHECKING:
    from pytest_mooncake.history.stored_run import StoredClaim, StoredRound, StoredRun

__all__ = ["Stored", "history_url", "refuse_unreachable", "releases_per_year", "store_run", "stored_run"]

MOST_RELEASES = 1e6
SPREADS = ("ttft_ms", "ttft_user_ms", "tpot_ms", "itl_ms", "e2e_ms")
RATES = ("request_throughput", "output_token_throughput", "makespan_s", "requests", "failed")


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a run's place in the history, a line each: where it is, or why it is not there."""

    lines: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()


def history_url(options: Options) -> str | None:
    """Where the history is; `None` where neither it nor a baseline was asked for."""
    if options.history:
        return options.history
    if not options.baseline:
        return None
    return DEFAULT_URL


def releases_per_year(options: Options) -> float:
    """How often a release goes through the gate.

    Raises:
        UsageError: not a positive number, or there is no history that it could be held against.
    """
    given = options.releases_per_year
    if given is None:
        return RELEASES_PER_YEAR
    if history_url(options) is None:
        raise UsageError("--mooncake-releases-per-year needs a history: give --mooncake-history or --mooncake-baseline")
    try:
        rate = float(given)
    except ValueError:
        rate = math.nan
    if not 0 < rate < MOST_RELEASES:
        raise UsageError(f"--mooncake-releases-per-year {given}: expected a positive number such as 52")
    return rate


def refuse_unreachable(options: Options, invocation_dir: Path) -> None:
    """Open the history once, before anything is measured, and look at what else was said of it.

    A baseline that no run is called after is refused where there are runs; in a history without any, a first run may
    name the baseline that later ones will have.

    Raises:
        UsageError: no run and no label is called as the baseline is, or the release rate is no number.
        MooncakeError: it cannot be reached or written to, or is of a newer version.
    """
    releases_per_year(options)
    if (url := history_url(options)) is not None:
        from pytest_mooncake.history.store import open_history

        with open_history(url, base=invocation_dir) as history:
            history.add()
            if options.baseline and history.runs(limit=1):
                history.named(options.baseline)


def store_run(
    options: Options, invocation_dir: Path, recorded: Recorded, view: StackView, judgement: Judgement
) -> Stored:
    """Store a judged run where a history was asked for; what goes wrong touches neither the run nor its report."""
    if (url := history_url(options)) is None:
        return Stored()
    from pytest_mooncake.history.store import open_history

    run = stored_run(recorded, view, judgement)
    try:
        with open_history(url, base=invocation_dir) as history:
            history.add(run)
            return Stored((_told(history.shown, history.count(run.fingerprint), recorded.plan.lang),))
    except MooncakeError as error:
        return Stored(complaints=(f"the run is not in the history: {error}",))


def _told(where: str, comparable: int, lang: str) -> str:
    if lang == "zh":
        return f"历史：{where}，可比运行 {comparable} 次（含本次）"
    runs = "the first run of its kind" if comparable == 1 else f"{comparable} comparable runs with this one"
    return f"history: {where}, {runs}"


def stored_run(recorded: Recorded, view: StackView, judgement: Judgement) -> StoredRun:
    """What a history keeps of a run; a pure function of its record, so it can be made again at any time."""
    from pytest_mooncake.history.stored_run import StoredRun

    plan, environment = recorded.plan, recorded.environment
    valid = rounds_of_valid_trials(recorded.rounds, judgement.trials)
    parts = parts_of(plan, view, environment)
    return StoredRun(
        id=plan.run_id,
        label=plan.label,
        started_at=str(environment.get("started_at") or ""),
        verdict=judgement.verdict.value,
        fingerprint=fingerprint_of(parts),
        parts=parts,
        release=release_of(view, environment),
        metrics={**_pooled(valid), **_of_claims(judgement.claims)} if valid else {},
        rounds=tuple(_digest(one) for one in valid),
        claims=tuple(_claim(one) for one in judgement.claims),
    )


def _pooled(valid: Sequence[Round]) -> dict[str, float]:
    sides = {kind: [one for one in valid if one.kind is kind] for kind in Kind}
    return {
        f"{kind.value}.{name}": value
        for kind, rounds in sides.items()
        if rounds
        for name, value in _figures(summarise(rounds)).items()
    }


def _figures(summary: Summary) -> dict[str, float]:
    """Every figure that was measured, such as `ttft_p90_ms`."""
    told: dict[str, float | None] = {name: getattr(summary, name) for name in RATES}
    for measure in SPREADS:
        for statistic, value in getattr(summary, measure).to_json().items():
            told[f"{measure.removesuffix('_ms')}_{statistic}_ms"] = value
    return _measured(told)


def _measured(told: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in told.items() if value is not None and math.isfinite(value)}


def _of_claims(claims: Sequence[Claim]) -> dict[str, float]:
    told: dict[str, float | None] = {f"ratio.{claim.id}": claim.estimate_ratio for claim in claims}
    shares: Iterable[Any] = next((c.details.get("shares", ()) for c in claims if c.id == WARM_HIT_SHARE), ())
    known = [share for share in shares if share is not None]
    told["warm.hit_share"] = math.fsum(known) / len(known) if known else None
    return _measured(told)


def _digest(one: Round) -> StoredRound:
    from pytest_mooncake.history.stored_run import StoredRound

    summary = summarise([one])
    figures = {name: value for name, value in _figures(summary).items() if name not in {"requests", "failed"}}
    return StoredRound(
        round=one.round, kind=one.kind.value, requests=summary.requests, failed=summary.failed, figures=figures
    )


def _claim(claim: Claim) -> StoredClaim:
    from pytest_mooncake.history.stored_run import StoredClaim

    low, high = claim.ci_ratio or (None, None)
    ratios = {
        "target_ratio": claim.target_ratio,
        "estimate_ratio": claim.estimate_ratio,
        "low_ratio": low,
        "high_ratio": high,
    }
    return StoredClaim(claim_id=claim.id, gating=claim.gating, verdict=claim.verdict.value, **_measured(ratios))
