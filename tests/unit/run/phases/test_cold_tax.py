"""Cold rounds without a connector: the same stack but for the connector, recorded beside the run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.journal import Journal, read
from pytest_mooncake.records import Kind, Phase, RequestRecord, Round, Scrape, Settle
from pytest_mooncake.run.phases import cold_tax
from pytest_mooncake.run.protocol import Step
from tests.support import runs
from tests.support.scripted_instruments import ScriptedInstruments


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


class Bare(ScriptedInstruments):
    """An engine that stores nothing, and fails a request of a round."""

    def __init__(self, error_in: int | None = None) -> None:
        self._error_in = error_in

    def record_of(self, step: Step) -> RequestRecord:
        error = "refused" if step.position == self._error_in else None
        return replace(runs.request(step.round, Kind.COLD, 0, ttft_ms=1000, error=error), phase=step.phase)

    async def settle(self, step: Step, before: tuple[Scrape, ...], /) -> Settle:
        raise AssertionError("nothing is stored, so nothing is waited for")


async def measured(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Round]:
    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Bare]:
        yield Bare(**changes)

    monkeypatch.setattr(cold_tax, "instruments_for", opened)
    told = Told()
    await cold_tax.measure_bare_rounds(runs.plan(), runs.view(), {}, told, first=7)  # type: ignore[arg-type] # what is used
    return told.rounds


def test_the_stack_differs_in_nothing_but_the_connector_and_serves_the_same_model() -> None:
    plan = runs.plan(keep_stack=True)
    bare = cold_tax.without_connector(plan, runs.view(details={"heads": 8}))

    assert bare.stack.connector.kind == "none"
    assert bare.stack.model.heads == 8
    assert not bare.keep_stack
    restored = bare.stack.model_copy(update={"connector": plan.stack.connector, "model": plan.stack.model})
    assert restored == plan.stack
    assert cold_tax.without_connector(plan, runs.view()).stack.model == plan.stack.model


async def test_four_cold_rounds_with_prompts_of_their_own_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = await measured(monkeypatch)

    assert [r.round for r in rounds] == [7, 8, 9, 10]
    assert {(r.kind, r.phase) for r in rounds} == {(Kind.COLD, Phase.COLD_TAX)}
    assert len({r.nonce for r in rounds}) == 4


async def test_a_failed_request_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [r.round for r in await measured(monkeypatch, error_in=1)] == [7, 8]


def test_they_are_read_back_beside_the_run_without_the_first(tmp_path: Path) -> None:
    bare = [replace(runs.chain_round(7 + n, requests=0), phase=Phase.COLD_TAX, position=n) for n in range(4)]
    with Journal(tmp_path / "run", runs.plan()) as journal:
        for one in (runs.chain_round(1, requests=0), *bare):
            journal.round(one)
    recorded = read(tmp_path / "run")

    assert [r.round for r in recorded.rounds] == [1]
    assert [r.round for r in recorded.without_connector] == [8, 9, 10]
