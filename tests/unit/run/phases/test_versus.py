"""The order of visits to two endpoints: in turns, a nonce each, ended when decided or by a failed request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.errors import StackError
from pytest_mooncake.journal import Journal, read
from pytest_mooncake.plan.models import Plan, StackPlan
from pytest_mooncake.records import (
    Kind,
    Phase,
    RequestRecord,
    Round,
    StackView,
)
from pytest_mooncake.run.phases import versus
from pytest_mooncake.run.protocol import Step
from tests.support import runs
from tests.support.scripted_instruments import ScriptedInstruments

OLD_STACK = StackPlan(name="versus", kind="attached", urls=("http://old:1",))


class Told:
    """Keeps the rounds that it is told of."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []

    def round_starts(self, step: Step, planned: int) -> None:
        """Not kept."""

    def request_done(self, record: RequestRecord) -> None:
        """Not kept."""

    def round_done(self, step: Step, measured: Round) -> None:
        self.rounds.append(measured)


class Endpoint(ScriptedInstruments):
    """An endpoint that is so many times slower than one of a second, and fails a request of a visit."""

    def __init__(self, slower: float, wobble: float, error_at: int | None) -> None:
        self._slower, self._wobble, self._error_at = slower, wobble, error_at

    def record_of(self, step: Step) -> RequestRecord:
        error = "refused" if step.position == self._error_at else None
        ttft_ms = 1000 * self._slower * (1 + self._wobble * (step.position % 3))
        made = runs.request(step.round, step.kind, 0, ttft_ms=ttft_ms, error=error)
        return replace(made, phase=step.phase, cached_tokens=0 if step.kind is Kind.COLD else made.prompt_tokens)


async def measured(
    monkeypatch: pytest.MonkeyPatch,
    *,
    slower: float = 2.0,
    wobble: float = 0.01,
    error_at: int | None = None,
    ended: list[str | None] | None = None,
    **changes: object,
) -> list[Round]:
    @asynccontextmanager
    async def opened(plan: Plan, _view: StackView, _environ: Mapping[str, str]) -> AsyncIterator[Endpoint]:
        is_old = plan.stack == OLD_STACK
        yield Endpoint(1.0 if is_old else slower, wobble, error_at)

    monkeypatch.setattr(versus, "instruments_for", opened)
    told = Told()
    plan = runs.plan(versus=OLD_STACK, **{"looks": (2, 3), **changes})
    why = await versus.measure_visits(plan, runs.view(), runs.view(), {}, told, first=9)  # type: ignore[arg-type] # what is used
    if ended is not None:
        ended.append(why)
    return told.rounds


async def test_visits_alternate_old_first_and_last_each_cold_then_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = await measured(monkeypatch)

    assert [r.round for r in rounds] == list(range(9, 9 + len(rounds)))
    assert [r.kind for r in rounds] == [Kind.COLD, Kind.WARM] * (len(rounds) // 2)
    assert {r.phase for r in rounds} == {Phase.VERSUS}
    assert [r.segment for r in rounds[::2]][:6] == [0, 0, 1, 0, 1, 0]  # the first visit of the old one is left out
    assert rounds[-1].segment == 0
    assert all(cold.nonce == warm.nonce for cold, warm in zip(rounds[::2], rounds[1::2], strict=True))
    assert len({r.nonce for r in rounds}) == len(rounds) // 2


async def test_what_stays_undecided_ends_after_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = await measured(monkeypatch, slower=1.05, wobble=0.3)
    assert max(r.position for r in rounds) == 7


@pytest.mark.parametrize(("at", "whose"), [(0, "old"), (1, "old"), (2, "new")])
async def test_a_failed_request_ends_it_and_says_whose_it_was(
    monkeypatch: pytest.MonkeyPatch, at: int, whose: str
) -> None:
    ended: list[str | None] = []
    rounds = await measured(monkeypatch, error_at=at, ended=ended)
    assert max(r.position for r in rounds) == at
    assert ended == [f"2 of the requests of visit {at}, to the {whose} endpoint, failed (refused)"]


async def test_visits_that_went_on_to_their_end_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str | None] = []
    await measured(monkeypatch, ended=ended)
    await measured(monkeypatch, slower=1.05, wobble=0.3, ended=ended)
    assert ended == [None, None]


async def test_a_quick_run_visits_the_new_endpoint_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = await measured(monkeypatch, quick=True)
    assert [r.segment for r in rounds[::2]] == [0, 0, 1, 0]


def test_without_an_old_endpoint_there_is_no_plan_for_it() -> None:
    with pytest.raises(StackError, match="give --mooncake-versus URL"):
        versus.plan_of_old(runs.plan())


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), "the run was ended before them"),
        ((("versus", {"view": None}),), "the run was ended in them"),
        ((("versus", {"view": None}), ("versus_end", {"error": None})), None),
        ((("versus", {"view": None}), ("versus_end", {"error": "it is gone"})), "it is gone"),
    ],
)
def test_a_record_tells_why_its_turns_ended(
    tmp_path: Path, events: tuple[tuple[str, dict[str, object]], ...], why: str | None
) -> None:
    with Journal(tmp_path / "run", runs.plan(versus=OLD_STACK)) as journal:
        for name, values in events:
            journal.event(name, **values)
    assert read(tmp_path / "run").versus_end == why


def test_a_run_without_an_old_endpoint_has_no_turns_to_end(tmp_path: Path) -> None:
    with Journal(tmp_path / "run", runs.plan()):
        pass
    assert read(tmp_path / "run").versus_end is None


def test_visits_are_read_back_beside_the_run_without_the_first(tmp_path: Path) -> None:
    visits = [replace(runs.chain_round(7 + n, requests=0), phase=Phase.VERSUS, position=n // 2) for n in range(4)]
    with Journal(tmp_path / "run", runs.plan()) as journal:
        for one in (runs.chain_round(1, requests=0), *visits):
            journal.round(one)
    recorded = read(tmp_path / "run")

    assert [r.round for r in recorded.rounds] == [1]
    assert [r.round for r in recorded.versus] == [9, 10]
    assert Step(round=1, kind=Kind.COLD, phase=Phase.VERSUS, segment=1, position=2, nonce="n").name == "new 2"
