"""Is the cache worth it? One test per claim of the targets file."""

from __future__ import annotations

import pytest

from pytest_mooncake.records import Claim, Verdict
from pytest_mooncake.report.ci import facts_line


def test_claim(claim: Claim) -> None:
    """The claim is met at its level, over all rounds; claims that do not gate are reported only.

    Its figures are JUnit properties of the test; the failure text repeats them, because some viewers hide properties.
    """
    if claim.verdict is not Verdict.PASS and claim.gating:
        pytest.fail(f"{claim.title}: {claim.verdict}: {claim.reason}\n{facts_line(claim)}", pytrace=False)
