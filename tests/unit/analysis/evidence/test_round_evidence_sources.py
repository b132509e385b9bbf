"""What silent, restarted and shared sources of counters prove: nothing, except of a process that is known to be one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mooncake.analysis.evidence.facts import facts_of
from pytest_mooncake.analysis.evidence.round_evidence import round_evidence
from pytest_mooncake.records import Evidence, Fault, Kind, Round, Rung, Scrape, StackView, Status
from tests.support.scripted_world import World, play, view

ATTACHED = view(provisioned=False)
NOW_S = 1_764_000_000.0
CANNOT_BE_TOLD = "which of both cannot be told, so its counters prove nothing"


def evidence_of(measured: Round, reference: Round | None, seen: StackView) -> dict[str, Evidence]:
    return {item.id: item for item in round_evidence(measured, seen, reference=reference)}


def broken(found: dict[str, Evidence]) -> dict[str, Fault]:
    return {item.id: item.fault for item in found.values() if item.status is Status.BROKEN}


def started(scrapes: tuple[Scrape, ...], source: str, started_s: float, at_s: float = NOW_S) -> tuple[Scrape, ...]:
    return tuple(
        replace(scrape, started_s=started_s, at_s=at_s) if scrape.source == source else scrape for scrape in scrapes
    )


def counted(scrapes: tuple[Scrape, ...], source: str, times: float) -> tuple[Scrape, ...]:
    """The scrapes, one source's as of another process that has served so many times as much."""
    return tuple(
        replace(scrape, samples={series: value * times for series, value in scrape.samples.items()})
        if scrape.source == source
        else scrape
        for scrape in scrapes
    )


@pytest.mark.parametrize("source", ["engine:0", "master"])
@pytest.mark.parametrize(
    "error",
    [
        "http://e/metrics: HTTP 503 instead of metrics",
        "http://e/metrics: HTTP 401 instead of metrics",
        "http://e/metrics: HTTP 403 instead of metrics",
        "http://e/metrics: HTTP 404 instead of metrics",
        "http://e/metrics: HTTP 302 instead of metrics",
        "http://e/metrics: no vLLM, LMCache or Mooncake series in the answer",
        "http://e/metrics: Response payload is not completed",
        "no answer within 5 s from http://e/metrics",
        "2 processes answer at http://e/metrics in turn: name each one's metrics with --mooncake-metrics",
        "http://e/metrics: connection refused",
        "http://e/metrics: it refuses the connection: nothing listens there",
    ],
)
def test_counters_that_somebody_elses_source_does_not_show_lower_the_rung_and_blame_nobody(
    source: str, error: str
) -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.down[source] = error
    found = evidence_of(play(world, Kind.WARM, number=1), cold, ATTACHED)

    assert broken(found) == {}
    assert found["sources_answer"].status is Status.UNAVAILABLE
    assert error in found["sources_answer"].detail
    decisive = "warm_store_hits" if source == "master" else "warm_external_tokens"
    assert found[decisive].status is Status.UNAVAILABLE
    assert error in found[decisive].detail
    assert found["warm_cached_tokens"].status is Status.HELD


@pytest.mark.parametrize("source", ["engine:0", "master"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("http://e/metrics: HTTP 503 instead of metrics", Status.UNAVAILABLE),
        ("no answer within 5 s from http://e/metrics", Status.UNAVAILABLE),
        ("http://e/metrics: Cannot connect to host 127.0.0.1:1 [Connect call failed]", Status.BROKEN),
        ("http://e/metrics: it refuses the connection: nothing listens there", Status.BROKEN),
    ],
)
def test_of_a_process_that_we_started_only_a_port_that_is_closed_says_that_it_ended(
    source: str, error: str, status: Status
) -> None:
    world = World()
    cold = play(world, Kind.COLD)
    world.down[source] = error
    found = evidence_of(play(world, Kind.WARM, number=1), cold, view())

    assert found["sources_answer"].status is status
    assert broken(found) == ({"sources_answer": Fault.PRODUCT} if status is Status.BROKEN else {})


