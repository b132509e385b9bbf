"""How much of each prompt is shared and how much is new, so that exactly the reuse asked for comes out.

A *session* is a conversation of one or more turns about one document. Its first prompt is the shared prefix, the
document and a question; each later turn adds the answer and the next question:

    turn 1   prefix | document | question
    turn 2   prefix | document | question | answer | question
    turn 3   …

One number decides how much is new: `fresh` (0-1), the part of a prompt that no other prompt has. It is found by
bisection, because the hits of a cache of whole chunks are known in closed form: a later turn finds all whole chunks of
the turn before it, a first turn those of prefix and document. The first session on a document is the one that takes
most of it and leads: all others wait for its first prompt, so hits do not depend on how many requests are in flight.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.plan.models import Traffic, WorkloadPlan
from pytest_mooncake.workload.layouts.sampling import even, lengths, popularity
from pytest_mooncake.workload.tokens.nonce import NONCE_TOKENS

LEAST_QUESTION = 16
LEAST_FRESH = 1 / 64
STEPS = 50
"""Halvings of `fresh`: far below one token for any prompt."""
_TIMES_MORE = tuple(1.125**step for step in range(1, 30))
"""How much more of something is tried before it is said that no more of it will do (up to thirty times)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation: `length` is the mean prompt over all turns it could have, `shift` rounds its chunks (0-1)."""

    length: int
    document: int
    turns: int
    leads: bool
    shift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Lengths in tokens: prefix and document together, the first prompt, what each later turn adds."""

    shared: int
    first: int
    added: int

    def prompt(self, turn: int) -> int:
        """Length of the prompt of a turn, counted from 0."""
        return self.first + turn * self.added


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """One kind of traffic, laid out: sessions in order of their start, cut so that `reuse` comes out."""

    prefix: int
    sessions: tuple[Session, ...]
    cuts: tuple[Cut, ...]
    notes: tuple[str, ...] = ()


def share(plan: WorkloadPlan, traffic: Traffic, requests: int, *, seed: str, chunk_tokens: int) -> Sharing:
    """Lay out `requests` of one kind of traffic.

    Where the pool has too many documents for so few requests to reuse so much, it is cut to as many as can; where even
    one is too many, the reuse asked for may be missed by up to one chunk a request. The notes say so.

    Raises:
        WorkloadError: it would be missed by more, or prefix and turns alone reuse more.
    """
    trial = _Trial(plan=plan, traffic=traffic, requests=requests, seed=seed, chunk_tokens=chunk_tokens)
    documents = _documents(trial)
    sessions = trial.sessions(documents)
    cuts = _solve(trial, sessions)
    return Sharing(prefix=trial.prefix, sessions=sessions, cuts=cuts, notes=_notes(trial, documents))


