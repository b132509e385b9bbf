"""Recorded traces in Mooncake's format, replayed with the sharing that their `hash_ids` record.

One JSON object a line: `timestamp` (ms), `input_length`, `output_length` (tokens) and `hash_ids`, one id for each block
of 512 prompt tokens, where equal ids are equal blocks behind equal prefixes
(https://github.com/kvcache-ai/Mooncake, FAST25-release/traces). The text itself is not recorded: the tokens of a block
are made from its id and the nonce of the round.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.models import TraceSpec
from pytest_mooncake.workload.layouts.layout import Layout, Segments
from pytest_mooncake.workload.layouts.segment_tree import as_tree, is_tree
from pytest_mooncake.workload.tokens.nonce import NONCE_TOKENS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_mooncake.workload.layouts.layout import Ints

FORM = '{"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [one whole number a block]}'
SHOWN = 60
MOST_LINE_BYTES = 4 * 2**20
"""One request: 200,000 ids of 20 digits, where the longest contexts take 20,000 blocks of 512 tokens."""
MOST_BYTES = 2 * 2**30
"""The whole file, unpacked: a million requests of the published traces take 300 MB."""
MOST_BLOCKS = 100_000_000
"""Four million requests of the published traces; 12 bytes each are held."""
MOST_RATIO = 100
"""How much larger than its gzip a trace may be: the published ones are 4 times, a bomb is 1,000 times."""
CHECKED_EVERY_BYTES = 16 * 2**20
MOST_TIMESTAMP_MS = 1e14
"""The year 5138 in ms since 1970: a larger one is in other units."""
MOST_OFFSET_NS = 2**62
DENSE = 4
"""Ids below this many times their count index arrays directly; sparser ones (real hashes) are numbered first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """What a file holds, or a part of it; n requests in order of time.

    Attributes:
        timestamp_ms: (n,) as recorded.
        input_tokens: (n,) prompt lengths.
        output_tokens: (n,) output lengths.
        starts: (n + 1,) places in `hash_ids`.
        hash_ids: ids of all blocks, one request after the other.
    """

    timestamp_ms: NDArray[np.float64]
    input_tokens: Ints
    output_tokens: Ints
    starts: Ints
    hash_ids: Ints

    def __len__(self) -> int:
        return len(self.input_tokens)


def trace_layout(
    spec: TraceSpec, *, requests: int, max_model_len: int | None = None, base: Path | None = None
) -> Layout:
    """The part of a trace that `spec` asks for, at most `requests` of it, clipped to the model's context.

    Raises:
        PlanError: the file is missing, a line is malformed, or nothing lies in the window.
    """
    path = (base or Path()) / spec.path
    trace = window(read_trace(path, spec.block_tokens), spec, requests)
    if not len(trace):
        raise PlanError(f"{path}: no request between {spec.start_s} s and the end of the window; change start_s")
    trace, notes = clip(trace, spec, max_model_len)
    path_ids, segments = _segments(trace, spec.block_tokens)
    return Layout(
        starts=trace.starts,
        path=path_ids,
        segments=segments,
        prompt_tokens=trace.input_tokens,
        output_tokens=trace.output_tokens,
        offset_ns=_offsets_ns(trace, spec) if spec.schedule == "recorded" else None,
        notes=notes,
    )


