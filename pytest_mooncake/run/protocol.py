"""The protocol of a run, readable as prose: one cold round left out, then chains C0 W1 C1 W2 … until it is decided.

A cold round sends prompts that nobody has seen (a fresh nonce at the first token of each), then waits until every
asynchronous store has finished; a warm round sends exactly the same requests again. Trial t is W_t with the cold
rounds on both sides of it. After each trial the whole run so far is judged; the run ends at the first product fault,
at the first look that decides, at the last look, or when more trials would have to be repeated than is allowed. An
invalid trial ends its chain, and a new segment starts with a fresh cold round.

Where the trials are to be spread over several engine starts, a start has its share of them and its own round left out;
the rounds of earlier starts are handed to the next one, and the looks go on counting.

Nothing here knows sockets, files or pytest: what measures and what is measured comes in as `Instruments`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol

from pytest_mooncake.analysis.claims.gates import ENDED_BY_FAULT
from pytest_mooncake.analysis.judge import is_decided
from pytest_mooncake.analysis.trials import RoundFindings
from pytest_mooncake.errors import EndpointError
from pytest_mooncake.load.spec import RoundResult
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import (
    CORRECTNESS,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    Phase,
    PlannedRequest,
    PlannedReuse,
    ProbeAnswer,
    RequestRecord,
    Round,
    Scrape,
    Settle,
)

NOTHING_TO_STORE = Settle(seconds=0.0, settled=True, how="nothing is stored without a connector")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Which round comes next and with which prompts."""

    round: int
    kind: Kind
    phase: Phase
    segment: int
    position: int
    nonce: str

    @property
    def name(self) -> str:
        """What people call it: left-out, C0, W1 and so on; bare 1 without a connector, old 1 and new 2 in turns."""
        if self.phase is Phase.LEFT_OUT:
            return "left-out"
        if self.phase is Phase.COLD_TAX:
            return f"bare {self.position}"
        if self.phase is Phase.VERSUS:
            return f"{'new' if self.segment else 'old'} {self.position}"
        letter = "C" if self.kind is Kind.COLD else "W"
        return f"{letter}{(self.position + 1) // 2}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A round as it was sent: what it came to as a whole, and the record of every request, in the order they ended."""

    result: RoundResult
    records: tuple[RequestRecord, ...]


class Instruments(Protocol):
    """All that the protocol measures with: prompts, a client, counters, settle times, and who judges."""

    @property
    def planned(self) -> PlannedReuse | None:
        """What every round reuses by plan; `None` where that is not known."""

    def nonce(self, number: int, /) -> str:
        """What the prompts of a round begin with, so that nobody has seen them."""
        ...

    def requests(self, nonce: str, kind: Kind, /) -> Sequence[PlannedRequest]:
        """The requests of a round."""
        ...

    async def prepare(self, step: Step, /) -> None:
        """Bring caches and keys into the state that the round needs."""

    async def send(
        self, step: Step, requests: Sequence[PlannedRequest], on_record: Callable[[RequestRecord], None], /
    ) -> Sent:
        """Send all requests and wait for all of them; each finished record is handed to `on_record` at once."""
        ...

    async def scrape(self) -> tuple[Scrape, ...]:
        """Read the counters of every source."""
        ...

    async def settle(self, step: Step, before: tuple[Scrape, ...], /) -> Settle:
        """Wait until every asynchronous store of the round has finished."""
        ...

    async def probe(self) -> tuple[tuple[ProbeAnswer, ...], Gate]:
        """Ask whether what the cache gives back is right."""
        ...

    def judge_round(self, measured: Round, rounds: Sequence[Round], /) -> RoundFindings:
        """What one round shows, beside the run so far."""
        ...

    def judge(self, rounds: tuple[Round, ...], /) -> Judgement:
        """What the run so far comes to."""
        ...


class _End(Enum):
    """Why a chain ended."""

    DECIDED = auto()
    BROKEN = auto()
    START_IS_DONE = auto()


class Observer(Protocol):
    """Who is told as things happen: the journal and the progress display."""

    def round_starts(self, step: Step, planned: int) -> None:
        """A round is about to be sent."""

    def request_done(self, record: RequestRecord) -> None:
        """A request finished, well or not."""

    def round_done(self, step: Step, measured: Round) -> None:
        """A round has been sent and its counters read."""

    def judged(self, judgement: Judgement) -> None:
        """A trial is complete and the run so far was judged."""

    def probed(self, answers: tuple[ProbeAnswer, ...], gate: Gate) -> None:
        """What became of the correctness gate, and what was answered."""


