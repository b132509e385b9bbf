"""Figures of one side of a report, cold or warm: measured here, or handed in with gaps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_mooncake.analysis.figures import Distribution, RoundFigures
from pytest_mooncake.analysis.summary import Spread, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSummary:
    """A `Summary` of figures that came from elsewhere: any of them may be missing, counts too."""

    requests: int | None
    failed: int | None
    ttft_ms: Spread
    tpot_ms: Spread
    itl_ms: Spread
    chunk_gap_ms: Spread
    e2e_ms: Spread
    request_throughput: float | None
    output_token_throughput: float | None
    makespan_s: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    ttft_user_ms: Spread = field(default_factory=Spread)
    ttft_vllm_ms: Spread = field(default_factory=Spread)

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`."""
        return asdict(self)


Side = Summary | PartialSummary


def side_of(figures: RoundFigures, requests: int | None) -> PartialSummary:
    """One side of handed-in figures; `requests` is the number stated for both sides together."""
    return PartialSummary(
        requests=requests if figures.requests is None else figures.requests,
        failed=figures.failed,
        ttft_ms=_spread(figures.ttft_ms),
        tpot_ms=_spread(figures.tpot_ms),
        itl_ms=Spread(),
        chunk_gap_ms=Spread(),
        e2e_ms=_spread(figures.e2e_ms),
        request_throughput=figures.request_throughput,
        output_token_throughput=figures.output_token_throughput,
        makespan_s=figures.makespan_s,
        prompt_tokens=figures.prompt_tokens,
        cached_tokens=figures.cached_tokens,
        output_tokens=figures.output_tokens,
    )


def _spread(distribution: Distribution) -> Spread:
    return Spread(mean=distribution.mean, p50=distribution.p50, p90=distribution.p90, p99=distribution.p99)