def read_trace(path: Path, block_tokens: int = 512) -> Trace:
    """Read a trace, gzipped if its name ends in `.gz`. A million requests take seconds and about 12 bytes a block.

    Raises:
        PlanError: `FILE:LINE: what is wrong; what is expected`.
    """
    import numpy as np

    lines, stamps, lengths, ids, ends = array("i"), array("d"), array("i"), array("q"), array("q", [0])
    for number, row in _rows(path):
        try:
            stamps.append(row["timestamp"])
            lengths.append(row["input_length"])
            lengths.append(row["output_length"])
            ids.extend(row["hash_ids"])
        except (KeyError, TypeError, OverflowError) as error:
            raise PlanError(_malformed(path, number, error)) from None
        if len(ids) > MOST_BLOCKS:
            raise PlanError(f"{path}:{number}: more than {MOST_BLOCKS:,} blocks until here; replay a part of the trace")
        ends.append(len(ids))
        lines.append(number)
    both = np.frombuffer(lengths, dtype=np.int32).reshape(-1, 2)
    trace = Trace(
        timestamp_ms=np.frombuffer(stamps, dtype=np.float64),
        input_tokens=both[:, 0].copy(),
        output_tokens=both[:, 1].copy(),
        starts=np.frombuffer(ends, dtype=np.int64),
        hash_ids=_narrow(np.frombuffer(ids, dtype=np.int64)),
    )
    _check(path, trace, lines, block_tokens)
    return trace


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as raw:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: a name that can be none
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"{path}: cannot be read ({reason}); give a trace in Mooncake's format") from None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from orjson import JSONDecodeError, loads

    for number, line in _lines(path):
        if line.isspace():
            continue
        try:
            row = loads(line)
        except JSONDecodeError:
            seen = line[:SHOWN].decode("utf-8", "backslashreplace").strip()
            raise PlanError(f"{path}:{number}: not JSON: {seen!r}; expected {FORM}") from None
        if b"true" in line or b"false" in line:  # which count as numbers in Python
            _refuse_truths(path, number, row)
        yield number, row


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line; a file that unpacks to more than a trace can hold is not unpacked.

    Raises:
        PlanError: the file, or a line of it, is too long.
    """
    read, checked = 0, CHECKED_EVERY_BYTES
    with _opened(path) as file:
        packed_bytes = path.stat().st_size if path.suffix == ".gz" else 0
        for number in count(1):
            line = file.readline(MOST_LINE_BYTES + 1)
            if not line:
                return
            read += len(line)
            if len(line) > MOST_LINE_BYTES:
                raise PlanError(f"{path}:{number}: a line of more than {MOST_LINE_BYTES // 2**20} MiB; expected {FORM}")
            if read > checked:
                checked += CHECKED_EVERY_BYTES
                _refuse_excess(path, number, read, packed_bytes)
            yield number, line


def _refuse_excess(path: Path, number: int, read: int, packed_bytes: int) -> None:
    if read > MOST_BYTES:
        raise PlanError(f"{path}:{number}: more than {MOST_BYTES // 2**30} GiB until here; replay a part of the trace")
    if packed_bytes and read > MOST_RATIO * packed_bytes:
        raise PlanError(
            f"{path}:{number}: unpacks to more than {MOST_RATIO} times its size, as no trace does; unpack it yourself "
            "if it is one"
        )


def _refuse_truths(path: Path, number: int, row: object) -> None:
    values = row if isinstance(row, dict) else {}
    ids = values.get("hash_ids")
    ours = [values.get(key) for key in ("timestamp", "input_length", "output_length")]
    if any(isinstance(value, bool) for value in (*ours, *(ids if isinstance(ids, list) else ()))):
        raise PlanError(f"{path}:{number}: a value does not fit (true or false is no number); expected {FORM}")


def _malformed(path: Path, number: int, error: Exception) -> str:
    seen = f"key {error.args[0]!r} is missing" if isinstance(error, KeyError) else f"a value does not fit ({error})"
    return f"{path}:{number}: {seen}; expected {FORM}"


def _narrow(ids: NDArray[np.int64]) -> Ints:
    """Four bytes an id where that is enough: half the memory of a long trace."""
    import numpy as np

    fits = len(ids) > 0 and ids.min() >= 0 and ids.max() < 2**31
    return ids.astype(np.int32) if fits else ids


def _check(path: Path, trace: Trace, lines: array[int], block_tokens: int) -> None:
    import numpy as np

    if not len(trace):
        raise PlanError(f"{path}: no requests in it; expected one a line: {FORM}")
    blocks = np.diff(trace.starts)
    earlier = np.concatenate([trace.timestamp_ms[:1], trace.timestamp_ms[:-1]])
    rules = (
        (trace.input_tokens < 1, "input_length must be at least 1"),
        (trace.output_tokens < 1, "output_length must be at least 1"),
        (~np.isfinite(trace.timestamp_ms), "timestamp is not a number of ms"),
        (trace.timestamp_ms > MOST_TIMESTAMP_MS, "timestamp lies beyond the year 5000; it is a number of ms"),
        (trace.timestamp_ms < earlier, "timestamp lies before the line above; sort the trace by timestamp"),
        (trace.timestamp_ms < 0, "timestamp must not be negative"),
        (
            blocks != -(-trace.input_tokens // block_tokens),
            f"hash_ids does not hold one id for each {block_tokens} tokens of input_length; set block_tokens",
        ),
    )
    for broken, what in rules:
        if broken.any():
            raise PlanError(f"{path}:{lines[int(np.argmax(broken))]}: {what}")


def window(trace: Trace, spec: TraceSpec, requests: int) -> Trace:
    """The requests recorded from `start_s` on for `duration_s`, at most `requests`."""
    import numpy as np

    since_s = (trace.timestamp_ms - trace.timestamp_ms[0]) / 1000
    first = int(np.searchsorted(since_s, spec.start_s, side="left"))
    until_s = np.inf if spec.duration_s is None else spec.start_s + spec.duration_s
    last = min(int(np.searchsorted(since_s, until_s, side="left")), first + requests)
    if first == 0 and last == len(trace):
        return trace
    starts = trace.starts[first : last + 1]
    return Trace(
        timestamp_ms=trace.timestamp_ms[first:last],
        input_tokens=trace.input_tokens[first:last],
        output_tokens=trace.output_tokens[first:last],
        starts=starts - starts[:1],
        hash_ids=trace.hash_ids[int(starts[0]) : int(starts[-1])],
    )


def clip(trace: Trace, spec: TraceSpec, max_model_len: int | None) -> tuple[Trace, tuple[str, ...]]:
    """Cut outputs and prompts to the spec's and the model's limits, and say what was cut."""
    import numpy as np

    context = max_model_len or 2**31 - 1
    output = np.minimum(trace.output_tokens, min(spec.max_output_tokens or context, max(1, context - NONCE_TOKENS)))
    prompt = np.minimum(np.minimum(trace.input_tokens, context - output), spec.max_prompt_tokens or context)
    cut = {"prompts": prompt < trace.input_tokens, "outputs": output < trace.output_tokens}
    notes = tuple(f"{int(c.sum())} of {len(trace)} {what} were cut to the limits" for what, c in cut.items() if c.any())
    if not notes:
        return trace, ()
    blocks = -(-prompt // spec.block_tokens)
    kept = np.arange(len(trace.hash_ids)) < np.repeat(trace.starts[:-1] + blocks, np.diff(trace.starts))
    clipped = replace(
        trace,
        input_tokens=prompt,
        output_tokens=output,
        starts=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(blocks)]),
        hash_ids=trace.hash_ids[kept],
    )
    return clipped, notes


def _segments(trace: Trace, block_tokens: int) -> tuple[Ints, Segments]:
    import numpy as np

    path, known = trace.hash_ids, None
    if path.dtype != np.int32 or path.max() >= DENSE * len(path) + 1024:
        known, inverse = np.unique(path, return_inverse=True)
        path = inverse.astype(np.int32)
    count = int(path.max()) + 1
    if not is_tree(trace.starts, path, count):
        path, old = as_tree(trace.starts, path, count)
        known = old if known is None else known[old]
        count = len(old)
    tokens = np.broadcast_to(np.int32(block_tokens), (count,))
    return path, Segments(tokens=tokens, stream=known)


def _offsets_ns(trace: Trace, spec: TraceSpec) -> Ints:
    """When each request is sent.

    Raises:
        PlanError: so slowly that no clock goes on that long.
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        offsets = np.rint((trace.timestamp_ms - trace.timestamp_ms[0]) * (1_000_000 / spec.speed))
    if not offsets[-1] <= MOST_OFFSET_NS:
        raise PlanError(f"{spec.path}: at speed {spec.speed:g} the last request comes in more than a century; raise it")
    whole: Ints = offsets.astype(np.int64)
    return whole
