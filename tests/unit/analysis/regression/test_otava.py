"""The export for Otava: a CSV that reads back, a config that YAML reads."""

from __future__ import annotations

import csv
import io

import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.regression.alarm import WATCHED
from pytest_mooncake.analysis.regression.otava import ExportedRun, otava_csv, otava_yaml


def test_the_config_names_every_column_with_its_good_side() -> None:
    told = yaml.safe_load(otava_yaml(WATCHED))["tests"]["mooncake"]
    assert (told["type"], told["file"], told["time_column"]) == ("csv", "mooncake.csv", "time")
    assert told["metrics"]["warm_ttft_mean_ms"] == {"column": "warm_ttft_mean_ms", "direction": -1}
    assert told["metrics"]["warm_request_throughput"]["direction"] == 1
    header = otava_csv((), WATCHED).strip().split(",")
    assert header == [told["time_column"], *told["attributes"], *(one["column"] for one in told["metrics"].values())]


@given(
    st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"])),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_a_release_is_called_and_measured_reads_back(release: str, figure: float) -> None:
    run = ExportedRun(
        started_at="2026-01-02T03:04:05+00:00", run_id="r1", release=release, metrics={"warm.ttft_mean_ms": figure}
    )
    row = next(csv.DictReader(io.StringIO(otava_csv((run,), WATCHED))))
    assert row["release"] == release
    assert float(row["warm_ttft_mean_ms"]) == figure
    assert row["warm_hit_share"] == ""
