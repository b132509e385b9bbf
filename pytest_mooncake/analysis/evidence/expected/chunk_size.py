"""In which units a cache keeps prompts: told by the stack, given by the user, found in the replies, or assumed.

A unit is a chunk size and a rule for the end of a prompt that was found whole. A reply of P prompt tokens fits a unit
when its cached tokens are what the unit serves of P. Replies of one run have one unit, so a unit that fits nearly all
of them is found. An assumed one proves nothing: `analysis.evidence.expected.service` blames only for what no plausible
unit explains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pytest_mooncake.analysis.evidence.expected.formulae import HitRule
from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.records import RequestRecord, Scrape, StackView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

__all__ = [
    "ASSUMED_CHUNK_TOKENS",
    "MOST_CHUNK_TOKENS",
    "ChunkSize",
    "ChunkSource",
    "Reply",
    "Unit",
    "Units",
    "replies_of",
    "rules_of",
    "shares",
    "units_of",
    "wanted_tokens",
]

ASSUMED_CHUNK_TOKENS = 256
"""Chunk size where none is known: LMCache's default."""
BLOCK_TOKENS = 16
"""Chunks are whole blocks of an engine's KV cache, whose size is a multiple of this; 1 stands for any token."""
MOST_CHUNK_TOKENS = 4096
"""Largest chunk that is held for plausible. Source: LMCache 256 to 1,024, hybrid models 544 to about 2,100."""
CELLS = 2_000_000
"""Cells of a table of units and replies: bounds memory, however many requests a round has."""
FOUND_SHARE = 0.99
"""Share of the replies that a unit must fit to be found: a request may lose a chunk now and then."""


class ChunkSource(StrEnum):
    """Who says how large chunks are. Only the first three can prove a shortage."""

    TOLD = "told"
    GIVEN = "given"
    FOUND = "found"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSize:
    """Tokens of a chunk, and who says so."""

    tokens: int
    source: ChunkSource

    @property
    def words(self) -> str:
        """What tokens in such chunks are called in a sentence."""
        if self.source is ChunkSource.TOLD:
            return "cacheable tokens"
        said = {
            ChunkSource.GIVEN: "given",
            ChunkSource.FOUND: "found in the replies",
            ChunkSource.ASSUMED: "the chunk size is not known",
        }
        return f"tokens in chunks of {self.tokens:,} ({said[self.source]})"


class Unit(NamedTuple):
    """A chunk size, and what is computed anew of a prompt that was found whole."""

    tokens: int
    rule: HitRule


