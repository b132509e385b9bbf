"""Everything that the checks of one round look at, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from pytest_mooncake.analysis.evidence.attribution import Attribution, attribute
from pytest_mooncake.analysis.evidence.counters.deltas import CounterDeltas, changed_between, deltas
from pytest_mooncake.analysis.evidence.counters.sources import MASTER
from pytest_mooncake.analysis.evidence.expected.chunk_size import Reply, Units, replies_of, rules_of, units_of
from pytest_mooncake.analysis.evidence.expected.common_prefix import common_tokens
from pytest_mooncake.analysis.evidence.expected.formulae import Expected, expect
from pytest_mooncake.analysis.evidence.faults import fault_of, outcome_of
from pytest_mooncake.analysis.evidence.store_ownership import ends_with_the_run
from pytest_mooncake.records import Evidence, Kind, Phase, RequestRecord, Round, Rung, StackView, Status

__all__ = ["EVICTS_BY_PLAN", "Coverage", "Facts", "cannot_be_told", "checked", "facts_of", "unavailable"]


EVICTS_BY_PLAN = "a steady state: the store evicts by plan, and what it still serves is judged by its hits"


class Coverage(StrEnum):
    """Whether the engines' counters counted our requests, all of them and nobody else's."""

    OURS = "ours"
    FOREIGN = "foreign"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One round, its counters and what they were expected to do.

    `expected` is over the requests that succeeded; None where the geometry or a prompt length is not known. `lengths`
    are theirs, `replies` what they were served by their own account: None where a length, or any account, is missing.
    `units` is how the cache keeps them, `common_tokens` what of every prompt any cache may serve (None: not known).
    `cached_tokens` is Σ of what the server reported per request; None where it reports none. `store_problem` and
    `engine_problem` say why sums of those counters prove nothing here; None when they do.
    """

    round: Round
    view: StackView
    reference: Round | None
    deltas: CounterDeltas
    reference_deltas: CounterDeltas | None
    expected: Expected | None
    succeeded: tuple[RequestRecord, ...]
    lengths: tuple[int, ...] | None
    replies: tuple[Reply, ...] | None
    units: Units
    common_tokens: int | None
    cached_tokens: int | None
    coverage: Coverage
    store_problem: str | None
    engine_problem: str | None
    warm_hit_share: float
    planned: int

    @property
    def prompt_tokens(self) -> int | None:
        """Σ prompt tokens; None where a length is not known."""
        return None if self.lengths is None else sum(self.lengths)

    @property
    def is_shared(self) -> bool:
        """Whether others may use the store too, so that its counters do not say whose keys they count."""
        return not ends_with_the_run(self.view)

    @property
    def most_common_tokens(self) -> int:
        """Tokens that all requests together may be served of what is in front of every prompt."""
        return (self.common_tokens or 0) * len(self.succeeded)

    @property
    def keys_to_store(self) -> int | None:
        """Keys this round should add to the store: every distinct chunk once; None where the geometry is unknown."""
        if self.expected is None or self.view.kv is None or self.round.planned is None:
            return self.expected.objects if self.expected else None
        return self.round.planned.distinct_chunks * self.view.kv.ranks

    @property
    def own_tokens(self) -> int:
        """Prompt tokens that a cold round may be served of its own making; 0 where prompts share nothing."""
        return self.round.planned.cold_cached_tokens if self.round.planned else 0

    @property
    def own_tokens_in_blocks(self) -> int:
        """The same for a tier whose blocks are smaller than the store's chunks: up to a chunk more in every request."""
        planned = self.round.planned
        return (
            planned.cold_cached_tokens + planned.requests * planned.chunk_tokens if planned and self.own_tokens else 0
        )

    @property
    def is_steady(self) -> bool:
        """Whether the store is smaller than the working set by plan, so that it evicts."""
        return self.round.planned is not None and self.round.planned.steady_store_chunks is not None

    @property
    def least_warm_share(self) -> float:
        """Share of all that could be cached which a warm round must be served (0-1); in a steady state LRU's part."""
        planned = self.round.planned
        if planned is None or not self.is_steady or not planned.chunks:
            return self.warm_hit_share
        return self.warm_hit_share * planned.steady_warm_chunks / planned.chunks

    @property
    def least_own_share(self) -> float:
        """Share of its own reuse that a cold round must find (0-1); in a steady state LRU's part of it."""
        planned = self.round.planned
        if planned is None or not self.is_steady or not planned.cold_chunks:
            return self.warm_hit_share
        return self.warm_hit_share * planned.steady_cold_chunks / planned.cold_chunks

    @property
    def own_keys(self) -> int | None:
        """Keys that a cold round may be handed out of its own making; None where the ranks are not known."""
        if not self.own_tokens or self.round.planned is None:
            return 0
        return self.round.planned.cold_chunks * self.view.kv.ranks if self.view.kv else None

    @property
    def attribution(self) -> Attribution:
        """Where the prompt tokens came from."""
        return attribute(self.deltas, self.view.kv)


