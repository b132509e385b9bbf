"""The figures of the original acceptance report, judged."""

from __future__ import annotations

from pathlib import Path

import yaml

from pytest_mooncake.analysis.audit.external_figures import Figures, figures_from_mapping
from pytest_mooncake.analysis.claims.point_estimates import judge_figures
from pytest_mooncake.plan.models import EconomicsPlan
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.report.content.build_from_figures import build
from pytest_mooncake.report.content.document import Report
from tests.support.runs import TARGETS

ROOT = Path(__file__).parents[2]


def original_figures(**changes: object) -> Figures:
    text = (ROOT / "tests" / "data" / "figures" / "original.yaml").read_text(encoding="utf-8")
    return figures_from_mapping({**yaml.safe_load(text), **changes})


def original_report(**changes: object) -> Report:
    figures = original_figures(**changes)
    return build(
        figures,
        judge_figures(figures, TARGETS),
        name="original",
        targets=TARGETS.claims,
        economics=load(ROOT / "fixtures" / "economics" / "default.yaml", EconomicsPlan, name="default"),
        date="2025-01-11",
    )
