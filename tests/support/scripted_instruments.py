"""Instruments without a world: rounds of one request, whose record a test says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from pytest_mooncake.analysis.trials import RoundFindings
from pytest_mooncake.load.spec import RoundResult
from pytest_mooncake.records import (
    CORRECTNESS,
    ClientHealth,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    PlannedRequest,
    ProbeAnswer,
    RequestRecord,
    Round,
    Scrape,
    Settle,
)
from pytest_mooncake.run.protocol import Sent, Step
from tests.support import runs


class ScriptedInstruments(ABC):
    """What `measure_round` asks of the world, answered at once."""

    planned = None

    @abstractmethod
    def record_of(self, step: Step) -> RequestRecord:
        """The record of the round's request."""

    def nonce(self, number: int, /) -> str:
        return f"nonce-{number}"

    def requests(self, _nonce: str, _kind: Kind, /) -> Sequence[PlannedRequest]:
        return ()

    async def prepare(self, step: Step, /) -> None:  # noqa: B027 - nothing has to be cleared
        """Clear nothing."""

    async def send(
        self, step: Step, _requests: Sequence[PlannedRequest], on_record: Callable[[RequestRecord], None], /
    ) -> Sent:
        record = self.record_of(step)
        on_record(record)
        result = RoundResult(started_ns=0, ended_ns=1_000_000_000, health=ClientHealth(), cut_short=None)
        return Sent(result=result, records=(record,))

    async def scrape(self) -> tuple[Scrape, ...]:
        return ()

    async def settle(self, _step: Step, _before: tuple[Scrape, ...], /) -> Settle:
        return Settle(seconds=0.0, settled=True, how="at once")

    async def probe(self) -> tuple[tuple[ProbeAnswer, ...], Gate]:
        return (), Gate(id=CORRECTNESS, status=GateStatus.NOT_MADE)

    def judge_round(self, _measured: Round, _rounds: Sequence[Round], /) -> RoundFindings:
        return RoundFindings(evidence=(), product_faults=(), instrument_faults=())

    def judge(self, _rounds: tuple[Round, ...], /) -> Judgement:
        return runs.judgement()