@pytest.mark.parametrize("source", ["engine:0", "master"])
@pytest.mark.parametrize("times", [0.5, 7.0])
@pytest.mark.parametrize("where", ["in the round", "between the rounds", "in the cold round"])
def test_replicas_that_answer_in_turn_break_no_check(source: str, times: float, where: str) -> None:
    """Another process's counters, with a start time of its own, may be lower or higher than those of the one before."""
    world = World()
    play(world, Kind.COLD)
    cold = play(world, Kind.COLD, number=1)
    warm = play(world, Kind.WARM, number=2)
    first, second = NOW_S - 500, NOW_S - 100
    cold = replace(cold, before=started(cold.before, source, first), after=started(cold.after, source, first))
    warm = replace(warm, before=started(warm.before, source, first), after=started(warm.after, source, first))
    if where == "in the round":
        warm = replace(warm, after=started(counted(warm.after, source, times), source, second))
    elif where == "between the rounds":
        before, after = (
            started(counted(scrapes, source, times), source, second) for scrapes in (warm.before, warm.after)
        )
        warm = replace(warm, before=before, after=after)
    else:
        cold = replace(cold, after=started(counted(cold.after, source, times), source, second))
    found = evidence_of(warm, cold, ATTACHED)

    assert {check for check in broken(found) if check != "store_kept"} == set()
    assert found["no_restart"].status is Status.UNAVAILABLE
    decisive = "warm_store_hits" if source == "master" else "warm_external_tokens"
    assert CANNOT_BE_TOLD in found[decisive].detail


def test_one_process_of_somebody_elses_that_began_anew_is_the_products_fault() -> None:
    world = World()
    cold = play(world, Kind.COLD)
    warm = play(world, Kind.WARM, number=1)
    same = [started(scrapes, "engine:0", NOW_S - 500) for scrapes in (cold.before, cold.after, warm.before)]
    cold = replace(cold, before=same[0], after=same[1])
    anew = started(counted(warm.after, "engine:0", 0.1), "engine:0", NOW_S + 5, NOW_S + 30)
    found = evidence_of(replace(warm, before=same[2], after=anew), cold, ATTACHED)

    assert broken(found) == {"no_restart": Fault.PRODUCT}
    assert found["no_restart"].observed == "restarted: engine:0"


def test_requests_that_a_shared_source_counted_are_nobodys() -> None:
    """More requests than ours are somebody else's traffic only where one process counted them."""
    world = World()
    cold = play(world, Kind.COLD, foreign=3)
    alone = evidence_of(cold, None, ATTACHED)
    before, after = started(cold.before, "engine:0", NOW_S - 9), started(cold.after, "engine:0", NOW_S - 500)
    shared = evidence_of(replace(cold, before=before, after=after), None, ATTACHED)

    assert alone["only_our_requests"].status is Status.BROKEN
    assert alone["only_our_requests"].fault is Fault.INSTRUMENT
    assert shared["only_our_requests"].status is Status.UNAVAILABLE
    assert CANNOT_BE_TOLD in shared["only_our_requests"].detail


def test_all_processes_of_an_endpoint_together_prove_what_one_engine_would() -> None:
    world = World(engines=3)
    names = {"engine:0": "engine:0", "engine:1": "engine:0.1", "engine:2": "engine:0.2"}

    def behind_one_address(measured: Round) -> Round:
        before, after = (
            tuple(replace(scrape, source=names.get(scrape.source, scrape.source)) for scrape in scrapes)
            for scrapes in (measured.before, measured.after)
        )
        return replace(measured, before=before, after=after)

    cold = behind_one_address(play(world, Kind.COLD))
    warm = behind_one_address(play(world, Kind.WARM, number=1))
    found = evidence_of(warm, cold, ATTACHED)

    assert broken(found) == {}
    assert found["warm_external_tokens"].status is Status.HELD
    assert found["only_our_requests"].status is Status.HELD
    assert found["warm_external_tokens"].rung is Rung.ENGINE
    lost = replace(warm, after=tuple(s for s in warm.after if s.source != "engine:0.2"))
    assert evidence_of(lost, cold, ATTACHED)["warm_external_tokens"].status is Status.UNAVAILABLE


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({}, "the engines show no counters: name them by --mooncake-metrics URL"),
        ({"metrics": "none"}, "the engines' counters are not read, as asked (--mooncake-metrics none)"),
        (
            {"replicas": {"http://e/metrics": 3}},
            "3 processes answer at http://e/metrics in turn: name each one's metrics with --mooncake-metrics",
        ),
    ],
)
def test_why_no_engine_counters_are_read_is_said(details: dict[str, object], words: str) -> None:
    measured = play(World(hidden={"engine:0"}), Kind.COLD)
    facts = facts_of(measured, replace(ATTACHED, details=details), reference=None, warm_hit_share=1.0)

    assert facts.engine_problem == words
