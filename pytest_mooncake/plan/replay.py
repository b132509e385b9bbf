"""A recorded plan, judged by other targets, costs, hardware or in another language than it was run with."""

from __future__ import annotations

from pathlib import Path

from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import economics_of, lang_of, targets_of, with_goodput
from pytest_mooncake.plan.sources.hardware import read_machine

__all__ = ["judged_by"]


def judged_by(plan: Plan, options: Options, invocation_dir: Path) -> Plan:
    """The plan with the targets, costs, hardware and language that `options` give instead of its own.

    Raises:
        UsageError: an option is unknown, contradictory or out of range (PlanError: a YAML file is).
    """
    changes: dict[str, object] = {}
    if options.targets:
        changes["targets"] = targets_of(options, invocation_dir)
    elif options.goodput:
        changes["targets"] = with_goodput(plan.targets, options.goodput)
    if options.economics:
        changes["economics"] = economics_of(options, invocation_dir)
    if options.hardware:
        changes["machine"] = read_machine(options.hardware, invocation_dir)
    if options.lang:
        changes["lang"] = lang_of(options.lang)
    return plan.model_copy(update=changes)
