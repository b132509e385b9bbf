"""Request records as columns: what a million requests look like to numpy.

Times stay integer nanoseconds until a difference has been taken, so that a long-running monotonic clock costs no
precision. `-1` in an integer column and nan in a float column mean "not measured"; neither leaves this package.
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
_SOURCES = (
    "round", "engine", "sent_ns", "first_token_ns", "last_token_ns", "done_ns", "output_tokens_planned",
    "prompt_tokens", "cached_tokens", "output_tokens", "intended_ns", "ready_ns", "first_role_ns",
)  # fmt: skip
"""Fields of a record, in the order of the integers that hold them."""
_INTEGERS = (
    "round", "engine", "sent_ns", "first_token_ns", "last_token_ns", "done_ns", "planned_tokens",
    "prompt_tokens", "cached_tokens", "output_tokens", "intended_ns", "ready_ns", "first_role_ns",
    "failed", "first_chunk_tokens",
)  # fmt: skip
_NOT_KEPT = {"failed", "first_chunk_tokens", "intended_ns", "ready_ns", "first_role_ns"}
_FAILED = _INTEGERS.index("failed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Requests as arrays of shape (n,), and the gaps between their tokens as arrays of shape (gaps,).

    `gap_ms[i]` is the time between two chunks of one successful request and `gap_tokens[i]` how many tokens arrived
    at its end; a chunk without a token lengthens the next gap. Integer columns hold -1, float columns nan where a
    request was not measured.
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

    def __len__(self) -> int:
        return len(self.round)


def columns_of(records: Iterable[RequestRecord]) -> Columns:
    """Read `records`, which may be a stream, once.

    Args:
        records: requests of any number of rounds, in any order.

    Returns:
        Their columns; only the chunk times of successful requests are held beside fifteen integers a request.
    """
    read = attrgetter(*_SOURCES)
    builder = ColumnBuilder()
    for record in records:
        builder.add(
            _row(read(record), record.chunk_tokens, failed=record.error is not None),
            record.chunk_ns,
            record.chunk_tokens,
        )
    return builder.build()


def columns_of_mappings(records: Iterable[Mapping[str, Any]]) -> Columns:
    """As `columns_of`, from records as a journal's lines hold them, which are never made into objects."""
    read = itemgetter(*_SOURCES)
    builder = ColumnBuilder()
    for record in records:
        tokens = record["chunk_tokens"]
        builder.add(_row(read(record), tokens, failed=record["error"] is not None), record["chunk_ns"], tokens)
    return builder.build()


def _row(values: Sequence[int | None], chunk_tokens: Sequence[int], *, failed: bool) -> list[int]:
    """The integers of a request in the order of `_INTEGERS`."""
    row = [MISSING if value is None else value for value in values]
    row += (failed, chunk_tokens[0] if chunk_tokens else 1)
    return row


class ColumnBuilder:
    """Takes requests one by one and holds them flat: fifteen integers each, and the chunks of successful ones."""

    def __init__(self) -> None:
        self._table = array("q")
        self._chunks = _Chunks()

    def add(self, row: Sequence[int], chunk_ns: Sequence[int], chunk_tokens: Sequence[int]) -> None:
        """Hold one request; `row` as `_INTEGERS` says."""
        self._table.extend(row)
        if not row[_FAILED]:
            self._chunks.add(chunk_ns, chunk_tokens)

    def build(self) -> Columns:
        """The columns of all requests so far."""
        import numpy as np

        flat = np.frombuffer(self._table, dtype=np.int64) if self._table else np.zeros(0, dtype=np.int64)
        table = dict(zip(_INTEGERS, np.ascontiguousarray(flat.reshape(-1, len(_INTEGERS)).T), strict=True))
        gap_ms, gap_tokens = self._chunks.gaps()
        first, last, sent = table["first_token_ns"], table["last_token_ns"], table["sent_ns"]
        decoded = table["output_tokens"] - table["first_chunk_tokens"]
        has_tokens = (first != MISSING) & (last != MISSING) & (table["output_tokens"] != MISSING) & (decoded > 0)
        return Columns(
            failed=table["failed"] == 1,
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

    def add(self, chunk_ns: Sequence[int], chunk_tokens: Sequence[int]) -> None:
        self._ns.extend(chunk_ns)
        self._tokens.extend(chunk_tokens)
        self._counts.append(len(chunk_ns))

    def gaps(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Gaps in ms and the tokens that ended them; the first chunk of a request ends no gap."""
        import numpy as np

        counts = np.frombuffer(self._counts, dtype=np.int64) if self._counts else np.zeros(0, dtype=np.int64)
        if not self._ns:
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        ns: NDArray[Any] = np.frombuffer(self._ns, dtype=np.int64)
        tokens: NDArray[Any] = np.frombuffer(self._tokens, dtype=np.int64)
        owner = np.repeat(np.arange(len(counts)), counts)
        opens = np.ones(len(ns), dtype=bool)
        opens[1:] = owner[1:] != owner[:-1]
        kept = opens | (tokens > 0)
        ends_gap = ~opens[kept][1:]
        return np.diff(ns[kept])[ends_gap] / 1e6, tokens[kept][1:][ends_gap]
