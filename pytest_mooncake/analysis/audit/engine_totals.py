"""What the engines counted over rounds, for the audit: tokens, and requests in hand.

Counters are read as evidence reads them (`analysis.evidence.counters.deltas`): a source that restarted, could not be
read or is not known to be one process tells nothing, and neither do counters that saw fewer requests than were served
to us.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.evidence.counters.deltas import deltas

if TYPE_CHECKING:
    from pytest_mooncake.records import Round


def server_tokens(rounds: Sequence[Round], untold: Collection[str] = ()) -> tuple[int | None, int | None]:
    """Prompt and output tokens that the engines counted over `rounds`; `None` where a round or engine does not tell.

    Args:
        rounds: with their scrapes.
        untold: sources that are not known to be one process (`deltas.untold_sources`).
    """
    tokens = [_grown(rounds, quantity, untold) for quantity in ("prompt_tokens", "generation_tokens")]
    prompt, output = (None if value is None else round(value) for value in tokens)
    return prompt, output


def engine_in_flight(rounds: Sequence[Round], makespan_s: float | None, untold: Collection[str] = ()) -> float | None:
    """Mean number of requests that the engines had in hand, running or waiting, by Little's law on their own clock.

    The sum of the latencies that the engines count, over the time it took: the mean of their gauges of running and
    waiting requests, exactly and without reading these while a round is measured.

    Args:
        rounds: with their scrapes.
        makespan_s: of these rounds together.
        untold: as in `server_tokens`.
    """
    latency_s = _grown(rounds, "latency_seconds_sum", untold)
    return latency_s / makespan_s if latency_s is not None and makespan_s else None


def _grown(rounds: Sequence[Round], quantity: str, untold: Collection[str]) -> float | None:
    grown = [_grown_in(one, quantity, untold) for one in rounds]
    known = [value for value in grown if value is not None]
    return sum(known) if known and len(known) == len(grown) else None


def _grown_in(one: Round, quantity: str, untold: Collection[str]) -> float | None:
    moved = deltas(one.before, one.after, untold=untold)
    counted = moved.get("requests_succeeded")
    served = sum(record.error is None for record in one.requests)
    return None if counted is not None and counted < served else moved.get(quantity)
