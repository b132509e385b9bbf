"""Is this release slower than the ones before? Alarm from the history, confirmation in turns with the old endpoint.

FAIL: an alarm that was confirmed, or a failed request of the new endpoint. An alarm that was not, or slower in turns
without an alarm, is INCONCLUSIVE, which does not pass. Without a history, with too few runs or with runs of another
fingerprint the test is skipped and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from pytest_mooncake.api import Outcome, ReleaseFinding, Verdict


def test_release_is_not_slower_than_its_past(
    mooncake_release: ReleaseFinding | None,
    mooncake_fact: Callable[[str, object], None],
    mooncake_fail_unless_quick: Callable[[str], NoReturn],
) -> None:
    """No metric alarms against the runs of the history and against the accepted release."""
    if mooncake_release is None:
        pytest.skip("no history was compared: give --mooncake-history URL or --mooncake-baseline LABEL")
    mooncake_fact("release", mooncake_release.words)
    if mooncake_release.verdict is None:
        pytest.skip(mooncake_release.words)
    if mooncake_release.verdict is Verdict.FAIL:
        pytest.fail(f"{mooncake_release.verdict}: {mooncake_release.words}", pytrace=False)
    if mooncake_release.verdict is not Verdict.PASS:
        mooncake_fail_unless_quick(f"{mooncake_release.verdict}: {mooncake_release.words}")


def test_new_endpoint_is_not_slower_than_the_old_one(
    mooncake_run: Outcome, mooncake_fail_unless_quick: Callable[[str], NoReturn]
) -> None:
    """Measured in turns, no request of the new endpoint fails, no metric is confirmed as slower or stays undecided."""
    versus = mooncake_run.report.versus
    if versus is None:
        if why := mooncake_run.report.beside_not_made.get("versus"):
            mooncake_fail_unless_quick(f"planned and not made: {why}")
        pytest.skip("only one endpoint was measured: give --mooncake-url NEW and --mooncake-versus OLD")
    if versus.verdict is Verdict.FAIL:
        pytest.fail(f"{versus.verdict}: {versus.text}", pytrace=False)
    if versus.verdict is not Verdict.PASS:
        mooncake_fail_unless_quick(f"{versus.verdict}: {versus.text}")
