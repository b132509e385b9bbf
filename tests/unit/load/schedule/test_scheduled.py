"""Requests with times: the schedule of the plan, and conversations that still wait."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_mooncake.load.schedule.scheduled import Scheduled, offsets_of
from pytest_mooncake.load.workers.sharding import worker_count
from pytest_mooncake.plan.parsing.arrivals import parse_rate
from pytest_mooncake.records import PlannedRequest


def planned(index: int) -> PlannedRequest:
    return PlannedRequest(index=index, prompt=(1,), prompt_tokens=1, output_tokens=1)


class Talk(Sequence[PlannedRequest]):
    """Two turns; the second holds the answer to the first."""

    is_chained = True

    def __init__(self) -> None:
        self.answers: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> PlannedRequest:  # type: ignore[override]
        return planned(index)

    def outline(self, index: int) -> PlannedRequest | None:
        return planned(index) if index == 1 and 0 not in self.answers else None

    def answered(self, index: int, token_ids: tuple[int, ...]) -> None:
        self.answers[index] = token_ids


@pytest.mark.parametrize("rate", ["5", "constant:5", "gamma:5:0.5", "ramp:1-9"])
def test_a_warm_round_repeats_the_arrivals_of_the_cold_one(rate: str) -> None:
    first, again = (offsets_of(parse_rate(rate), 200, seed=3) for _ in range(2))
    assert first == again
    assert first[0] == 0
    assert sorted(first) == list(first)
    assert 0.7 < 200 / 5 / (first[-1] / 1e9) < 1.4, "the rate asked for"


def test_poisson_and_gamma_follow_the_seed() -> None:
    assert offsets_of(parse_rate("5"), 9, seed=1) != offsets_of(parse_rate("5"), 9, seed=2)


def test_requests_get_their_times_and_stay_what_they_were() -> None:
    made = Scheduled([planned(0), planned(1)], (0, 7))
    assert len(made) == 2
    assert made[1].offset_ns == 7
    assert made[1].prompt == (1,)
    assert not made.is_chained
    assert made.outline(1) is None
    made.answered(0, (5,))


def test_conversations_still_wait_for_their_answers() -> None:
    talk = Talk()
    made = Scheduled(talk, (0, 7))
    assert made.is_chained
    outline = made.outline(1)
    assert outline is not None
    assert outline.offset_ns == 7
    made.answered(0, (5,))
    assert talk.answers == {0: (5,)}
    assert made.outline(1) is None


def test_workers_follow_the_load_and_leave_half_the_machine() -> None:
    assert worker_count(3, 4) == 3
    assert [worker_count("auto", streams, cpus=8) for streams in (1, 128, 129, 9999, None)] == [1, 1, 2, 4, 4]
    assert worker_count("auto", 9999, cpus=1) == 1
