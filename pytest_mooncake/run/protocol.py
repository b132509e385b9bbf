"""The protocol of a run, readable as prose: one cold round left out, then chains C0 W1 C1 W2 … until it is decided.

A cold round sends prompts that nobody has seen (a fresh nonce at the first token of each), then waits until every
asynchronous store has finished; a warm round sends exactly the same requests again. Trial t is W_t with the cold
rounds on both sides of it. After each trial the whole run so far is judged; the run ends at the first product fault,
at the first look that decides, at the last look, or when more trials would have to be repeated than is allowed. An
invalid trial ends its chain, and a new segment starts with a fresh cold round.

Where the trials are to be spread over several engine starts, a start has its share of them and its own round left out;
the rounds of earlier starts are handed to the next one, and the looks go on counting.

Nothing here knows sockets, files or pytest: the world comes in as `Instruments`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol

from pytest_mooncake.analysis.claims.gates import ENDED_BY_FAULT
from pytest_mooncake.analysis.judge import is_decided, judge_round
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
    StackView,
)


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


class Send(Protocol):
    """Send the requests of a round; each finished record is handed to `on_record` at once."""

    def __call__(
        self, step: Step, requests: Sequence[PlannedRequest], on_record: Callable[[RequestRecord], None]
    ) -> Awaitable[RoundResult]:
        """Send and wait for all of them."""
        ...


async def _nothing_to_prepare(_step: Step) -> None:
    """Where nothing is cleared and nothing taken away."""


async def _no_gate() -> tuple[tuple[ProbeAnswer, ...], Gate]:
    """Where nothing asks for the correctness gate."""
    return (), Gate(id=CORRECTNESS, status=GateStatus.NOT_MADE, reason="there was nothing to make it with")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """All that the protocol needs of the world."""

    requests: Callable[[str, Kind], Sequence[PlannedRequest]]
    send: Send
    scrape: Callable[[], Awaitable[tuple[Scrape, ...]]]
    settle: Callable[[Step, tuple[Scrape, ...]], Awaitable[Settle]]
    judge: Callable[[tuple[Round, ...]], Judgement]
    nonce: Callable[[int], str]
    prepare: Callable[[Step], Awaitable[None]] = _nothing_to_prepare
    probe: Callable[[], Awaitable[tuple[tuple[ProbeAnswer, ...], Gate]]] = _no_gate
    planned: PlannedReuse | None = None


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
        view: StackView,
        instruments: Instruments,
        observer: Observer,
        earlier: Sequence[Round] = (),
    ) -> None:
        self._plan = plan
        self._view = view
        self._use = instruments
        self._tell = observer
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
        self._tell.probed(*await self._gate())
        return True

    async def _gate(self) -> tuple[tuple[ProbeAnswer, ...], Gate]:
        """Ask whether what the cache gives back is right; a run that failed already need not know."""
        if self._product_fault:
            return (), Gate(id=CORRECTNESS, status=GateStatus.NOT_APPLICABLE, reason=ENDED_BY_FAULT)
        return await self._use.probe()

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
            judgement = self._use.judge(tuple(self.rounds))
            self._tell.judged(judgement)
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
            round=number, kind=kind, phase=phase, segment=segment, position=position, nonce=self._use.nonce(number)
        )

    def _warm_after(self, cold: Step) -> Step:
        return replace(cold, round=len(self.rounds), kind=Kind.WARM, position=cold.position + 1)

    async def _round(self, step: Step) -> bool:
        """Send one round and record it. False when it shows a product fault, which ends the run."""
        measured = await measure_round(step, self._use, self._tell)
        self.rounds.append(measured)
        self._product_fault = bool(judge_round(measured, self.rounds, self._view, self._plan).product_faults)
        return not self._product_fault


async def measure_round(step: Step, use: Instruments, tell: Observer) -> Round:
    """Send one round, wait until it has settled, and tell the observer; counters are read before and after."""
    await use.prepare(step)
    requests = use.requests(step.nonce, step.kind)
    tell.round_starts(step, len(requests))
    before = await use.scrape()
    records: list[RequestRecord] = []

    def keep(record: RequestRecord) -> None:
        records.append(record)
        tell.request_done(record)

    sent = await use.send(step, requests, keep)
    settle = await use.settle(step, before)
    after = await use.scrape()
    measured = Round(
        round=step.round,
        kind=step.kind,
        phase=step.phase,
        segment=step.segment,
        position=step.position,
        nonce=step.nonce,
        started_ns=sent.started_ns,
        ended_ns=sent.ended_ns,
        requests=tuple(sorted(records, key=lambda r: r.index)),
        before=before,
        after=after,
        settle=settle,
        client=sent.health,
        cut_short=sent.cut_short,
        planned=use.planned,
    )
    tell.round_done(step, measured)
    return measured