class Experiment:
    """One run of the protocol. `rounds` holds what was measured so far, also after an interruption.

    `earlier` are the rounds of the same run on earlier engine starts.
    """

    def __init__(
        self,
        plan: Plan,
        instruments: Instruments,
        observer: Observer,
        earlier: Sequence[Round] = (),
    ) -> None:
        self._plan = plan
        self._instruments = instruments
        self._observer = observer
        self.rounds: list[Round] = list(earlier)
        self._earlier = len(earlier)
        self._product_fault = False

    async def run(self) -> bool:
        """Measure until the run is decided, then ask whether what the cache gives back is right.

        Returns:
            False when this engine start has had its share of the trials and the run goes on with the next one.
        """
        if await self._measure() is _End.START_IS_DONE:
            return False
        self._observer.probed(*await self._gate())
        return True

    async def _gate(self) -> tuple[tuple[ProbeAnswer, ...], Gate]:
        """Ask whether what the cache gives back is right; a run that failed already need not know."""
        if self._product_fault:
            return (), Gate(id=CORRECTNESS, status=GateStatus.NOT_APPLICABLE, reason=ENDED_BY_FAULT)
        return await self._instruments.probe()

    async def _measure(self) -> _End:
        if self._plan.quick:
            await self._spec_form()
            return _End.DECIDED
        if not await self._round(self._step(Kind.COLD, Phase.LEFT_OUT, segment=0, position=0)):
            return _End.DECIDED
        segment = 1 + max(r.segment for r in self.rounds)
        while (end := await self._chain(segment)) is _End.BROKEN:
            segment += 1
        return end

    async def _spec_form(self) -> None:
        """Two rounds once, as the spec does it: cold, warm."""
        cold = self._step(Kind.COLD, Phase.CHAIN, segment=1, position=0)
        if await self._round(cold):
            await self._round(self._warm_after(cold))

    async def _chain(self, segment: int) -> _End:
        """One chain of rounds, until the run is decided, a trial is invalid or this start has had its share."""
        cold = self._step(Kind.COLD, Phase.CHAIN, segment=segment, position=0)
        if not await self._round(cold):
            return _End.DECIDED
        while True:
            warm = self._warm_after(cold)
            if not await self._round(warm):
                return _End.DECIDED
            cold = self._step(Kind.COLD, Phase.CHAIN, segment=segment, position=warm.position + 1)
            if not await self._round(cold):
                return _End.DECIDED
            judgement = self._instruments.judge(tuple(self.rounds))
            self._observer.judged(judgement)
            if is_decided(self._plan, judgement):
                return _End.DECIDED
            if self._has_its_share(judgement):
                return _End.START_IS_DONE
            if not judgement.trials[-1].valid:
                return _End.BROKEN

    def _has_its_share(self, judgement: Judgement) -> bool:
        share = self._plan.trials_per_start
        return share is not None and sum(t.valid and t.cold >= self._earlier for t in judgement.trials) >= share

    def _step(self, kind: Kind, phase: Phase, *, segment: int, position: int) -> Step:
        number = len(self.rounds)
        return Step(
            round=number,
            kind=kind,
            phase=phase,
            segment=segment,
            position=position,
            nonce=self._instruments.nonce(number),
        )

    def _warm_after(self, cold: Step) -> Step:
        return replace(cold, round=len(self.rounds), kind=Kind.WARM, position=cold.position + 1)

    async def _round(self, step: Step) -> bool:
        """Send one round and record it. False when it shows a product fault, which ends the run.

        Raises:
            EndpointError: the endpoint refuses whatever is sent: it cannot be measured like this.
        """
        measured = await measure_round(step, self._instruments, self._observer)
        self.rounds.append(measured)
        found = self._instruments.judge_round(measured, self.rounds)
        if found.refusal is not None:
            raise EndpointError(
                f"the endpoint refused every request of the first round ({found.refusal}); of the fields that are sent "
                "not every endpoint takes ignore_eos, min_tokens, stream_options and kv_transfer_params"
            )
        self._product_fault = bool(found.product_faults)
        return not self._product_fault


async def measure_round(step: Step, instruments: Instruments, observer: Observer, *, settles: bool = True) -> Round:
    """Send one round, wait until it has settled, and tell the observer; counters are read before and after.

    Args:
        step: which round it is.
        instruments: what the round is measured with.
        observer: is told as things happen.
        settles: whether anything is stored, so that there is something to wait for.
    """
    await instruments.prepare(step)
    requests = instruments.requests(step.nonce, step.kind)
    observer.round_starts(step, len(requests))
    before = await instruments.scrape()
    sent = await instruments.send(step, requests, observer.request_done)
    settle = await instruments.settle(step, before) if settles else NOTHING_TO_STORE
    after = await instruments.scrape()
    measured = Round(
        round=step.round,
        kind=step.kind,
        phase=step.phase,
        segment=step.segment,
        position=step.position,
        nonce=step.nonce,
        started_ns=sent.result.started_ns,
        ended_ns=sent.result.ended_ns,
        requests=tuple(sorted(sent.records, key=lambda r: r.index)),
        before=before,
        after=after,
        settle=settle,
        client=sent.result.health,
        cut_short=sent.result.cut_short,
        planned=instruments.planned,
    )
    observer.round_done(step, measured)
    return measured
