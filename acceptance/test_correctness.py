"""Did every stream arrive whole? Exact prompts, exact output lengths, no request lost."""

from __future__ import annotations

import pytest

from pytest_mooncake.conduct import Outcome, RoundsOf
from pytest_mooncake.plan.models import Plan


def test_no_request_failed(run: Outcome) -> None:
    """Every request of every round, left-out ones too, was answered whole."""
    failed = [r for one in run.recorded.rounds for r in one.requests if r.error is not None]
    if failed:
        shown = "\n".join(f"round {r.round} ({r.kind}) request {r.index}: {r.error}" for r in failed[:5])
        pytest.fail(f"{len(failed)} requests failed, the first of them:\n{shown}", pytrace=False)


def test_prompts_had_the_planned_length(cold_round: RoundsOf, warm_round: RoundsOf) -> None:
    """The server counted as many prompt tokens as were planned, on every request."""
    wrong = [
        r
        for r in (*cold_round.requests, *warm_round.requests)
        if r.prompt_tokens_planned is not None and r.prompt_tokens != r.prompt_tokens_planned
    ]
    assert wrong == []


def test_answers_had_the_asked_length(cold_round: RoundsOf, warm_round: RoundsOf, mooncake_plan: Plan) -> None:
    """The server generated as many tokens as were asked for, on every request."""
    lengths = {r.output_tokens for r in (*cold_round.requests, *warm_round.requests)}
    assert lengths <= {mooncake_plan.workload.output_tokens}


def test_cold_and_warm_prompts_were_the_same(cold_round: RoundsOf, warm_round: RoundsOf) -> None:
    """A warm round repeated the requests of the cold one before it: as many, of the same lengths."""
    cold = {r.index: r.prompt_tokens for r in cold_round.requests}
    warm = {r.index: r.prompt_tokens for r in warm_round.requests}
    assert cold == warm
