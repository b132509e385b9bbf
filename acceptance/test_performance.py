"""Is the cache worth it? One test per claim of the targets file."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from pytest_mooncake.api import Claim, Verdict, facts_line


def test_claim(mooncake_claim: Claim, mooncake_fail_unless_quick: Callable[[str], NoReturn]) -> None:
    """The claim is met at its level, over all rounds; claims that do not gate are reported only.

    A quick run describes its claims and judges none: they are skipped with their figures.

    Its figures are JUnit properties of the test; the failure text repeats them, because some viewers hide properties.
    """
    if mooncake_claim.verdict is not Verdict.PASS and mooncake_claim.gating:
        mooncake_fail_unless_quick(
            f"{mooncake_claim.title}: {mooncake_claim.verdict}: {mooncake_claim.reason}\n{facts_line(mooncake_claim)}"
        )
