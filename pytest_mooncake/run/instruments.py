"""What the protocol measures with: prompts, client, counters and settle times of a running stack."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pytest_mooncake.analysis.audit.store_need import told_bytes_per_token
from pytest_mooncake.analysis.evidence.counters.deltas import read as read_quantity
from pytest_mooncake.analysis.evidence.expected.formulae import object_bytes
from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.analysis.evidence.store_ownership import ends_with_the_run
from pytest_mooncake.analysis.judge import judge, judge_round
from pytest_mooncake.analysis.trials import RoundFindings
from pytest_mooncake.border.http import NoReply, open_session, send
from pytest_mooncake.cache.clear import Permission
from pytest_mooncake.cache.probes.gate import run_gate
from pytest_mooncake.cache.quiesce import quiesce
from pytest_mooncake.cache.run_keys import RunKeys
from pytest_mooncake.cache.scrape import Reader, scrape, sources_of
from pytest_mooncake.cache.store_budget import check_budget, chunks_held, free_bytes
from pytest_mooncake.errors import UsageError
from pytest_mooncake.load.calibration.client_error import ClientErrorMeter
from pytest_mooncake.load.round import RoundSpec
from pytest_mooncake.load.schedule.scheduled import Scheduled, offsets_of
from pytest_mooncake.load.spec import Api
from pytest_mooncake.load.workers.pool import run_round_in_workers
from pytest_mooncake.load.workers.sharding import worker_count
from pytest_mooncake.plan.permissions import check_permissions
from pytest_mooncake.plan.secrets.credentials import Credentials, credentials_of
from pytest_mooncake.records import (
    CORRECTNESS,
    Gate,
    GateStatus,
    Judgement,
    Kind,
    PlannedRequest,
    PlannedReuse,
    ProbeAnswer,
    RequestRecord,
    Round,
    Scrape,
    Settle,
    StackView,
)
from pytest_mooncake.run.protocol import Sent, Step
from pytest_mooncake.workload.build import build
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.reuse.planned_reuse import distinct_tokens
from pytest_mooncake.workload.reuse.steady_state import SteadyState, at_once, steady_state
from pytest_mooncake.workload.tokens.nonce import round_nonce
from pytest_mooncake.workload.tokens.pools import TokenPool

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from pytest_mooncake.plan.models import Plan

T = TypeVar("T")

QUIESCE_LIMIT_S = 30.0
NEEDS_IDS = "prompts were sent as text, and it compares answers to prompts of token ids"
_PROBE_S = 10.0
_ABSENT = (404, 405, 501)


def _ignore(_event: str, **_values: object) -> None:
    """Where nobody keeps a journal."""


@contextlib.asynccontextmanager
async def instruments_for(
    plan: Plan, view: StackView, environ: Mapping[str, str], note: Callable[..., None] = _ignore
) -> AsyncIterator[StackInstruments]:
    """Instruments for one run; at the end its keys are removed from the store and connections closed.

    Secrets that servers repeat are taken out of all that comes through them: counters' labels, settle times, the
    gate's answers, events and errors (of our own making included) quote servers.

    Args:
        plan: what will be run.
        view: the stack that runs.
        environ: where the API key is, by the name that the plan gives.
        note: takes an event for the journal, its name and values.

    Raises:
        WorkloadError: the prompts cannot be made for this model.
        UsageError: the run would store more than the budget, or clear what is somebody else's.
    """
    credentials = credentials_of(plan.stack, environ)
    clean = credentials.redactor.cleaned
    try:
        async with _opened(plan, view, credentials, lambda event, **said: note(event, **clean(said))) as instruments:
            yield instruments
    except Exception as error:
        error.args = clean(error.args)
        raise


@contextlib.asynccontextmanager
async def _opened(
    plan: Plan, view: StackView, credentials: Credentials, note: Callable[..., None]
) -> AsyncIterator[StackInstruments]:
    check_permissions(plan)
    async with _connections(credentials) as http, _connections(credentials, keep_alive=False) as fresh:
        api = await _api(plan, view, http, credentials.headers)
        workload = await _workload(plan, view, http, credentials.headers, api, note)
        read = Reader(fresh, sources_of(view), identified=view.provisioned)
        permission = Permission(plan.allow_clear)
        run_keys = RunKeys(http, view, plan.run_id, read=read, permission=permission, keep_full=plan.steady, note=note)
        await run_keys.start()
        planned = _planned(plan, view, run_keys, workload, note)
        error_meter = ClientErrorMeter(note, workers=worker_count(plan.workers, plan.workload.in_flight_cap))
        try:
            yield StackInstruments(
                plan=plan,
                view=view,
                credentials=credentials,
                http=http,
                fresh=fresh,
                api=api,
                workload=workload,
                read=read,
                run_keys=run_keys,
                error_meter=error_meter,
                planned=planned,
            )
        finally:
            await run_keys.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackInstruments:
    """The instruments of one run on a running stack: `run.protocol.Instruments` in terms of sockets and files."""

    plan: Plan
    view: StackView
    credentials: Credentials
    http: ClientSession
    fresh: ClientSession
    """Takes a new connection for each request."""
    api: Api
    workload: Workload
    read: Reader
    run_keys: RunKeys
    error_meter: ClientErrorMeter
    planned: PlannedReuse

    def nonce(self, number: int, /) -> str:
        """What the prompts of a round begin with."""
        return round_nonce(self.plan.run_id, number)

    def requests(self, nonce: str, kind: Kind, /) -> Sequence[PlannedRequest]:
        """The prompts of a round; in an open loop with the times at which they are sent, the same in every round."""
        planned = self.workload.requests(nonce, engines=len(self.view.engines), shift=int(kind is Kind.WARM))
        arrivals = self.plan.workload.arrivals
        if arrivals is None:
            return planned
        return Scheduled(planned, offsets_of(arrivals, len(planned), seed=self.plan.workload.seed))

    async def prepare(self, step: Step, /) -> None:
        """What comes before a round: caches and keys as they must be, then the client's own error."""
        await self.run_keys.prepare(step.kind, step.nonce)
        await self.error_meter.before(step.phase, concurrency=self.plan.workload.in_flight_cap)

    async def send(
        self, step: Step, requests: Sequence[PlannedRequest], on_record: Callable[[RequestRecord], None], /
    ) -> Sent:
        """Send a round with as many processes as the plan asks for, and put the client's own error beside it."""
        records: list[RequestRecord] = []

        def keep(record: RequestRecord) -> None:
            records.append(record)
            on_record(record)

        result = await run_round_in_workers(
            self._round_spec(step, requests),
            workers=worker_count(self.plan.workers, self.plan.workload.in_flight_cap),
            on_record=keep,
        )
        return Sent(result=self.error_meter.seen(result, records), records=tuple(records))

    def _round_spec(self, step: Step, requests: Sequence[PlannedRequest]) -> RoundSpec:
        return RoundSpec(
            round=step.round,
            kind=step.kind,
            phase=step.phase,
            requests=requests,
            concurrency=self.plan.workload.in_flight_cap,
            timeouts=self.plan.timeouts,
            engines=self.view.engines,
            model=self.view.model,
            headers=self.credentials.headers,
            api=self.api,
            body=self.run_keys.body(step.nonce),
        )

    async def scrape(self) -> tuple[Scrape, ...]:
        """Read the counters of every source."""
        return self._cleaned(await self.read())

    async def settle(self, step: Step, before: tuple[Scrape, ...], /) -> Settle:
        """Wait until the round's keys have arrived in the store, or for a fixed time where nobody counts them."""
        settle = await quiesce(
            self.read,
            expect_keys=None if self.plan.steady else _keys_to_come(self.planned, self.view, step),
            expect_requests=self.planned.requests,
            enough_share=self.plan.targets.warm_hit_share,
            before=before,
            fixed_s=self.plan.settle_fixed_s if step.kind is Kind.COLD else None,
            deadline_s=QUIESCE_LIMIT_S,
        )
        return self._cleaned(settle)

    async def probe(self) -> tuple[tuple[ProbeAnswer, ...], Gate]:
        """Measure the client's own error once more, then run the correctness gate, which needs prompts of token ids."""
        await self.error_meter.after()
        pool, run_keys = self.workload.pool, self.run_keys
        if not isinstance(pool, TokenPool):
            return (), Gate(id=CORRECTNESS, status=GateStatus.NOT_APPLICABLE, reason=NEEDS_IDS)
        found = await run_gate(
            self.http,
            self.view,
            self.plan.run_id,
            pool.ids,
            read=partial(scrape, self.http, sources_of(self.view)),
            headers=self.credentials.headers,
            params=(lambda tenant: run_keys.params(f"gate-{tenant}")) if run_keys.tags_requests else None,
            clear=run_keys.clear_nearer if run_keys.may_clear else None,
            fresh=self.fresh,
            longest=self.plan.workload.prompt_tokens,
        )
        return self._cleaned(found)

    def judge_round(self, measured: Round, rounds: Sequence[Round], /) -> RoundFindings:
        """What one round shows, beside the run so far."""
        return judge_round(measured, rounds, self.view, self.plan)

    def judge(self, rounds: tuple[Round, ...], /) -> Judgement:
        """What the run so far comes to."""
        return judge(self.plan, self.view, rounds)

    def _cleaned(self, said: T) -> T:
        return self.credentials.redactor.cleaned(said)


