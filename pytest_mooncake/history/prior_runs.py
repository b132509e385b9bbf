"""Earlier runs of the same kind: what the dry run forecasts from.

From the history where one is kept, as many runs tell more than one; else from the newest record, if it lies where runs
leave theirs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.judge import judge
from pytest_mooncake.analysis.outlook.forecast import assumed_of
from pytest_mooncake.analysis.outlook.guidance import feasibility_of, feasibility_of_times, trial_seconds
from pytest_mooncake.analysis.outlook.power_lines import Past
from pytest_mooncake.analysis.regression.fingerprint import Parts, plan_parts
from pytest_mooncake.analysis.statistics.power import Assumed
from pytest_mooncake.analysis.trials import rounds_of_valid_trials
from pytest_mooncake.errors import JournalError, MooncakeError
from pytest_mooncake.journal import REQUESTS_FILE, read
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.targets.models import Target
from pytest_mooncake.records import Kind

if TYPE_CHECKING:
    from pytest_mooncake.history.stored_run import StoredRound, StoredRun

__all__ = ["LATEST", "MOST_BYTES", "MOST_RUNS", "past_in_history", "past_of"]

LATEST = Path("mooncake-report") / "latest"
MOST_BYTES = 200_000_000
"""Records above this size are not read for a forecast: a dry run takes a moment."""
MOST_RUNS = 20
"""The newest so many are looked at: what was years ago tells little of tomorrow's noise."""
LEAST_SPREAD = 1e-6
MOST_WHY = 160
"""Characters of a reason that are told."""


def _say_nothing(_note: str) -> None:
    """Where nobody is told."""


def past_of(plan: Plan, invocation_dir: Path, tell: Callable[[str], None] = _say_nothing) -> Past | None:
    """The newest run below `invocation_dir`, where it ran the same workload on the same stack; else `None`.

    A record that cannot be read or judged (another version wrote it, a disk was full) is passed over, and `tell` says
    so: a forecast never stops a run.
    """
    directory = invocation_dir / LATEST
    try:
        if (directory / REQUESTS_FILE).stat().st_size > MOST_BYTES:
            return None
    except OSError:
        return None
    try:
        return _past_in_record(plan, directory)
    except Exception as error:  # whatever another version writes
        why = str(error) if isinstance(error, MooncakeError) else f"{type(error).__name__}: {error}"
        tell(f"no forecast from {LATEST}, a record that this version cannot read ({' '.join(why.split())[:MOST_WHY]})")
        return None


def _past_in_record(plan: Plan, directory: Path) -> Past | None:
    recorded = read(directory)
    if recorded.damage:
        raise JournalError(recorded.damage[0])
    if recorded.view is None or (recorded.plan.stack, recorded.plan.workload) != (plan.stack, plan.workload):
        return None
    judgement = judge(recorded.plan.model_copy(update={"targets": plan.targets}), recorded.view, recorded.rounds)
    valid = rounds_of_valid_trials(recorded.rounds, judgement.trials)
    trials: int = judgement.details["valid_trials"]
    return Past(
        name=f"{recorded.plan.run_id} ({trials} trials)",
        assumed=assumed_of(judgement.claims),
        df=max(0, 2 * trials - 2),
        trial_s=trial_seconds(valid),
        feasibility=feasibility_of(plan.targets, valid) if _is_closed_loop(plan) else None,
    )