def facts_of(
    this: Round,
    view: StackView,
    *,
    reference: Round | None,
    warm_hit_share: float,
    planned: int | None = None,
    shown_in: Round | None = None,
    rounds: Sequence[Round] = (),
) -> Facts:
    """Work out the facts of a round.

    `shown_in` is a further round whose replies tell whether this server shows `cached_tokens`; `rounds` are all of the
    run, whose replies tell its chunk size.
    """
    moved, moved_before = _both_moved(this, reference, view, shown_in)
    succeeded = tuple(record for record in this.requests if record.error is None)
    lengths = _lengths(succeeded)
    cached = _cached_tokens(succeeded, shown_in or reference)
    common = common_tokens(this, this if this.kind is Kind.COLD else reference)
    coverage = _coverage(moved, sent=len(this.requests), succeeded=len(succeeded))
    units = _units(this, view, rounds, common=common or 0, has_nearer=moved.get("local_hit_tokens") != 0)
    return Facts(
        round=this,
        view=view,
        reference=reference,
        deltas=moved,
        reference_deltas=moved_before,
        expected=expect(lengths, view.kv, rule=units.likely.rule) if lengths and view.kv else None,
        succeeded=succeeded,
        lengths=lengths,
        replies=None if cached is None or lengths is None else replies_of(succeeded),
        units=units,
        common_tokens=common,
        cached_tokens=cached,
        coverage=coverage,
        **_problems(this, view, coverage, moved),
        warm_hit_share=warm_hit_share,
        planned=len(this.requests) if planned is None else planned,
    )


def _both_moved(
    this: Round, reference: Round | None, view: StackView, shown_in: Round | None
) -> tuple[CounterDeltas, CounterDeltas | None]:
    """What the counters moved by in this round, and in the one it is compared with."""
    untold = _untold(this, view, reference, shown_in)
    return _moved(this, view, untold), _moved(reference, view, untold) if reference else None


def _lengths(succeeded: tuple[RequestRecord, ...]) -> tuple[int, ...] | None:
    """The prompts' lengths, by the server or else by plan; None where one is not known, or there is none."""
    lengths = tuple(record.prompt_tokens or record.prompt_tokens_planned for record in succeeded)
    known = tuple(length for length in lengths if length is not None)
    return known if len(known) == len(lengths) > 0 else None


def _units(this: Round, view: StackView, rounds: Sequence[Round], *, common: int, has_nearer: bool) -> Units:
    """How the run's cache keeps prompts, by the replies of its warm rounds; of a cold round it is not asked."""
    if this.kind is Kind.COLD:
        return units_of(view, rules_of(view, this.after), ())
    others = (one for one in rounds if one.kind is Kind.WARM and one.round != this.round and _is_alike(one, this))
    records = [record for one in (this, *others) for record in one.requests]
    rules, replies = rules_of(view, this.after), replies_of(records)
    return units_of(view, rules, replies, common_tokens=common, has_nearer=has_nearer)


def _is_alike(one: Round, other: Round) -> bool:
    """Whether two rounds were served by the same stack: the segments of a comparison are two of them."""
    return one.phase is other.phase and (one.phase is not Phase.VERSUS or one.segment == other.segment)


def _cached_tokens(succeeded: tuple[RequestRecord, ...], other: Round | None) -> int | None:
    """Add up `cached_tokens`. Older servers leave the field out when it is 0: absent is 0 once it was seen anywhere."""
    seen = (*succeeded, *(other.requests if other else ()))
    if not succeeded or all(record.cached_tokens is None for record in seen):
        return None
    return sum(record.cached_tokens or 0 for record in succeeded)


def _moved(this: Round, view: StackView, untold: frozenset[str]) -> CounterDeltas:
    return deltas(this.before, this.after, identified=view.provisioned, untold=untold)


def _untold(this: Round, view: StackView, reference: Round | None, other: Round | None) -> frozenset[str]:
    """Name the sources that this round or others of the run show to be more than one process, or not known to be one.

    What they count in this round may be of one process and may not. A stack that was started here has none.
    """
    if view.provisioned:
        return frozenset()
    rounds = [this, *(one for one in (reference, other) if one is not None)]
    pairs = [(one.before, one.after) for one in rounds]
    if reference is not None:
        pairs.append((reference.after, this.before))
    return frozenset(name for pair in pairs for name in changed_between(*pair))


