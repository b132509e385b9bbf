"""The report of figures that came from elsewhere: a vendor's table, another report.

The same value as for a measured run, so every renderer prints it; what only a record can show (trials, client,
charts) is absent and said to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pytest_mooncake.analysis.audit.external_figures import Figures
from pytest_mooncake.analysis.claims.point_estimates import limits_of_figures
from pytest_mooncake.plan.models import EconomicsPlan, Target
from pytest_mooncake.records import Judgement
from pytest_mooncake.report.content.business import business_case
from pytest_mooncake.report.content.document import Report, side_of
from pytest_mooncake.report.content.setting import Setting, rows_of


def build(
    figures: Figures,
    judgement: Judgement,
    *,
    name: str,
    targets: Sequence[Target],
    economics: EconomicsPlan | None = None,
    label: str | None = None,
    date: str | None = None,
) -> Report:
    """Make the report of handed-in figures.

    Args:
        figures: cold and warm, with what is known of workload, model and hardware.
        judgement: what they come to; one pair without spread is INCONCLUSIVE at best.
        name: what the report calls them, e.g. the file's stem.
        targets: the claims they were judged by.
        economics: costs for the business case, `None` for none.
        label: a further name, as given by the user.
        date: the day of the report in ISO form, where it is known.
    """
    case = business_case(economics, judgement, _document_bytes(figures)) if economics else None
    return Report(
        run_id=name,
        label=label,
        judgement=judgement,
        targets=tuple(targets),
        plan={"figures": asdict(figures)},
        setting=_setting(figures, date),
        environment={"figures": name},
        cold=side_of(figures.cold, figures.requests),
        warm=side_of(figures.warm, figures.requests),
        economics=case,
        limits=_limits(figures),
    )


def _setting(figures: Figures, date: str | None) -> Setting:
    return Setting(
        requests=figures.requests,
        concurrency=figures.concurrency,
        prompt_tokens=figures.prompt_tokens,
        output_tokens=figures.output_tokens,
        hardware=rows_of(asdict(figures.hardware)),
        software=rows_of({key: value for key, value in asdict(figures.model).items() if value}),
        started_at=date,
    )


def _document_bytes(figures: Figures) -> int | None:
    return figures.model.kv_bytes(figures.prompt_tokens) if figures.prompt_tokens else None


def _limits(figures: Figures) -> dict[str, Any] | None:
    found = limits_of_figures(figures)
    known = {name: value for name, value in found.to_json().items() if value is not None} if found else None
    return known or None
