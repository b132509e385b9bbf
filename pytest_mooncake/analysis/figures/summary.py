"""What requests come to: TTFT, TPOT, ITL and E2E of one request; means, percentiles and rates of rounds.

Definitions (binding, `docs/explanation/client.md`): TTFT runs from the last byte sent to the first chunk with output;
TPOT is (last token - first token) / (output tokens - tokens in the first chunk); E2E runs from send to last token;
request throughput is successes / makespan, the makespan runs from the first send to the last token. Two further TTFTs
stand beside the headline: the user's, and the one that vLLM's benchmark counts. Where nobody tells how many tokens each
chunk carried, ITL is unknown and TPOT takes the first chunk for a mean one (`analysis.figures.columns`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.figures.columns import (
    MISSING,
    MOST_TOKENS,
    Columns,
    columns_of,
    first_chunk_tokens,
    told_split,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_mooncake.records import RequestRecord, Round

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMetrics:
    """One request in milliseconds; `None` where it did not get that far.

    `itl_ms` holds one entry a token, and is `None` where nobody tells how many each chunk carried.
    """

    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    itl_ms: tuple[float, ...] | None
    chunk_gap_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean over successes and rank-based percentiles in which failures rank last (`None` where one lands on them)."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """As in `report.json`."""
        return {"mean": self.mean, "p50": self.p50, "p90": self.p90, "p99": self.p99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of one round or of several pooled ones, named as in `report.json`. Counts come from the data.

    Throughputs are per second; `prompt_tokens`, `cached_tokens` and `output_tokens` are sums over successful
    requests that reported them, `None` where none did.
    """

    requests: int
    failed: int
    ttft_ms: Spread
    tpot_ms: Spread
    itl_ms: Spread
    chunk_gap_ms: Spread
    e2e_ms: Spread
    ttft_user_ms: Spread = Spread()
    """What a user waits: from the intended send, so that a client or a slot that is late counts."""
    ttft_vllm_ms: Spread = Spread()
    """As `vllm bench serve` counts: from before the send (connecting included) to the first chunk, a role's too."""
    request_throughput: float | None
    output_token_throughput: float | None
    makespan_s: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    goodput: float | None = None
    """Requests a second that kept the service level; only where one was given (`analysis.figures.goodput`)."""
    stalled: int | None = None
    """Successful requests whose TTFT exceeds three medians of their round."""
    unsplit: int = 0
    """Successful requests of which nobody tells how many tokens each chunk carried: no ITL, TPOT by the mean chunk."""

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`: plain numbers, `None` for what was not measured, never nan."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "ttft_ms": self.ttft_ms.to_json(),
            "ttft_user_ms": self.ttft_user_ms.to_json(),
            "ttft_vllm_ms": self.ttft_vllm_ms.to_json(),
            "tpot_ms": self.tpot_ms.to_json(),
            "itl_ms": self.itl_ms.to_json(),
            "chunk_gap_ms": self.chunk_gap_ms.to_json(),
            "unsplit": self.unsplit,
            "e2e_ms": self.e2e_ms.to_json(),
            "request_throughput": self.request_throughput,
            "output_token_throughput": self.output_token_throughput,
            "makespan_s": self.makespan_s,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
        }


def request_metrics(record: RequestRecord) -> RequestMetrics:
    """Times of one request, by the definitions above.

    Args:
        record: a request, failed or not.

    Returns:
        Milliseconds; a request of one chunk has no TPOT and no gaps.
    """
    split = told_split(len(record.chunk_ns), record.chunk_tokens)
    gaps = tuple(_gaps(record.chunk_ns, split))
    told = bool(split) or len(record.chunk_ns) < 2
    return RequestMetrics(
        ttft_ms=_between(record.sent_ns, record.first_token_ns),
        tpot_ms=_tpot_ms(record, split),
        e2e_ms=_between(record.sent_ns, record.last_token_ns),
        itl_ms=tuple(gap / tokens for gap, tokens in gaps for _ in range(tokens)) if told else None,
        chunk_gap_ms=tuple(gap for gap, _ in gaps),
    )


def _between(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e6


def _tpot_ms(record: RequestRecord, split: Sequence[int]) -> float | None:
    decode_ms, output = _between(record.first_token_ns, record.last_token_ns), record.output_tokens
    if decode_ms is None or output is None or not 0 <= output <= MOST_TOKENS:
        return None
    decoded = output - first_chunk_tokens(len(record.chunk_ns), split, output)
    return decode_ms / decoded if decoded > 0 else None


def _gaps(chunk_ns: Sequence[int], split: Sequence[int]) -> Iterator[tuple[float, int]]:
    """Gaps between chunks and the tokens that ended them; one without a token lengthens the next, 1 where unknown."""
    if not chunk_ns:
        return
    previous_ns = chunk_ns[0]
    for at_ns, tokens in zip(chunk_ns[1:], split[1:] or (1,) * (len(chunk_ns) - 1), strict=True):
        if tokens > 0:
            yield (at_ns - previous_ns) / 1e6, tokens
            previous_ns = at_ns


def summarise(rounds: Sequence[Round]) -> Summary:
    """Pool rounds of one kind: requests are thrown together, makespans add up.

    Args:
        rounds: rounds of one kind; an empty sequence gives a summary of nothing.

    Returns:
        Their figures; `summarise_columns` is the same from columns.
    """
    return summarise_columns(columns_of(request for one in rounds for request in one.requests))


def summarise_columns(columns: Columns) -> Summary:
    """Figures of `columns`; rounds are told apart by their `round` column.

    A failed request ranks behind every measured one; in ITL each token that it was to deliver after its first does.
    One successful request of several chunks of which nobody tells how the tokens lie in them leaves the ITL of all
    unknown: that of the others is the ITL of other answers.
    """
    succeeded = ~columns.failed
    failed = int(columns.failed.sum())
    makespan_s = _makespan_s(columns)
    successes = len(columns) - failed
    output_tokens = _total(columns.output_tokens, succeeded)
    lost_tokens = int((columns.planned_tokens[columns.failed] - 1).clip(min=1).sum())
    return Summary(
        requests=len(columns),
        failed=failed,
        ttft_ms=spread(columns.ttft_ms[succeeded], failed),
        ttft_user_ms=spread(columns.ttft_user_ms[succeeded], failed),
        ttft_vllm_ms=spread(columns.ttft_vllm_ms[succeeded], failed),
        tpot_ms=spread(columns.tpot_ms[succeeded], failed),
        itl_ms=_weighted_spread(columns, lost_tokens),
        chunk_gap_ms=spread(columns.gap_ms, 0),
        e2e_ms=spread(columns.e2e_ms[succeeded], failed),
        request_throughput=successes / makespan_s if makespan_s else None,
        output_token_throughput=output_tokens / makespan_s if makespan_s and output_tokens is not None else None,
        makespan_s=makespan_s,
        prompt_tokens=_total(columns.prompt_tokens, succeeded),
        cached_tokens=_total(columns.cached_tokens, succeeded),
        output_tokens=output_tokens,
        unsplit=columns.unsplit_answers,
    )


def spread(values: NDArray[Any], failures: int) -> Spread:
    """Mean and rank-based percentiles of `values` with `failures` ranked behind them.

    Args:
        values: (n,) measurements; nan entries were not measured and are left out.
        failures: how many requests failed.

    Returns:
        The q-percentile is the ceil(q·N)-th smallest of the N = n + failures; `None` when that is a failure.
    """
    import numpy as np

    known = values[~np.isnan(values)]
    if not len(known):
        return Spread()
    total = len(known) + failures
    ranks = [rank_of(quantile, total) for quantile in QUANTILES]
    p50, p90, p99 = _at_ranks(known, ranks)
    return Spread(mean=float(known.mean()), p50=p50, p90=p90, p99=p99)


def rank_of(quantile: float, total: int) -> int:
    """Zero-based rank of a quantile among `total` values: ceil(q·N) - 1.

    >>> rank_of(0.9, 30), rank_of(0.99, 30), rank_of(0.5, 1)
    (26, 29, 0)
    """
    return max(0, math.ceil(quantile * total - 1e-9) - 1)


def _weighted_spread(columns: Columns, lost_tokens: int) -> Spread:
    import numpy as np

    if not len(columns.gap_ms) or columns.unsplit_answers:
        return Spread()
    each, tokens = columns.gap_ms / columns.gap_tokens, columns.gap_tokens
    total = int(tokens.sum())
    ranks = np.array([rank_of(quantile, total + lost_tokens) for quantile in QUANTILES])
    even = (tokens == tokens[0]).all()
    p50, p90, p99 = (
        _at_ranks(each, [int(rank // tokens[0]) for rank in ranks]) if even else _at_weights(each, tokens, ranks)
    )
    return Spread(mean=float(columns.gap_ms.sum() / total), p50=p50, p90=p90, p99=p99)


def _at_ranks(values: NDArray[Any], ranks: Sequence[int]) -> list[float | None]:
    """Order statistics, `None` beyond the last one; selecting them is several times cheaper than sorting."""
    import numpy as np

    inside = [rank for rank in ranks if rank < len(values)]
    ordered = np.partition(values, inside) if inside else values
    return [float(ordered[rank]) if rank < len(values) else None for rank in ranks]


def _at_weights(values: NDArray[Any], weights: NDArray[Any], ranks: NDArray[Any]) -> list[float | None]:
    """The value at each rank where every value stands as often as its weight says."""
    import numpy as np

    order = np.argsort(values)
    found = np.searchsorted(np.cumsum(weights[order]), ranks, side="right")
    return [float(values[order[i]]) if i < len(order) else None for i in found]


def _makespan_s(columns: Columns) -> float | None:
    """Sum over rounds of first send to last token; a round without a token has no end and adds nothing."""
    import numpy as np

    total_ns = 0
    for one in np.unique(columns.round):
        inside = columns.round == one
        sent = columns.sent_ns[inside & (columns.sent_ns != MISSING)]
        last = columns.last_token_ns[inside & (columns.last_token_ns != MISSING)]
        if len(sent) and len(last):
            total_ns += int(last.max()) - int(sent.min())
    return total_ns / 1e9 if total_ns > 0 else None


def _total(values: NDArray[Any], chosen: NDArray[Any]) -> int | None:
    known = values[chosen & (values != MISSING)]
    return int(known.sum()) if len(known) else None
