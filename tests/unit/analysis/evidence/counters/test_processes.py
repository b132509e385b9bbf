"""Replicas are never taken for a restart, a restart of one process is told, and one process is never taken for two."""

from __future__ import annotations

import doctest
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.evidence.counters import deltas as deltas_module
from pytest_mooncake.analysis.evidence.counters import exposition
from pytest_mooncake.analysis.evidence.counters.deltas import changed_between, deltas
from pytest_mooncake.analysis.evidence.counters.exposition import exposition_of
from pytest_mooncake.analysis.evidence.counters.processes import Change, change_of, processes_seen, same_process
from pytest_mooncake.records import Scrape

SERVED = 'vllm:request_success_total{engine="0",finished_reason="length",model_name="m"}'
PROMPT = 'vllm:prompt_tokens_total{engine="0",model_name="m"}'
PREFILL = 'vllm:request_prefill_time_seconds_sum{engine="0",model_name="m"}'
NOW_S = 1_764_000_000.0


def look(
    served: float, *, started_s: float | None = NOW_S - 900.0, at_s: float | None = NOW_S, engine: str = "0"
) -> Scrape:
    samples = {SERVED: served, PROMPT: 2048.0 * served, PREFILL: 0.3 * served}
    return Scrape(
        source="engine:0",
        at_ns=0,
        samples={name.replace('engine="0"', f'engine="{engine}"'): value for name, value in samples.items()},
        started_s=started_s,
        at_s=at_s,
    )


@dataclass
class Process:
    started_s: float | None
    served: float = 0.0


starts = st.none() | st.floats(min_value=NOW_S - 10**6, max_value=NOW_S, allow_nan=False)
processes = st.builds(Process, starts, st.integers(min_value=0, max_value=10**6).map(float))


@given(st.data(), st.lists(processes, min_size=1, max_size=4), st.booleans())
def test_looks_at_processes_that_take_turns_are_never_a_restart(
    data: st.DataObject, replicas: list[Process], clocked: bool
) -> None:
    """Whoever answers when, and however much each has served in between."""
    turns = data.draw(st.lists(st.tuples(st.sampled_from(replicas), st.integers(0, 500)), min_size=2, max_size=12))
    looks = []
    for second, (replica, more) in enumerate(turns):
        replica.served += more
        looks.append(look(replica.served, started_s=replica.started_s, at_s=NOW_S + second if clocked else None))
    for i, before in enumerate(looks):
        for after in looks[i + 1 :]:
            assert deltas((before,), (after,)).restarted == ()


@given(starts, st.lists(st.integers(min_value=0, max_value=10**6), min_size=2, max_size=8))
def test_one_process_is_always_known_again(started_s: float | None, rises: list[int]) -> None:
    totals = [float(sum(rises[: n + 1])) for n in range(len(rises))]
    looks = [look(total, started_s=started_s) for total in totals]

    assert processes_seen(*([one] for one in looks)) == 1
    assert all(change_of(one, looks[-1]) is Change.NONE for one in looks)


BEFORE = look(10)
SUCCESSOR = look(2, started_s=NOW_S + 5, at_s=NOW_S + 60)


def test_the_one_process_of_an_address_that_began_anew_after_the_last_look_restarted() -> None:
    assert change_of(BEFORE, SUCCESSOR) is Change.RESTARTED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BEFORE, replace(SUCCESSOR, started_s=NOW_S - 60)),  # it had begun before the last look: it was there already
        (BEFORE, replace(SUCCESSOR, started_s=NOW_S - 1800)),  # it is older
        (BEFORE, replace(SUCCESSOR, started_s=None)),
        (replace(BEFORE, started_s=None), SUCCESSOR),
        (replace(BEFORE, started_s=None), replace(SUCCESSOR, started_s=None)),
        (replace(BEFORE, at_s=None), SUCCESSOR),  # an old record: when it was looked at is not known
        (BEFORE, replace(SUCCESSOR, samples=look(20).samples)),  # it has served more: nothing fell
        (BEFORE, look(2, started_s=NOW_S + 5, engine="1")),  # it is labelled as another one
        (BEFORE, look(12, engine="1")),
        (BEFORE, replace(SUCCESSOR, started_s=BEFORE.started_s)),  # it did not begin anew, and counts less
    ],
)
def test_what_may_be_another_process_is_not_told(before: Scrape, after: Scrape) -> None:
    assert change_of(before, after) is Change.UNTOLD
    assert changed_between((before,), (after,)) == ("engine:0",)


def test_a_start_time_that_is_only_rounded_otherwise_is_that_of_the_same_process() -> None:
    assert change_of(look(1), look(2, started_s=NOW_S - 899.6)) is Change.NONE


def test_ranks_that_show_themselves_later_belong_to_the_same_process() -> None:
    first, both = look(1), look(2)
    both = replace(both, samples={**both.samples, **look(1, engine="1").samples})

    assert change_of(first, both) is Change.NONE
    assert change_of(both, first) is Change.UNTOLD


def test_processes_are_counted_by_their_start_times_and_without_them_by_counters_that_fall() -> None:
    a, b, c = (look(n, started_s=NOW_S - n) for n in (5, 6, 7))
    silent = [look(n, started_s=None) for n in (5, 50, 6)]
    failed = Scrape(source="engine:0", at_ns=0, samples={}, error="HTTP 503 instead of metrics")

    assert processes_seen([a], [b], [c], [a]) == 3
    assert processes_seen(*([one] for one in silent)) == 2
    assert processes_seen([silent[0]], silent[:2], [silent[1]]) == 1, "looks taken together have no order"
    assert processes_seen([a], [failed], [a]) == 1
    assert processes_seen([failed]) == 0


def test_one_process_at_two_addresses_is_recognised() -> None:
    nameless = look(3, started_s=None)

    assert same_process(look(3), look(4)), "it served one more in between"
    assert not same_process(look(3), look(3, started_s=NOW_S - 1))
    assert not same_process(look(4), look(3))
    assert same_process(nameless, nameless)
    assert not same_process(nameless, look(4, started_s=None))
    fresh = look(0, started_s=None)
    assert not same_process(fresh, fresh), "two engines that have served nothing count alike"


def test_when_the_first_counter_was_made_stands_for_a_start_time_that_is_not_shown() -> None:
    lines = f'{PROMPT} 5\nvllm:prompt_tokens_created{{engine="0"}} 1.5e+09\nvllm:num_preemptions_created 1.4e+09\n'

    assert exposition_of(lines).started_s == 1.4e9
    assert exposition_of(f"{lines}process_start_time_seconds 1.3e+09\n").started_s == 1.3e9
    assert exposition_of(f"{PROMPT} 5\n").started_s is None
    assert not [name for name in exposition_of(lines).samples if "created" in name]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_value_that_is_no_number_is_left_out(value: str) -> None:
    assert exposition_of(f"{PROMPT} 5\n{SERVED} {value}\n").samples == {PROMPT: 5.0}


@pytest.mark.parametrize("module", [exposition, deltas_module])
def test_the_examples_in_the_docstrings_are_true(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted > 0
    assert results.failed == 0
