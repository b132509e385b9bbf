"""Is what comes back right? Every stream whole, and from the cache the same answer as without it.

The second half is the correctness gate, a dozen short requests after the last round. Text need not be equal: a healthy
cache differs where two tokens are all but equally likely. Its checks are in the report's evidence as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from pytest_mooncake.api import CORRECTNESS, Evidence, GateStatus, Outcome, RoundsOf, Status


def test_no_request_failed(mooncake_run: Outcome) -> None:
    """Every request of every round, left-out ones too, was answered whole."""
    failed = [r for one in mooncake_run.recorded.rounds for r in one.requests if r.error is not None]
    if failed:
        shown = "\n".join(f"round {r.round} ({r.kind}) request {r.index}: {r.error}" for r in failed[:5])
        pytest.fail(f"{len(failed)} requests failed, the first of them:\n{shown}", pytrace=False)


def test_prompts_had_the_planned_length(mooncake_cold_round: RoundsOf, mooncake_warm_round: RoundsOf) -> None:
    """The server counted as many prompt tokens as were planned, on every request."""
    wrong = [
        r
        for r in (*mooncake_cold_round.requests, *mooncake_warm_round.requests)
        if r.prompt_tokens_planned is not None and r.prompt_tokens != r.prompt_tokens_planned
    ]
    assert wrong == []


def test_answers_had_the_asked_length(mooncake_cold_round: RoundsOf, mooncake_warm_round: RoundsOf) -> None:
    """The server generated as many tokens as were asked for, on every request."""
    requests = (*mooncake_cold_round.requests, *mooncake_warm_round.requests)
    assert [r for r in requests if r.output_tokens != r.output_tokens_planned] == []


def test_cold_and_warm_prompts_were_the_same(mooncake_cold_round: RoundsOf, mooncake_warm_round: RoundsOf) -> None:
    """A warm round repeated the requests of the cold one before it: as many, of the same lengths."""
    cold = {r.index: r.prompt_tokens for r in mooncake_cold_round.requests}
    warm = {r.index: r.prompt_tokens for r in mooncake_warm_round.requests}
    assert cold == warm


def _gate(run: Outcome, check: str, fail_unless_quick: Callable[[str], NoReturn]) -> Evidence:
    """One check of the gate; skipped with its reason where it could not be made."""
    for gate in run.judgement.gates:
        if gate.id == CORRECTNESS and gate.status is GateStatus.NOT_APPLICABLE:
            pytest.skip(f"the gate does not apply: {gate.reason}")
        if gate.id == CORRECTNESS and gate.status is GateStatus.NOT_MADE:
            fail_unless_quick(f"the gate was planned and not made: {gate.reason}")
    found = next((e for e in run.judgement.evidence if e.id == check), None)
    if found is None:
        pytest.skip(f"the gate asked nothing that tells {check}")
    if found.status is Status.UNAVAILABLE:
        pytest.skip(f"{check}: {found.detail}")
    return found


@pytest.mark.parametrize("check", ["probes_answered", "correct_text", "cached_at_chunk_edges", "tenants_share_nothing"])
def test_gate(mooncake_run: Outcome, check: str, mooncake_fail_unless_quick: Callable[[str], NoReturn]) -> None:
    """From the cache as without it: answered at all, right by log-probabilities, exact at chunk edges, by tenant."""
    found = _gate(mooncake_run, check, mooncake_fail_unless_quick)
    if found.status is Status.BROKEN:
        pytest.fail(f"{check}: expected {found.expected}, observed {found.observed}; {found.detail}", pytrace=False)


def test_what_a_cache_salt_isolates_is_reported(
    mooncake_run: Outcome,
    mooncake_fact: Callable[[str, object], None],
    mooncake_fail_unless_quick: Callable[[str], NoReturn],
) -> None:
    """What `cache_salt` keeps apart on this stack is a finding for the report, whatever it is."""
    found = _gate(mooncake_run, "cache_salt", mooncake_fail_unless_quick)
    mooncake_fact("cache_salt", found.observed)
    assert found.status is Status.HELD
