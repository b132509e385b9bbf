"""Is the cache worth it? One test per claim of the targets file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_mooncake.records import Claim, Verdict


def test_claim(claim: Claim, record_property: Callable[[str, object], None]) -> None:
    """The claim is met at its level, over all rounds; claims that do not gate are reported only."""
    record_property("verdict", claim.verdict.value)
    record_property("estimate_ratio", claim.estimate_ratio)
    record_property("ci_ratio", claim.ci_ratio)
    if claim.verdict is not Verdict.PASS and claim.gating:
        pytest.fail(f"{claim.title}: {claim.verdict}: {claim.reason}", pytrace=False)
