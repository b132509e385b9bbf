"""A recorded run judged by other targets than it was run with."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import SIMULATED, Run

OTHERS = """\
claims:
  - {metric: ttft_mean, target: down >= 99 %}
  - {metric: ttft_p90, target: '<= 100 s'}
"""


@pytest.mark.full
def test_a_record_may_be_judged_by_other_targets(suite: Run, pytester: pytest.Pytester) -> None:
    assert suite(*SIMULATED, "--mooncake-trials=3", "--mooncake-report=first").ret == 0
    (pytester.path / "fixtures" / "targets" / "others.yaml").write_text(OTHERS, encoding="utf-8")
    others = ("--mooncake-targets=others", "--mooncake-goodput=ttft_ms<=99999")
    result = suite("--mooncake-replay=first", *others, "--mooncake-report=second")
    held = json.loads((pytester.path / "second" / "report.json").read_text(encoding="utf-8"))
    verdicts = {claim["id"]: claim["verdict"] for claim in held["claims"]}

    assert result.ret == 1
    assert held["verdict"] == verdicts["ttft_mean"] == "FAIL"
    assert (verdicts["ttft_p90_warm"], verdicts["goodput"]) == ("INCONCLUSIVE", "INCONCLUSIVE")  # three rounds
    assert json.loads((pytester.path / "first" / "report.json").read_text(encoding="utf-8"))["verdict"] == "PASS"
