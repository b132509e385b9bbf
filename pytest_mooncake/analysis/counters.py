"""What the engines counted over rounds, for the audit: tokens, and requests in hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mooncake.records import Round, Scrape

PROMPT_TOKENS = "vllm:prompt_tokens_total"
OUTPUT_TOKENS = "vllm:generation_tokens_total"
LATENCY = "vllm:e2e_request_latency_seconds_sum"


def server_tokens(rounds: Sequence[Round]) -> tuple[int | None, int | None]:
    """Prompt and output tokens that the engines counted over `rounds`; `None` where a round or engine does not tell."""
    tokens = [_grown(rounds, series) for series in (PROMPT_TOKENS, OUTPUT_TOKENS)]
    prompt, output = (None if value is None else round(value) for value in tokens)
    return prompt, output


def engine_in_flight(rounds: Sequence[Round], makespan_s: float | None) -> float | None:
    """Mean number of requests that the engines had in hand, running or waiting, by Little's law on their own clock.

    The sum of the latencies that the engines count, over the time it took: the mean of their gauges of running and
    waiting requests, exactly and without reading these while a round is measured.

    Args:
        rounds: with their scrapes.
        makespan_s: of these rounds together.
    """
    latency_s = _grown(rounds, LATENCY)
    return latency_s / makespan_s if latency_s is not None and makespan_s else None


def _grown(rounds: Sequence[Round], series: str) -> float | None:
    grown = [_difference(_total(one.before, series), _total(one.after, series)) for one in rounds]
    known = [value for value in grown if value is not None]
    return sum(known) if known and len(known) == len(grown) else None


def _difference(before: float | None, after: float | None) -> float | None:
    """Growth of a counter; a counter that fell was restarted and tells nothing."""
    return None if before is None or after is None or after < before else after - before


def _total(scrapes: Sequence[Scrape], series: str) -> float | None:
    values = [
        value
        for scrape in scrapes
        if scrape.source.startswith("engine:")
        for name, value in scrape.samples.items()
        if name.split("{", 1)[0] == series
    ]
    return sum(values) if values else None
