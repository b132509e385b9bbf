"""Token counters of the engines over rounds, for the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mooncake.records import Round, Scrape

PROMPT_TOKENS = "vllm:prompt_tokens_total"
OUTPUT_TOKENS = "vllm:generation_tokens_total"


def server_tokens(rounds: Sequence[Round]) -> tuple[int | None, int | None]:
    """Prompt and output tokens that the engines counted over `rounds`; `None` where a round or engine does not tell."""
    return _grown(rounds, PROMPT_TOKENS), _grown(rounds, OUTPUT_TOKENS)


def _grown(rounds: Sequence[Round], series: str) -> int | None:
    grown = [_difference(_total(one.before, series), _total(one.after, series)) for one in rounds]
    known = [value for value in grown if value is not None]
    return sum(known) if known and len(known) == len(grown) else None


def _difference(before: float | None, after: float | None) -> int | None:
    """Growth of a counter; a counter that fell was restarted and tells nothing."""
    return None if before is None or after is None or after < before else round(after - before)


def _total(scrapes: Sequence[Scrape], series: str) -> float | None:
    values = [
        value
        for scrape in scrapes
        if scrape.source.startswith("engine:")
        for name, value in scrape.samples.items()
        if name.split("{", 1)[0] == series
    ]
    return sum(values) if values else None