async def _workload(
    plan: Plan,
    view: StackView,
    http: ClientSession,
    headers: Mapping[str, str],
    api: Api,
    note: Callable[..., None],
) -> Workload:
    """The run's prompts; what of them is not as asked is on record."""
    workload = await build(plan.workload, view, http=http, headers=headers, run_id=plan.run_id, api=api)
    note("workload", notes=workload.layout.notes)
    return workload


def _connections(credentials: Credentials, *, keep_alive: bool = True) -> ClientSession:
    """What asks the stack: the endpoint's own addresses get its credentials, nothing else does.

    Without `keep_alive` every request takes a connection, and a process, of its own.
    """
    from pytest_mooncake.border.pinning import PinnedResolver

    resolver = None if keep_alive else PinnedResolver()
    return open_session(headers_for=credentials.headers_for, keep_alive=keep_alive, resolver=resolver)


def _planned(
    plan: Plan, view: StackView, run_keys: RunKeys, workload: Workload, note: Callable[..., None]
) -> PlannedReuse:
    """What the rounds reuse, and what the store makes of it: room enough, or in a steady state too little.

    Raises:
        UsageError: the store has too little room, or too much for a steady state.
    """
    planned = workload.planned(chunk_tokens_of(view))
    if not plan.steady:
        note("store_budget", **_checked_budget(plan, view, run_keys, planned, distinct_tokens(workload.layout)))
        return planned
    steady = _steady(plan, view, run_keys, planned, workload)
    note("workload", notes=(steady.sentence(),))
    return steady.sums()


