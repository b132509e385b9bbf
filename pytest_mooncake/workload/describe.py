"""A workload in words, figures and bars: how long, how much is reused, how large a store it wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.workload.build import CHUNK_TOKENS
from pytest_mooncake.workload.reuse.planned_reuse import Reuse, planned_reuse, segment_hits
from pytest_mooncake.workload.reuse.stack_distance import SizeCurve, size_curve

if TYPE_CHECKING:
    from pytest_mooncake.workload.layouts.layout import Ints, Layout

BAR = 40
BINS = 8
SIZES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Cache sizes shown, as parts of the working set."""
QUANTILES = (0.5, 0.9, 0.99)
TRACE_ENDINGS = (".jsonl", ".jsonl.gz")
GB = 1e9
MB = 1e6


def describe(
    plan: WorkloadPlan, layout: Layout, *, kv_bytes_per_token: int | None = None, chunk_tokens: int = CHUNK_TOKENS
) -> str:
    """Lengths, arrivals, planned reuse, working set and hit rate against cache size, as plain text.

    Args:
        plan: the workload.
        layout: how its prompts are composed.
        kv_bytes_per_token: KV cache of one token over all ranks; None shows sizes in tokens.
        chunk_tokens: tokens in a cache chunk.
    """
    reuse = planned_reuse(layout, chunk_tokens)
    sections = [
        [f"{plan.name}: {plan.description}" if plan.description else plan.name],
        _requests(plan, layout),
        _lengths(layout),
        _reuse(plan, layout, reuse),
        _working_set(reuse, kv_bytes_per_token),
        _curve(layout, reuse, kv_bytes_per_token),
        [f"note: {note}" for note in layout.notes],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def in_brief(plan: WorkloadPlan, layout: Layout) -> str:
    """One line: how many requests of which lengths, and what sets their pace."""
    pace = f"{plan.concurrency} in flight"
    if layout.offset_ns is not None:
        pace = f"over {int(layout.offset_ns[-1]) / 1e9:,.1f} s on their recorded schedule"
    return (
        f"{plan.name}: {len(layout):,} requests of {_span(layout.prompt_tokens)} prompt tokens and "
        f"{_span(layout.output_tokens)} output tokens, {pace}, seed {plan.seed}"
    )


def _span(values: Ints) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,} (mean {values.mean():,.0f})"


def reuse_in_brief(plan: WorkloadPlan, reuse: Reuse) -> str:
    """One line: what a round shares within itself, as asked and as planned."""
    asked = ", ".join(f"{kind.name} {kind.reuse:.0%}" for kind in plan.traffic)
    return (
        f"{reuse.cold_ratio:.1%} of {int(reuse.chunks.sum()):,} chunks within a cold round, all of them in a warm one"
        + (f" (asked: {asked})" if asked else "")
    )


def _requests(plan: WorkloadPlan, layout: Layout) -> list[str]:
    if layout.offset_ns is None:
        return [f"{len(layout):,} requests, {plan.concurrency} in flight"]
    seconds = int(layout.offset_ns[-1]) / 1e9
    rate = f", {len(layout) / seconds:.2f} a second" if seconds else ""
    return [f"{len(layout):,} requests in {seconds:,.1f} s{rate}"]


def _lengths(layout: Layout) -> list[str]:
    return [
        "tokens          mean       p50       p90       p99       max            total",
        _row("prompt", layout.prompt_tokens),
        _row("output", layout.output_tokens),
        "",
        *_histogram("prompt tokens", layout.prompt_tokens),
    ]


def _row(name: str, values: Ints) -> str:
    import numpy as np

    ranks = np.quantile(values, QUANTILES, method="inverted_cdf")
    figures = "".join(f"{figure:>10,.0f}" for figure in (values.mean(), *ranks, values.max()))
    return f"{name:<10}{figures}{int(values.sum()):>17,}"


def _histogram(name: str, values: Ints) -> Iterator[str]:
    """Bars over doubling ranges, so that a few very long prompts do not squeeze the rest into one bar."""
    import numpy as np

    top = max(1, int(values.max() - 1).bit_length())
    edges = [0, *(2**power for power in range(max(0, top - BINS + 1), top + 1))]
    counts, _ = np.histogram(values - 0.5, bins=edges)
    for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False):
        if count:
            yield f"{name} {low + 1:>7,} to {high:>7,}  {count:>9,}  {_bar(count / max(counts))}"


def _reuse(plan: WorkloadPlan, layout: Layout, reuse: Reuse) -> list[str]:
    total = int(reuse.chunks.sum())
    asked = ", ".join(f"{kind.name} {kind.reuse:.0%}" for kind in plan.traffic)
    cached = sum(reuse.cold_cached_tokens) / int(layout.prompt_tokens.sum())
    lines = [
        f"planned reuse, in cache chunks of {reuse.chunk_tokens} tokens ({total:,} whole chunks a round)",
        f"  cold round {reuse.cold_ratio:>7.1%}  of chunks, {cached:.1%} of tokens: what earlier requests of it stored"
        + (f" (asked: {asked})" if asked else ""),
        f"  warm round {1 if total else 0:>7.1%}  of chunks: the same requests once more",
    ]
    if plan.kind == "trace":
        blocks = int(segment_hits(layout).sum()) / len(layout.path)
        lines.append(f"  recorded   {blocks:>7.1%}  of the trace's own blocks had been seen before")
    return lines


def _working_set(reuse: Reuse, kv_bytes_per_token: int | None) -> list[str]:
    tokens = reuse.distinct_chunks * reuse.chunk_tokens
    size = ""
    if kv_bytes_per_token is not None:
        size = f", {_size(tokens, kv_bytes_per_token)} at {kv_bytes_per_token:,} bytes a token"
    return [f"working set: {reuse.distinct_chunks:,} distinct chunks, {tokens:,} tokens{size}"]


def _curve(layout: Layout, reuse: Reuse, kv_bytes_per_token: int | None) -> list[str]:
    if not reuse.distinct_chunks:
        return []
    cold = size_curve(layout, reuse.chunk_tokens)
    warm = size_curve(layout, reuse.chunk_tokens, warm=True)
    lines = ["hit rate against cache size (exact LRU; share of chunks)", f"{'size':>18}    cold    warm"]
    lines += [_point(max(1, round(part * reuse.distinct_chunks)), (cold, warm), kv_bytes_per_token) for part in SIZES]
    if cold.most_hits:
        knee = cold.chunks_for(0.9) * reuse.chunk_tokens
        lines.append(f"90 % of the reuse within a round needs {_size(knee, kv_bytes_per_token)}")
    return lines


def _point(chunks: int, curves: Sequence[SizeCurve], kv_bytes_per_token: int | None) -> str:
    ratios = [curve.hit_ratio(chunks) for curve in curves]
    figures = "".join(f"{ratio:>8.1%}" for ratio in ratios)
    size = _size(chunks * curves[0].chunk_tokens, kv_bytes_per_token)
    return f"{size:>18}{figures}  {_bar(ratios[0], 'o')}{_bar(ratios[1] - ratios[0])}".rstrip()


def _size(tokens: int, kv_bytes_per_token: int | None) -> str:
    if kv_bytes_per_token is None:
        return f"{tokens:,} tokens"
    size = tokens * kv_bytes_per_token
    return f"{size / GB:,.2f} GB" if size >= GB else f"{size / MB:,.2f} MB"


def _bar(share: float, mark: str = "#") -> str:
    return mark * max(0, round(share * BAR))
