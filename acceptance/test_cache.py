"""Does the cache work? Cold rounds were cold, and every cached token of the warm ones came from the right tier."""

from __future__ import annotations

import pytest

from pytest_mooncake.conduct import Outcome
from pytest_mooncake.records import Evidence, Kind, Status


def _broken(run: Outcome, kind: Kind) -> list[Evidence]:
    rounds = {r.round for r in run.recorded.rounds if r.kind is kind}
    return [e for e in run.judgement.evidence if e.round in rounds and e.status is Status.BROKEN]


def _lines(broken: list[Evidence]) -> str:
    return "\n".join(
        f"round {e.round}: {e.id} ({e.rung}): expected {e.expected}, observed {e.observed}; {e.detail}" for e in broken
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_evidence_of_rounds_holds(run: Outcome, kind: Kind) -> None:
    """No check of a cold (warm) round is broken, by counters of the store and the engine."""
    broken = _broken(run, kind)
    if broken:
        pytest.fail(_lines(broken), pytrace=False)


def test_something_was_proven(run: Outcome) -> None:
    """At least one check of a warm round held: a run whose checks were all unavailable proves nothing."""
    warm = {r.round for r in run.recorded.rounds if r.kind is Kind.WARM}
    held = [e for e in run.judgement.evidence if e.round in warm and e.status is Status.HELD]
    if not held:
        pytest.fail("no check of a warm round could be made: see the evidence table of the report", pytrace=False)