def _steady(plan: Plan, view: StackView, run_keys: RunKeys, planned: PlannedReuse, workload: Workload) -> SteadyState:
    """What a store smaller than the working set must serve.

    Raises:
        UsageError: nobody tells how much it holds, or it holds everything.
    """
    capacity = read_quantity(run_keys.seen, "capacity_bytes")
    if view.kv is None or not capacity:
        raise UsageError(
            "--mooncake-steady: how many chunks the store holds is not known; its master's counters and the model's KV "
            "geometry tell (--mooncake-master), without them leave the option out"
        )
    chunks = chunks_held(capacity, view.kv)
    return steady_state(planned, workload.layout, chunks, in_flight=at_once(plan))


def _checked_budget(
    plan: Plan, view: StackView, run_keys: RunKeys, planned: PlannedReuse, tokens: int
) -> dict[str, object]:
    """What the run will store at most at a time, against what it may, as the journal holds it.

    Args:
        plan: what will be run.
        view: the stack; where it does not tell its KV geometry, the plan's hardware may.
        run_keys: knows what is free in the store, and whether keys go again.
        planned: chunks of a round.
        tokens: different prompt tokens of a round.

    Raises:
        UsageError: it is more.
    """
    rounds = 1 if run_keys.removes_keys or plan.quick else max(plan.looks) + 2
    each, free = told_bytes_per_token(plan), free_bytes(run_keys.seen)
    per_round = None if each is None else tokens * each
    if view.kv is not None:
        per_round = planned.distinct_chunks * view.kv.ranks * object_bytes(view.kv)
    sentence = check_budget(
        None if per_round is None else per_round * rounds,
        free_bytes=free,
        budget_bytes=plan.store_budget_bytes,
        provisioned=ends_with_the_run(view),
    )
    known = per_round is not None and (free is not None or plan.store_budget_bytes is not None)
    return {"sentence": sentence, "known": known}


async def _api(plan: Plan, view: StackView, http: ClientSession, headers: Mapping[str, str]) -> Api:
    """What requests are sent to: as the plan says, else completions unless the endpoint has none."""
    if plan.api != "auto":
        return plan.api
    if view.provisioned:
        return "completions"
    url = f"{view.engines[0].url}/v1/completions"
    try:
        reply = await send(http, "POST", url, timeout_s=_PROBE_S, headers=headers, body=b"{}")
    except NoReply:
        return "completions"
    return "chat" if reply.status in _ABSENT else "completions"


def _keys_to_come(planned: PlannedReuse, view: StackView, step: Step) -> int | None:
    """Objects that a round adds to the store: none when warm, else one a distinct chunk and rank; None if unknown."""
    if step.kind is Kind.WARM:
        return 0
    if view.kv is None:
        return None
    return planned.distinct_chunks * view.kv.ranks
