"""Request records as columns: what a million requests look like to numpy.

Times stay integer nanoseconds until a difference has been taken, so that a long-running monotonic clock costs no
precision. `-1` in an integer column and nan in a float column mean "not measured"; neither leaves this package.

How many tokens a chunk carried is told by some servers only. Where it is not, the gaps between chunks stand and no ITL
can be had of them; TPOT then takes the first chunk to have carried as many tokens as the request's mean chunk, the same
cold and warm, which leaves ratios alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_mooncake.records import RequestRecord

MISSING = -1
MOST_TOKENS = 2**24
"""No prompt and no answer has so many: a larger count is none, and no column can overflow."""
_SOURCES = (
    "round", "engine", "sent_ns", "first_token_ns", "last_token_ns", "done_ns", "output_tokens_planned",
    "prompt_tokens", "cached_tokens", "output_tokens", "intended_ns", "ready_ns", "first_role_ns",
)  # fmt: skip
"""Fields of a record, in the order of the integers that hold them."""
_INTEGERS = (
    "round", "engine", "sent_ns", "first_token_ns", "last_token_ns", "done_ns", "planned_tokens",
    "prompt_tokens", "cached_tokens", "output_tokens", "intended_ns", "ready_ns", "first_role_ns",
    "failed", "chunks", "first_chunk_tokens",
)  # fmt: skip
_NOT_KEPT = {"failed", "chunks", "first_chunk_tokens", "intended_ns", "ready_ns", "first_role_ns"}
_COUNTED = ("planned_tokens", "prompt_tokens", "cached_tokens", "output_tokens")
_MOST = 2**62


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Requests as arrays of shape (n,), and the gaps between their tokens as arrays of shape (gaps,).

    `gap_ms[i]` is the time between two chunks of one successful request and `gap_tokens[i]` how many tokens arrived
    at its end, -1 where nobody tells; a chunk without a token lengthens the next gap. `unsplit` marks requests of
    several chunks of which nobody tells how the tokens lie in them. Integer columns hold -1, float columns nan where
    a request was not measured.
    """

    round: NDArray[Any]
    engine: NDArray[Any]
    failed: NDArray[Any]
    sent_ns: NDArray[Any]
    first_token_ns: NDArray[Any]
    last_token_ns: NDArray[Any]
    done_ns: NDArray[Any]
    planned_tokens: NDArray[Any]
    prompt_tokens: NDArray[Any]
    cached_tokens: NDArray[Any]
    output_tokens: NDArray[Any]
    ttft_ms: NDArray[Any]
    ttft_user_ms: NDArray[Any]
    ttft_vllm_ms: NDArray[Any]
    tpot_ms: NDArray[Any]
    e2e_ms: NDArray[Any]
    gap_ms: NDArray[Any]
    gap_tokens: NDArray[Any]
    unsplit: NDArray[Any]

    @property
    def unsplit_answers(self) -> int:
        """Successful requests of which nobody tells how many tokens each chunk carried."""
        return int((self.unsplit & ~self.failed).sum())

    def __len__(self) -> int:
        return len(self.round)


def columns_of(records: Iterable[RequestRecord]) -> Columns:
    """Read `records`, which may be a stream, once.

    Args:
        records: requests of any number of rounds, in any order.

    Returns:
        Their columns; only the chunk times of successful requests are held beside sixteen integers a request.
    """
    read = attrgetter(*_SOURCES)
    builder = ColumnBuilder()
    for record in records:
        builder.add(read(record), record.chunk_ns, record.chunk_tokens, failed=record.error is not None)
    return builder.build()


def columns_of_mappings(records: Iterable[Mapping[str, Any]]) -> Columns:
    """As `columns_of`, from records as a journal's lines hold them, which are never made into objects."""
    read = itemgetter(*_SOURCES)
    builder = ColumnBuilder()
    for record in records:
        builder.add(read(record), record["chunk_ns"], record["chunk_tokens"], failed=record["error"] is not None)
    return builder.build()


def told_split(chunks: int, chunk_tokens: Sequence[int]) -> Sequence[int]:
    """Tokens of each of so many chunks; empty where nobody tells, or what is told cannot be.

    >>> told_split(2, (1, 3)), told_split(2, ()), told_split(2, (1, 2, 3)), told_split(1, (-1,))
    ((1, 3), (), (), ())
    """
    if len(chunk_tokens) != chunks or not chunks:
        return ()
    return chunk_tokens if min(chunk_tokens) >= 0 and max(chunk_tokens) <= MOST_TOKENS else ()


def first_chunk_tokens(chunks: int, split: Sequence[int], output_tokens: int) -> float:
    """Tokens in the first of so many chunks: what is told, else those of the mean chunk, at least one."""
    if split:
        return split[0]
    return max(1.0, output_tokens / chunks) if chunks else 1.0


