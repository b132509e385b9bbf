"""Does the cache work? Cold rounds were cold, and every cached token of the warm ones came from the right tier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

import pytest

from pytest_mooncake.api import Evidence, Fault, Kind, Outcome, Status


def _broken(run: Outcome, kind: Kind) -> list[Evidence]:
    rounds = {r.round for r in run.recorded.rounds if r.kind is kind}
    return [e for e in run.judgement.evidence if e.round in rounds and e.status is Status.BROKEN]


def _lines(broken: list[Evidence]) -> str:
    return "\n".join(
        f"round {e.round}: {e.id} ({e.rung}): expected {e.expected}, observed {e.observed}; {e.detail}" for e in broken
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_evidence_of_rounds_holds(
    mooncake_run: Outcome, kind: Kind, mooncake_fail_unless_quick: Callable[[str], NoReturn]
) -> None:
    """No check of a cold (warm) round is broken, by counters of the store and the engine."""
    broken = _broken(mooncake_run, kind)
    if any(e.fault is Fault.PRODUCT for e in broken):
        pytest.fail(_lines(broken), pytrace=False)
    if broken:
        mooncake_fail_unless_quick(_lines(broken))


def test_every_prompt_token_is_accounted_for(
    mooncake_run: Outcome, mooncake_fail_unless_quick: Callable[[str], NoReturn]
) -> None:
    """GPU prefix cache + LMCache CPU + Mooncake + computed = the engines' own prompt tokens = what was sent."""
    rows = [r for r in mooncake_run.judgement.details["attribution"] if r["unexplained_tokens"] is not None]
    if not rows:
        pytest.skip("the engines do not count prompt tokens by source: vLLM 0.17 and newer do, at /metrics")
    wrong = [r for r in rows if r["unexplained_tokens"] or r["prompt_tokens"] != r["tokens_sent"]]
    if wrong:
        mooncake_fail_unless_quick("\n".join(_row(row) for row in wrong))


def _row(row: Mapping[str, object]) -> str:
    tiers = ("gpu_prefix_tokens", "lmcache_cpu_tokens", "mooncake_tokens", "external_tokens", "computed_tokens")
    told = ", ".join(f"{name} {row[name]}" for name in tiers if row[name] is not None)
    return f"round {row['round']} ({row['kind']}): {row['prompt_tokens']} counted, {row['tokens_sent']} sent: {told}"


def test_nothing_came_from_nearer_than_the_store(mooncake_run: Outcome) -> None:
    """No prompt token of a warm round came from the GPU prefix cache or from LMCache's CPU memory."""
    warm = [r for r in mooncake_run.judgement.details["attribution"] if r["kind"] == Kind.WARM]
    known = [r for r in warm if r["gpu_prefix_tokens"] is not None and r["lmcache_cpu_tokens"] is not None]
    if not known:
        pytest.skip("without the counters of engine and master the tiers cannot be told apart (--mooncake-master)")
    nearer = [r for r in known if r["gpu_prefix_tokens"] or r["lmcache_cpu_tokens"]]
    if nearer:
        pytest.fail("\n".join(_row(row) for row in nearer), pytrace=False)


def test_something_was_proven(mooncake_run: Outcome, mooncake_fail_unless_quick: Callable[[str], NoReturn]) -> None:
    """At least one check of a warm round held: a run whose checks were all unavailable proves nothing."""
    warm = {r.round for r in mooncake_run.recorded.rounds if r.kind is Kind.WARM}
    held = [e for e in mooncake_run.judgement.evidence if e.round in warm and e.status is Status.HELD]
    if not held:
        mooncake_fail_unless_quick("no check of a warm round could be made: see the evidence table of the report")
