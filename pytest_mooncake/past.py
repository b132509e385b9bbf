"""The last run of the same kind, if its record lies where runs leave theirs: what the dry run forecasts from."""

from __future__ import annotations

from pathlib import Path

from pytest_mooncake.analysis.ahead import Past
from pytest_mooncake.analysis.beside import trial_seconds
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.journal import REQUESTS_FILE, read
from pytest_mooncake.judging import judge, rounds_of_valid_trials
from pytest_mooncake.plan.models import Plan

__all__ = ["LATEST", "MOST_BYTES", "past_of"]

LATEST = Path("mooncake-report") / "latest"
MOST_BYTES = 200_000_000
"""Records above this size are not read for a forecast: a dry run takes a moment."""


def past_of(plan: Plan, invocation_dir: Path) -> Past | None:
    """The newest run below `invocation_dir`, where it ran the same workload on the same stack; else `None`."""
    directory = invocation_dir / LATEST
    try:
        if (directory / REQUESTS_FILE).stat().st_size > MOST_BYTES:
            return None
        recorded = read(directory)
    except (OSError, MooncakeError):
        return None
    if recorded.view is None or (recorded.plan.stack, recorded.plan.workload) != (plan.stack, plan.workload):
        return None
    judgement = judge(recorded.plan.model_copy(update={"targets": plan.targets}), recorded.view, recorded.rounds)
    valid = rounds_of_valid_trials(recorded.rounds, judgement.trials)
    return Past(
        name=recorded.plan.run_id,
        claims=judgement.claims,
        trials=judgement.details["valid_trials"],
        trial_s=trial_seconds(valid),
    )
