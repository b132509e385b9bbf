"""Is the cache worth it? One test per claim of the targets file."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from pytest_mooncake.records import Claim, Verdict
from pytest_mooncake.report.formats.ci import facts_line


def test_claim(claim: Claim, fail_unless_quick: Callable[[str], NoReturn]) -> None:
    """The claim is met at its level, over all rounds; claims that do not gate are reported only.

    A quick run describes its claims and judges none: they are skipped with their figures.

    Its figures are JUnit properties of the test; the failure text repeats them, because some viewers hide properties.
    """
    if claim.verdict is not Verdict.PASS and claim.gating:
        fail_unless_quick(f"{claim.title}: {claim.verdict}: {claim.reason}\n{facts_line(claim)}")