class ColumnBuilder:
    """Takes requests one by one and holds them flat: sixteen integers each, and the chunks of successful ones."""

    def __init__(self) -> None:
        self._table = array("q")
        self._chunks = _Chunks()

    def add(
        self, values: Sequence[int | None], chunk_ns: Sequence[int], chunk_tokens: Sequence[int], *, failed: bool
    ) -> None:
        """Hold one request; `values` as `_SOURCES` says."""
        split = told_split(len(chunk_ns), chunk_tokens)
        row = [MISSING if value is None else value for value in values]
        row += (failed, len(chunk_ns), split[0] if split else MISSING)
        try:
            self._table.extend(row)
        except OverflowError:
            del self._table[len(self._table) // len(_INTEGERS) * len(_INTEGERS) :]
            self._table.extend(value if abs(value) <= _MOST else MISSING for value in row)
        if not failed:
            self._chunks.add(chunk_ns, split)

    def build(self) -> Columns:
        """The columns of all requests so far."""
        import numpy as np

        flat = np.frombuffer(self._table, dtype=np.int64) if self._table else np.zeros(0, dtype=np.int64)
        table = dict(zip(_INTEGERS, np.ascontiguousarray(flat.reshape(-1, len(_INTEGERS)).T), strict=True))
        for name in _COUNTED:
            table[name] = np.where((table[name] >= 0) & (table[name] <= MOST_TOKENS), table[name], MISSING)
        gap_ms, gap_tokens = self._chunks.gaps()
        first, last, sent = table["first_token_ns"], table["last_token_ns"], table["sent_ns"]
        decoded = _decoded(table)
        has_tokens = (first != MISSING) & (last != MISSING) & (table["output_tokens"] != MISSING) & (decoded > 0)
        return Columns(
            failed=table["failed"] == 1,
            unsplit=(table["chunks"] > 1) & (table["first_chunk_tokens"] == MISSING),
            **{name: table[name] for name in _INTEGERS if name not in _NOT_KEPT},
            ttft_ms=_milliseconds(first - sent, (first != MISSING) & (sent != MISSING)),
            ttft_user_ms=_milliseconds(first - table["intended_ns"], first != MISSING),
            ttft_vllm_ms=_ttft_as_vllm_counts(table),
            tpot_ms=_milliseconds(last - first, has_tokens) / np.where(has_tokens, decoded, 1),
            e2e_ms=_milliseconds(last - sent, (last != MISSING) & (sent != MISSING)),
            gap_ms=gap_ms,
            gap_tokens=gap_tokens,
        )


def pooled(parts: Sequence[Columns]) -> Columns:
    """Put the requests of several rounds into one set of columns; at least one part."""
    import numpy as np

    return Columns(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Columns)})


def _decoded(table: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Tokens of each request behind its first chunk, as `first_chunk_tokens` counts these."""
    import numpy as np

    output, chunks, told = table["output_tokens"], table["chunks"], table["first_chunk_tokens"]
    mean = np.maximum(1.0, output / np.maximum(chunks, 1))
    decoded: NDArray[Any] = output - np.where(told != MISSING, told, np.where(chunks > 0, mean, 1.0))
    return decoded


def _ttft_as_vllm_counts(table: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """From the free slot (without slots: the intended time) to the first chunk, one with a role and no text included.

    Source: vLLM 0.32.0, `vllm/benchmarks/lib/endpoint_request_func.py`: the clock starts before `session.post`, behind
    the semaphore of `--max-concurrency`, and stops at the first chunk with `choices`.
    """
    import numpy as np

    first, role, ready = table["first_token_ns"], table["first_role_ns"], table["ready_ns"]
    stop = np.where(role == MISSING, first, np.minimum(role, first))
    start = np.where(ready == MISSING, table["intended_ns"], ready)
    return _milliseconds(stop - start, first != MISSING)


def _milliseconds(difference_ns: NDArray[Any], measured: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return np.where(measured, difference_ns / 1e6, np.nan)


class _Chunks:
    """Arrival times and token counts of all chunks so far, flat, with the number of chunks of each request."""

    def __init__(self) -> None:
        self._ns = array("q")
        self._tokens = array("q")
        self._counts = array("q")

    def add(self, chunk_ns: Sequence[int], split: Sequence[int]) -> None:
        """Hold the chunks of a request; an empty `split`: nobody tells what each carried."""
        held = len(self._ns)
        try:
            self._ns.extend(chunk_ns)
        except OverflowError:  # no time at all: as if it had no chunks
            del self._ns[held:]
            return
        self._tokens.extend(split or (MISSING,) * len(chunk_ns))
        self._counts.append(len(chunk_ns))

    def gaps(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Gaps in ms and the tokens that ended them (-1: unknown); the first chunk of a request ends no gap."""
        import numpy as np

        counts = np.frombuffer(self._counts, dtype=np.int64) if self._counts else np.zeros(0, dtype=np.int64)
        if not self._ns:
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        ns: NDArray[Any] = np.frombuffer(self._ns, dtype=np.int64)
        tokens: NDArray[Any] = np.frombuffer(self._tokens, dtype=np.int64)
        owner = np.repeat(np.arange(len(counts)), counts)
        opens = np.ones(len(ns), dtype=bool)
        opens[1:] = owner[1:] != owner[:-1]
        kept = opens | (tokens != 0)
        ends_gap = ~opens[kept][1:]
        return np.diff(ns[kept])[ends_gap] / 1e6, tokens[kept][1:][ends_gap]