def _notes(trial: _Trial, documents: int) -> tuple[str, ...]:
    """What so few requests, or so short ones, make other than it was asked for."""
    traffic = trial.traffic
    if not trial.reaches(documents):
        return (f"{traffic.name}: {_most(trial)}; the difference is below one chunk a request",)
    if traffic.documents is None or documents == traffic.documents:
        return ()
    return (
        f"{traffic.name}: {documents} of {traffic.documents} documents are used: {trial.requests} requests "
        f"reuse {traffic.reuse:.0%} from no more",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    plan: WorkloadPlan
    traffic: Traffic
    requests: int
    seed: str
    chunk_tokens: int

    @property
    def mean(self) -> float:
        return self.plan.prompt_tokens * self.traffic.prompt.scale

    @property
    def prefix(self) -> int:
        tokens = round(self.mean * self.traffic.shared_prefix_ratio)
        return max(tokens, NONCE_TOKENS) if tokens else 0

    @property
    def conversations(self) -> int:
        return -(-self.requests // self.traffic.turns)

    @property
    def fewest_documents(self) -> int:
        """The pool that is reused most: one document, or where each conversation has its own, one for each."""
        return 1 if self.traffic.documents is not None else self.conversations

    def sessions(self, documents: int) -> tuple[Session, ...]:
        """Sessions on a pool of `documents`; lengths and order do not depend on its size."""
        traffic, count = self.traffic, self.conversations
        rng = random.Random(self.seed)  # noqa: S311 - a workload, not a secret
        least = self.prefix + LEAST_QUESTION * (traffic.turns + 1)
        drawn = [max(least, length) for length in lengths(traffic.prompt, self.plan.prompt_tokens, count, rng)]
        asked = list(range(count))
        if traffic.documents is not None:
            times = popularity(documents, traffic.zipf, count)
            asked = [document for document, often in enumerate(times) for _ in range(often)]
            rng.shuffle(asked)
        return tuple(
            Session(
                length=length,
                document=document,
                turns=min(traffic.turns, self.requests - i * traffic.turns),
                leads=leads,
                shift=even(i),
            )
            for i, (length, document, leads) in enumerate(_longest_leads(drawn, asked))
        )

    def cuts(self, sessions: Sequence[Session], fresh: float) -> tuple[Cut, ...]:
        """Lengths of all sessions where the part `fresh` of each prompt is new."""
        own = [self._cut(session, fresh) for session in sessions]
        most: dict[int, int] = {}
        for session, cut in zip(sessions, own, strict=True):
            most[session.document] = max(most.get(session.document, 0), cut.shared)
        whole = self.chunk_tokens
        return tuple(
            replace(cut, shared=min(most[s.document], max(self.prefix, (cut.first - 1) // whole * whole)))
            if s.leads
            else cut
            for s, cut in zip(sessions, own, strict=True)
        )

    def _cut(self, session: Session, fresh: float) -> Cut:
        turns, length, whole = self.traffic.turns, session.length, self.chunk_tokens
        most = 2 * (length - self.prefix) // (turns + 1)
        added = min(most, max(int(fresh * most), LEAST_QUESTION, int(LEAST_FRESH * (length - self.prefix))))
        first = length - (turns - 1) * added // 2
        chunks = min(int((first - added) / whole + session.shift), (first - 1) // whole)
        return Cut(shared=max(self.prefix, chunks * whole), first=first, added=added)

    def missing(self, sessions: Sequence[Session], fresh: float) -> tuple[float, int]:
        """Hits short of what was asked (negative: too many) and all whole chunks, where `fresh` of a prompt is new."""
        cuts, whole = self.cuts(sessions, fresh), self.chunk_tokens
        cached: dict[int, int] = {}
        hits = total = 0
        for number, (session, cut) in enumerate(zip(sessions, cuts, strict=True)):
            known = self.prefix if number else 0
            hits += max(known, min(cached.get(session.document, 0), cut.shared)) // whole
            cached[session.document] = max(cached.get(session.document, 0), cut.shared)
            hits += sum(cut.prompt(turn) // whole for turn in range(session.turns - 1))
            total += sum(cut.prompt(turn) // whole for turn in range(session.turns))
        return self.traffic.reuse * total - hits, total

    def reaches(self, documents: int) -> bool:
        """Whether the reuse asked for can be had from a pool of `documents`."""
        return self.missing(self.sessions(documents), 0.0)[0] <= 0

    def comes_close(self, documents: int) -> bool:
        """Whether it is missed by no more than one chunk a request."""
        return self.missing(self.sessions(documents), 0.0)[0] <= self.requests


def _longest_leads(drawn: Sequence[int], asked: Sequence[int]) -> list[tuple[int, int, bool]]:
    """Give the longest length among a document's sessions to the first of them: (length, document, leads)."""
    places: dict[int, list[int]] = {}
    for place, document in enumerate(asked):
        places.setdefault(document, []).append(place)
    given = list(drawn)
    for group in places.values():
        longest = max(group, key=lambda place: given[place])
        given[group[0]], given[longest] = given[longest], given[group[0]]
    return [(given[i], document, places[document][0] == i) for i, document in enumerate(asked)]


def _documents(trial: _Trial) -> int:
    """The size of the pool: as asked, or the largest from which the reuse asked for can be had."""
    count = trial.conversations
    low, high = trial.fewest_documents, min(trial.traffic.documents or count, count)
    if trial.reaches(high):
        return high
    if not trial.reaches(low):
        if trial.comes_close(low):
            return low
        raise WorkloadError(f"{trial.traffic.name}: {_most(trial)}; give {_what_would_do(trial)}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if trial.reaches(middle) else (low, middle)
    return low


def _solve(trial: _Trial, sessions: Sequence[Session]) -> tuple[Cut, ...]:
    """Bisect for the part that is new; keeps the best of all that were tried."""
    short, total = trial.missing(sessions, 1.0)
    if short < -len(sessions):
        least = trial.traffic.reuse - short / total
        raise WorkloadError(
            f"{trial.traffic.name}: shared prefix and {trial.traffic.turns} turns alone reuse {least:.0%} of all "
            f"chunks, {trial.traffic.reuse:.0%} was asked; lower shared_prefix_ratio or turns, or raise reuse"
        )
    low, high, best = 0.0, 1.0, (abs(short), 1.0)
    for _ in range(STEPS):
        middle = (low + high) / 2
        short, _ = trial.missing(sessions, middle)
        best = min(best, (abs(short), middle))
        low, high = (middle, high) if short <= 0 else (low, middle)
    return trial.cuts(sessions, best[1])


def _most(trial: _Trial) -> str:
    traffic = trial.traffic
    short, total = trial.missing(trial.sessions(trial.fewest_documents), 0.0)
    most = traffic.reuse - short / total if total else 0.0
    return (
        f"{trial.requests} requests of about {trial.mean:.0f} tokens reuse at most {most:.0%} of their chunks, "
        f"{traffic.reuse:.0%} was asked"
    )


def _what_would_do(trial: _Trial) -> str:
    """The option that makes the reuse asked for possible. Longer prompts never do where more requests do not."""
    plan = trial.plan
    for times in _TIMES_MORE:
        more = replace(trial, requests=math.ceil(trial.requests * times))
        if more.comes_close(more.fewest_documents):
            return f"--mooncake-requests {math.ceil(plan.requests * times)} or more"
    return "the workload more turns or less reuse"
