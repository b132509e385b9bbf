"""Scenarios: kinds of traffic made of a shared prefix, a pool of documents, and conversations that grow."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_mooncake.plan.models import Traffic, WorkloadPlan
from pytest_mooncake.workload.layouts.layout import Layout, Segments
from pytest_mooncake.workload.layouts.sampling import apportion, lengths, take_turns
from pytest_mooncake.workload.layouts.sessions import Sharing, share

if TYPE_CHECKING:
    from pytest_mooncake.workload.layouts.layout import Ints

NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request while a layout is put together. `after` counts within its own kind of traffic, -1 is none."""

    path: tuple[int, ...]
    prompt: int
    output: int
    after: int
    think_ns: int
    reply: int


@dataclass(slots=True)
class _Tree:
    """Segments as they are made up; `shelf` remembers those that several sessions walk along."""

    chunk_tokens: int
    tokens: list[int] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    shelf: dict[tuple[object, ...], int] = field(default_factory=dict)
    streams: int = 0

    def new_stream(self) -> int:
        self.streams += 1
        return self.streams - 1

    def add(self, tokens: int, stream: int | None = None, offset: int = 0) -> int:
        self.tokens.append(tokens)
        self.stream.append(self.new_stream() if stream is None else stream)
        self.offset.append(offset)
        return len(self.tokens) - 1

    def shared(self, kind: str, document: int, prefix: int, until: int) -> tuple[int, ...]:
        """Prefix, then the document in blocks that end where chunks do, up to token `until`."""
        path = [self._shelved((kind,), prefix)] if prefix else []
        begin, stream = prefix, -1
        while begin < until:
            end = min((begin // self.chunk_tokens + 1) * self.chunk_tokens, until)
            name = (kind, document, begin)
            if stream < 0:
                stream = self.stream[self.shelf[name]] if name in self.shelf else self.new_stream()
            path.append(self._shelved(name, end - begin, stream, begin - prefix))
            begin = end
        return tuple(path)

    def _shelved(self, name: tuple[object, ...], tokens: int, stream: int | None = None, offset: int = 0) -> int:
        if name not in self.shelf:
            self.shelf[name] = self.add(tokens, stream, offset)
        return self.shelf[name]


def scenario_layout(plan: WorkloadPlan, *, chunk_tokens: int) -> Layout:
    """All kinds of traffic of a scenario, mixed evenly in proportion to their weights.

    Raises:
        WorkloadError: the reuse asked for cannot be had from so many requests.
    """
    tree = _Tree(chunk_tokens=chunk_tokens)
    counts = apportion([traffic.weight for traffic in plan.traffic], plan.requests)
    notes: list[str] = []
    kinds: list[list[Asked]] = []
    for traffic, count in zip(plan.traffic, counts, strict=True):
        if not count:
            notes.append(f"{traffic.name}: no request, its weight is too small for {plan.requests} requests")
            continue
        seed = f"{plan.seed}/{traffic.name}"
        sharing = share(plan, traffic, count, seed=seed, chunk_tokens=chunk_tokens)
        live = max(1, round(plan.concurrency * count / plan.requests))
        outputs = lengths(traffic.output, plan.output_tokens, count, random.Random(seed))  # noqa: S311 - not a secret
        kinds.append(_asked(tree, traffic, sharing, outputs, live))
        notes.extend(sharing.notes)
    return _layout(tree, kinds, tuple(notes))


def _asked(tree: _Tree, traffic: Traffic, sharing: Sharing, outputs: Sequence[int], live: int) -> list[Asked]:
    """The requests of one kind of traffic in order of sending."""
    asked: list[Asked] = []
    latest: dict[int, int] = {}
    leader: dict[int, int] = {}
    paths: dict[int, tuple[int, ...]] = {}
    order = take_turns([session.turns for session in sharing.sessions], live)
    for number, ((s, turn), output) in enumerate(zip(order, outputs, strict=True)):
        session, cut = sharing.sessions[s], sharing.cuts[s]
        if turn == 0:
            document = session.document
            base = tree.shared(traffic.name, document, sharing.prefix, cut.shared)
            paths[s] = (*base, tree.add(cut.first - cut.shared))
            after = leader.get(document, 0 if sharing.prefix and number else -1)
            leader.setdefault(document, number)
        else:
            answer = min(asked[latest[s]].output, cut.added - 1)
            paths[s] = (*paths[s], *_exchange(tree, answer, cut.added))
            after = latest[s]
            if traffic.reply == "real":
                asked[after] = replace(asked[after], reply=paths[s][-2])
        latest[s] = number
        think_ns = round(traffic.think_time_s * NS) if turn else 0
        asked.append(
            Asked(path=paths[s], prompt=cut.prompt(turn), output=output, after=after, think_ns=think_ns, reply=-1)
        )
    return asked


def _exchange(tree: _Tree, answer: int, added: int) -> tuple[int, int]:
    """Segments of an answer and of the question that follows it, `added` tokens in all."""
    return tree.add(answer), tree.add(added - answer)


def _layout(tree: _Tree, kinds: Sequence[Sequence[Asked]], notes: tuple[str, ...]) -> Layout:
    import numpy as np

    places = sorted(
        ((number + 0.5) / len(kind), which, number) for which, kind in enumerate(kinds) for number in range(len(kind))
    )
    index = {(which, number): i for i, (_, which, number) in enumerate(places)}
    asked = [kinds[which][number] for _, which, number in places]
    after = [index.get((which, kinds[which][number].after), -1) for _, which, number in places]

    def column(values: Sequence[int]) -> Ints:
        return np.array(values, dtype=np.int32)

    return Layout(
        starts=np.cumsum([0, *(len(one.path) for one in asked)]),
        path=column([segment for one in asked for segment in one.path]),
        segments=Segments(tokens=column(tree.tokens), stream=column(tree.stream), offset=column(tree.offset)),
        prompt_tokens=column([one.prompt for one in asked]),
        output_tokens=column([one.output for one in asked]),
        after=column(after),
        think_ns=np.array([one.think_ns for one in asked], dtype=np.int64),
        reply=column([one.reply for one in asked]) if any(one.reply >= 0 for one in asked) else None,
        notes=notes,
    )