def _coverage(moved: CounterDeltas, *, sent: int, succeeded: int) -> Coverage:
    counted = moved.get("requests_succeeded")
    if counted is None:
        return Coverage.UNKNOWN
    if counted > sent:
        return Coverage.FOREIGN
    return Coverage.PARTIAL if counted < succeeded else Coverage.OURS


class _Problems(TypedDict):
    """Why a tier's counters do not tell what our round did; None where they do."""

    store_problem: str | None
    engine_problem: str | None


def _problems(this: Round, view: StackView, coverage: Coverage, moved: CounterDeltas) -> _Problems:
    shared = _shared_problem(this, coverage, moved)
    return _Problems(
        store_problem=_store_problem(this, view, moved) or shared,
        engine_problem=_engine_problem(this, view, moved) or shared,
    )


def _shared_problem(this: Round, coverage: Coverage, moved: CounterDeltas) -> str | None:
    failed = sum(record.error is not None for record in this.requests)
    counted = moved.get("requests_succeeded")
    if failed:
        return f"{failed} requests failed: what they stored and read cannot be told apart"
    if coverage is Coverage.FOREIGN:
        return f"the engines served {counted:g} requests in this round and only {len(this.requests)} were ours"
    return None


def _store_problem(this: Round, view: StackView, moved: CounterDeltas) -> str | None:
    if view.store is None:
        return "no Mooncake master is known: name its admin port by --mooncake-master URL"
    if MASTER in moved.failed:
        return f"the master's counters could not be read ({moved.failed[MASTER]})"
    if MASTER in moved.restarted:
        return "the master restarted during the round"
    if MASTER in moved.shared:
        return cannot_be_told("the master")
    if not any(scrape.source == MASTER for scrape in this.after):
        return "the master's counters were not read"
    return None


def _engine_problem(this: Round, view: StackView, moved: CounterDeltas) -> str | None:
    engines = [scrape.source for scrape in this.after if scrape.source.startswith("engine:")]
    if not engines or view.details.get("replicas"):
        return _why_unread(view)
    for source in engines:
        if source in moved.failed:
            return f"the counters of {source} could not be read ({moved.failed[source]})"
    broken = next((source for source in engines if source in moved.restarted), None)
    if broken:
        return f"{broken} restarted during the round"
    untold = next((source for source in engines if source in moved.shared), None)
    if untold:
        return cannot_be_told(untold)
    counted = moved.get("requests_succeeded")
    if counted is not None and counted < sum(record.error is None for record in this.requests):
        return (
            f"the counters saw only {counted:g} of our {len(this.requests)} requests: "
            f"engines are missing ({len(engines)} of them read, {len(view.engines)} known)"
        )
    return None


def cannot_be_told(source: str) -> str:
    """Say of a source that two looks at it are not known to be of one process."""
    return (
        f"{source} restarted, or another process answers at its address: "
        "which of both cannot be told, so its counters prove nothing"
    )


def _why_unread(view: StackView) -> str:
    """Why no counters of the engines were read."""
    replicas = view.details.get("replicas")
    if replicas:
        url, processes = next(iter(replicas.items()))
        return f"{processes} processes answer at {url} in turn: name each one's metrics with --mooncake-metrics"
    if view.details.get("metrics") == "none":
        return "the engines' counters are not read, as asked (--mooncake-metrics none)"
    return "the engines show no counters: name them by --mooncake-metrics URL"


def checked(
    facts: Facts,
    check: str,
    rung: Rung,
    what: str,
    *,
    held: bool,
    expected: str,
    observed: str,
    detail: str = "",
) -> Evidence:
    """Build the evidence of a check that could be made.

    Args:
        facts: the round's.
        check: the check.
        rung: what it rests on.
        what: what was seen where it does not hold, by its name in `analysis.evidence.faults`, which says whose fault
            that is.
        held: whether it holds.
        expected: what was expected, in words.
        observed: what was observed.
        detail: what to add.
    """
    status, fault = outcome_of(check, None if held else what, shared=facts.is_shared)
    return Evidence(
        id=check,
        status=status,
        rung=rung,
        expected=expected,
        observed=observed,
        fault=fault,
        round=facts.round.round,
        detail=detail,
    )


def unavailable(facts: Facts, check: str, rung: Rung, *, expected: str, why: str) -> Evidence:
    """Build the evidence of a check that could not be made, and why."""
    return Evidence(
        id=check,
        status=Status.UNAVAILABLE,
        rung=rung,
        expected=expected,
        observed="not measured",
        fault=fault_of(check, shared=facts.is_shared),
        round=facts.round.round,
        detail=why,
    )