class Reply(NamedTuple):
    """Requests of one length that were served equally: prompt tokens, cached tokens, how many there were."""

    prompt_tokens: int
    cached_tokens: int
    requests: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """The units that a run's cache may have.

    Attributes:
        size: what is held for the chunk size, and by whom.
        possible: every unit that can be; one or two where the size is known.
        fitting: those that fit most of the replies that were served anything; empty where none fits half of them.
        found: whether they fit nearly all.
        plausible: those of which no request was served more, but by the blocks of a nearer tier.
    """

    size: ChunkSize
    possible: tuple[Unit, ...]
    fitting: tuple[Unit, ...] = ()
    found: bool = False
    plausible: tuple[Unit, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the size was told or given, whatever the replies say."""
        return self.size.source in {ChunkSource.TOLD, ChunkSource.GIVEN}

    @property
    def proving(self) -> tuple[Unit, ...]:
        """The units that blame may rest on: a shortage by every one of them is one."""
        if self.is_known:
            return self.fitting or self.possible
        return self.fitting if self.found else self.plausible or self.possible

    @property
    def likely(self) -> Unit:
        """The unit to speak of: the likeliest of those that fit, else the assumed one at its least."""
        if self.is_known or self.fitting:
            return _likeliest(self.fitting or self.possible)
        return Unit(self.size.tokens, HitRule.LAST_CHUNK)


def _likeliest(units: Sequence[Unit]) -> Unit:
    """The usual size where it is among them, else the smallest whole block."""
    return min(units, key=lambda unit: (unit.tokens != ASSUMED_CHUNK_TOKENS, unit.tokens < BLOCK_TOKENS, unit.tokens))


def replies_of(records: Iterable[RequestRecord]) -> tuple[Reply, ...]:
    """Count the served requests by length and cached tokens; a field that was left out is 0.

    Some servers count what was found, not what was saved: of a prompt that is found whole one token is computed.
    """
    found = Counter(
        (record.prompt_tokens, min(record.cached_tokens or 0, record.prompt_tokens - 1))
        for record in records
        if record.error is None and record.prompt_tokens is not None
    )
    return tuple(Reply(prompt, cached, count) for (prompt, cached), count in sorted(found.items()))


def rules_of(view: StackView, scrapes: Iterable[Scrape] = ()) -> tuple[HitRule, ...]:
    """Return the rules that the stack's connector may follow: one where it is known, by the stack or its series."""
    connector = view.details.get("connector")
    if connector == "mooncakestore":
        return (HitRule.LAST_CHUNK,)
    if connector == "lmcache" or view.provisioned or view.simulated:
        return (HitRule.LAST_TOKEN,)
    engines = [scrape.samples for scrape in scrapes if scrape.source.startswith("engine:") and scrape.samples]
    if engines and all(_shows(samples, "vllm:mooncake_store_operation_keys_total") for samples in engines):
        return (HitRule.LAST_CHUNK,)
    if engines and all(_shows(samples, "lmcache:") for samples in engines):
        return (HitRule.LAST_TOKEN,)
    return (HitRule.LAST_TOKEN, HitRule.LAST_CHUNK)


def _shows(samples: Iterable[str], start: str) -> bool:
    return any(series.startswith(start) for series in samples)


def units_of(
    view: StackView,
    rules: Sequence[HitRule],
    replies: Sequence[Reply],
    *,
    common_tokens: int = 0,
    has_nearer: bool = True,
) -> Units:
    """Work out in which units the cache of a stack serves.

    Args:
        view: the stack.
        rules: those that its connector may follow.
        replies: of all warm rounds of the run.
        common_tokens: tokens in front of every prompt that any cache may serve; a reply with no more was served none.
        has_nearer: whether an engine's own prefix cache may have served some of them, in blocks of its own.
    """
    known = chunk_tokens_of(view)
    sizes = (known,) if known is not None else (1, *range(BLOCK_TOKENS, MOST_CHUNK_TOKENS + 1, BLOCK_TOKENS))
    possible = tuple(Unit(size, rule) for size in sizes for rule in rules)
    served = [reply for reply in replies if reply.cached_tokens > common_tokens]
    fitting, share = _fitting(possible, served)
    if known is not None:
        size = ChunkSize(tokens=known, source=ChunkSource.TOLD if view.kv else ChunkSource.GIVEN)
    elif share >= FOUND_SHARE:
        size = ChunkSize(tokens=_likeliest(fitting).tokens, source=ChunkSource.FOUND)
    else:
        size = ChunkSize(tokens=ASSUMED_CHUNK_TOKENS, source=ChunkSource.ASSUMED)
    return Units(
        size=size,
        possible=possible,
        fitting=fitting if share >= 0.5 else (),
        found=share >= FOUND_SHARE,
        plausible=_plausible(possible, served, has_nearer=has_nearer),
    )


def _fitting(units: Sequence[Unit], served: Sequence[Reply]) -> tuple[tuple[Unit, ...], float]:
    """The units that fit most replies, and the share (0-1) of the replies that they fit."""
    if not served:
        return (), 0.0
    prompts, cached, counts = _columns(served)
    fits = [int(fit) for part in _parts(units, len(served)) for fit in (_served(prompts, part) == cached) @ counts]
    most = max(fits)
    return tuple(unit for unit, fit in zip(units, fits, strict=True) if fit == most > 0), most / int(counts.sum())


def _plausible(units: Sequence[Unit], served: Sequence[Reply], *, has_nearer: bool) -> tuple[Unit, ...]:
    """The units that serve no less than the replies had, but for what came in a nearer tier's blocks."""
    if not served:
        return tuple(units)
    prompts, cached, counts = _columns(served)
    beyond = counts * (cached % BLOCK_TOKENS != 0) if has_nearer else counts
    most = (1 - FOUND_SHARE) * int(counts.sum())
    over = [float(n) for part in _parts(units, len(served)) for n in (_served(prompts, part) < cached) @ beyond]
    return tuple(unit for unit, n in zip(units, over, strict=True) if n <= most)


def _columns(replies: Sequence[Reply]) -> tuple[Ints, Ints, Ints]:
    import numpy as np

    table = np.array(replies, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _parts(units: Sequence[Unit], replies: int) -> Iterator[Sequence[Unit]]:
    """The units, so many at a time that a table with all replies stays small."""
    step = max(1, CELLS // max(1, replies))
    return (units[at : at + step] for at in range(0, len(units), step))


def _served(prompts: Ints, units: Sequence[Unit]) -> Ints:
    """The same as `formulae.external_tokens` of prompts that nothing nearer served: a row a unit, a column a prompt."""
    import numpy as np

    sizes = np.array([[unit.tokens] for unit in units], dtype=np.int64)
    anew = np.array([[1 if unit.rule is HitRule.LAST_TOKEN else unit.tokens] for unit in units], dtype=np.int64)
    hit = prompts // sizes * sizes
    served: Ints = hit - anew * ((hit == prompts) & (hit > 0))
    return served


@lru_cache(maxsize=64)
def wanted_tokens(lengths: tuple[int, ...], units: tuple[Unit, ...]) -> tuple[int, ...]:
    """Add up the tokens that a cache serves of prompts of these lengths, for each unit.

    >>> wanted_tokens((9000, 2048), (Unit(1024, HitRule.LAST_TOKEN), Unit(128, HitRule.LAST_CHUNK)))
    (10239, 10880)
    """
    prompts, _, counts = _columns([Reply(length, 0, count) for length, count in Counter(lengths).items()])
    return tuple(int(sum_) for part in _parts(units, len(prompts)) for sum_ in _served(prompts, part) @ counts)


@lru_cache(maxsize=64)
def shares(replies: tuple[Reply, ...], units: tuple[Unit, ...], *, common_tokens: int = 0) -> tuple[float, ...]:
    """Return the share (0-1) of what each unit serves that the replies had; 1 where it would serve nothing.

    What one request had beyond its unit makes up for no other's miss. The common tokens count on neither side.
    """
    import numpy as np

    prompts, cached, counts = _columns(replies)
    had = np.maximum(cached - common_tokens, 0)
    found: list[float] = []
    for part in _parts(units, len(prompts)):
        wanted = np.maximum(_served(prompts, part) - common_tokens, 0)
        asked, got = wanted @ counts, np.minimum(had, wanted) @ counts
        found += [int(g) / int(a) if a else 1.0 for g, a in zip(got, asked, strict=True)]
    return tuple(found)
