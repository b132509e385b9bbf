"""Thresholds of a targets file, from the file to the exit code."""

from __future__ import annotations

import orjson
import pytest

from tests.plugin.conftest import SIMULATED, Run

CLAIMS = "claims:\n  - metric: ttft_mean\n    gating: false\n"


def targets(pytester: pytest.Pytester, thresholds: str) -> None:
    path = pytester.path / "fixtures" / "targets" / "limits.yaml"
    path.write_text(f"{CLAIMS}thresholds:\n{thresholds}", encoding="utf-8")


def test_an_unknown_metric_is_refused_with_the_nearest_one(suite: Run, pytester: pytest.Pytester) -> None:
    targets(pytester, "  warm.tttf: [avg<1s]\n")
    result = suite(*SIMULATED, "--mooncake-targets=limits")
    assert result.ret == 4
    said = result.stderr.str()
    assert "limits.yaml:4: thresholds.0: no metric is called 'warm.tttf'; did you mean warm.ttft" in said


@pytest.mark.full
def test_a_crossed_threshold_that_ends_the_run_ends_it_at_the_first_trial(
    suite: Run, pytester: pytest.Pytester
) -> None:
    targets(
        pytester,
        "  warm.ttft:\n    - {threshold: avg<1ms, abort_on_fail: true}\n    - avg<=0.9*cold\n"
        "  cold.ttft: {threshold: max<1ms, optional: true}\n",
    )
    options = (*SIMULATED, "--mooncake-targets=limits", "--mooncake-report=out")
    result = suite(*options, where="acceptance/test_performance.py")
    report = orjson.loads((pytester.path / "out" / "report.json").read_bytes())
    verdicts = {claim["id"]: claim["verdict"] for claim in report["claims"]}

    assert result.ret == 1
    assert (report["verdict"], len(report["trials"])) == ("FAIL", 1)
    assert verdicts["warm.ttft: avg<1ms"] == "FAIL"
    assert verdicts["warm.ttft: avg<=0.9*cold"] == "INCONCLUSIVE"
    assert "avg<1ms asked: crossed" in report["reasons"][0]
    assert "test_claim[warm.ttft: avg<1ms]" in result.stdout.str()
    assert "warm.ttft: avg<1ms" in (pytester.path / "out" / "report.html").read_text().replace("&lt;", "<")
