"""The file's models are the analysis' own values, field by field, and the sheets that ship are complete."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from pytest_mooncake.analysis.audit.external_figures import Distribution, Figures, RoundFigures
from pytest_mooncake.analysis.audit.limits import Hardware
from pytest_mooncake.analysis.audit.model.geometry import Geometry
from pytest_mooncake.plan.hardware import HardwareGiven, HardwareSheet, ModelGiven
from pytest_mooncake.plan.sources.figures import DistributionGiven, FiguresFile, RoundGiven
from pytest_mooncake.plan.sources.lookup import packed_fixtures
from pytest_mooncake.plan.sources.yaml_loader import load

SHEETS = sorted((packed_fixtures() / "hardware").glob("*.yaml"))


@pytest.mark.parametrize(
    ("given", "value", "only_given", "only_value"),
    [
        (DistributionGiven, Distribution, set(), set()),
        (RoundGiven, RoundFigures, set(), set()),
        (ModelGiven, Geometry, {"config", "kv_dtype"}, {"doubts", "least_weight_bytes"}),
        (HardwareGiven, Hardware, {"sheet"}, set()),
        (FiguresFile, Figures, {"description", "date", "network_gbps"}, {"halves", "measured"}),
    ],
)
def test_a_file_may_hold_exactly_what_the_analysis_knows(
    given: type[FiguresFile], value: type[Figures], only_given: set[str], only_value: set[str]
) -> None:
    names = {field.name for field in fields(value)}
    assert set(given.model_fields) - names == only_given
    assert names - set(given.model_fields) == only_value


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: path.stem)
def test_a_sheet_that_ships_names_its_source_and_is_plausible(path: Path) -> None:
    sheet = load(path, HardwareSheet, name=path.stem)
    assert sheet.source.startswith("https://")
    assert 100 < sheet.peak_tflops_per_gpu < 5000
    assert 300 < sheet.hbm_gb_per_s_per_gpu < 10_000
    assert sheet.pcie_gb_per_s in {32, 64}


def test_the_acceptance_reports_gpu_is_among_them() -> None:
    assert {path.stem for path in SHEETS} >= {"a100-80g-sxm", "h100-sxm", "h200-sxm", "l40s"}
