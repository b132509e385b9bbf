"""The figures of the original acceptance report, judged."""

from __future__ import annotations

from pathlib import Path

import yaml

from pytest_mooncake.analysis.figures import Figures, figures_from_mapping
from pytest_mooncake.analysis.given import judge_figures
from pytest_mooncake.plan.models import EconomicsPlan
from pytest_mooncake.plan.yaml_source import load
from pytest_mooncake.report.document import Report
from pytest_mooncake.report.figures_report import build
from tests.unit.report.runs import TARGETS

ROOT = Path(__file__).parents[3]


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