def past_in_history(plan: Plan, environment: Mapping[str, Any], url: str, invocation_dir: Path) -> Past | None:
    """The newest runs of a history that sent the same workload to the same kind of stack; `None` where there is none.

    Args:
        plan: of the run to come.
        environment: the machine, as `environment.describe` tells it.
        url: of the history.
        invocation_dir: where a relative SQLite file starts.

    Raises:
        MooncakeError: the history cannot be read.
    """
    from pytest_mooncake.history.sql.database import parsed
    from pytest_mooncake.history.store import open_history

    where = parsed(url, invocation_dir)
    if where.drivername == "sqlite" and not Path(str(where.database)).is_file():
        return None
    wanted = plan_parts(plan, environment)
    with open_history(url, base=invocation_dir, must_exist=True) as history:
        runs = [run for run in history.runs() if _alike(run, wanted) and run.rounds][-MOST_RUNS:]
    claims = [one for one in plan.targets.claims if one.gating and one.ratio is not None]
    found = [known for claim in claims if (known := _assumed(claim, runs)) is not None]
    if not found or len(found) < len(claims):
        return None
    trials = sum(sum(one.kind == Kind.WARM for one in run.rounds) for run in runs)
    return Past(
        name=f"{len(runs)} run{'s' if len(runs) > 1 else ''} of the history ({trials} trials)",
        assumed=tuple(found),
        df=sum(df for kind in Kind for _, df in _variances(runs, claims[0].metric, kind)),
        trial_s=_trial_s(runs),
        feasibility=_feasibility(plan, runs[-1]) if _is_closed_loop(plan) else None,
    )


def _is_closed_loop(plan: Plan) -> bool:
    """The formula of feasibility is that of a closed loop."""
    return plan.workload.in_flight_cap is not None


def _feasibility(plan: Plan, run: StoredRun) -> dict[str, Any] | None:
    cold, warm = (
        {name: run.metrics.get(f"{kind.value}.{name}_mean_ms") for name in ("ttft", "e2e")}
        for kind in (Kind.COLD, Kind.WARM)
    )
    return feasibility_of_times(plan.targets, ttft_ms=(cold["ttft"], warm["ttft"]), e2e_ms=(cold["e2e"], warm["e2e"]))


def _alike(run: StoredRun, wanted: Parts) -> bool:
    return all(run.parts.get(name) == value for name, value in wanted.items())


def _assumed(claim: Target, runs: Sequence[StoredRun]) -> Assumed | None:
    """The claim's mean ratio over runs (on logs) and its pooled spread from round to round within a run."""
    logs = [math.log(ratio) for run in runs if (ratio := run.metrics.get(f"ratio.{claim.claim_id}"))]
    pooled = {kind: _pooled(_variances(runs, claim.metric, kind)) for kind in Kind}
    if not logs or claim.ratio is None or None in pooled.values():
        return None
    return Assumed(
        id=claim.claim_id,
        ratio=math.exp(statistics.fmean(logs)),
        target_ratio=claim.ratio,
        direction=claim.direction,
        sigma_w=pooled[Kind.WARM] or LEAST_SPREAD,
        sigma_c=pooled[Kind.COLD] or LEAST_SPREAD,
    )


def _variances(runs: Sequence[StoredRun], metric: str, kind: Kind) -> list[tuple[float, int]]:
    """Variance of the log metric over the rounds of a kind with its degrees of freedom, a pair a run."""
    found = []
    for run in runs:
        logs = [math.log(value) for one in run.rounds if (value := _figure(one, metric, kind))]
        if len(logs) > 1:
            found.append((statistics.variance(logs), len(logs) - 1))
    return found


def _pooled(variances: Sequence[tuple[float, int]]) -> float | None:
    df = sum(weight for _, weight in variances)
    return math.sqrt(math.fsum(variance * weight for variance, weight in variances) / df) if df else None


def _figure(one: StoredRound, metric: str, kind: Kind) -> float | None:
    """A round's figure by the name that targets use; a latency's bears its unit in the history."""
    if one.kind != kind:
        return None
    return one.figures.get(metric, one.figures.get(f"{metric}_ms", one.figures.get(f"{metric}_s")))


def _trial_s(runs: Sequence[StoredRun]) -> float | None:
    """Mean seconds of a warm and a cold round; a history does not keep how long they took to settle."""
    sides = [[*_seconds(runs, kind)] for kind in Kind]
    return math.fsum(statistics.fmean(side) for side in sides) if all(sides) else None


def _seconds(runs: Sequence[StoredRun], kind: Kind) -> Iterator[float]:
    return (value for run in runs for one in run.rounds if (value := _figure(one, "makespan", kind)))
