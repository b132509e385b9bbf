"""Laws that figures must obey together. Numbers that cannot be true at once must not be published.

Each finding names the law, both sides, by how much it is broken and what usually causes that. A law whose inputs are
absent is `not_applicable`; one that is broken makes a run INVALID, a warning is only said. Figures that were printed
count as everything that is rounded to them (`analysis.audit.laws.printed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.audit.engine_totals import engine_in_flight, server_tokens
from pytest_mooncake.analysis.audit.external_figures import Figures, RoundFigures, round_figures
from pytest_mooncake.analysis.audit.laws.law import missing
from pytest_mooncake.analysis.audit.laws.of_machines import laws_of_machines
from pytest_mooncake.analysis.audit.laws.of_rounds import laws_of_round
from pytest_mooncake.analysis.audit.laws.side import COLD, WARM, Side
from pytest_mooncake.analysis.audit.limits import Hardware
from pytest_mooncake.analysis.audit.model.geometry import Geometry
from pytest_mooncake.analysis.evidence.counters.deltas import untold_sources
from pytest_mooncake.analysis.figures.summary import summarise
from pytest_mooncake.records import AuditFinding, Kind

if TYPE_CHECKING:
    from pytest_mooncake.records import Round


def audit(figures: Figures) -> tuple[AuditFinding, ...]:
    """Confront the figures with every law.

    Args:
        figures: of a run, or from elsewhere.

    Returns:
        One finding a law and kind of round, always the same laws in the same order.
    """
    return tuple(_findings(figures))


def audit_rounds(
    rounds: Sequence[Round],
    concurrency: int | None,
    *,
    model: Geometry | None = None,
    hardware: Hardware | None = None,
) -> tuple[AuditFinding, ...]:
    """Audit measured rounds, warm and cold ones pooled, with the engines' own counters.

    Args:
        rounds: valid rounds of the chain.
        concurrency: most requests in flight; None for an open loop, whose pace the arrivals set.
        model: the model's shape, where it is known.
        hardware: the machines, where they are known.
    """
    sides, untold = {}, untold_sources(rounds)
    for kind in (Kind.COLD, Kind.WARM):
        held = [one for one in rounds if one.kind is kind]
        prompt, output = server_tokens(held, untold)
        figures = round_figures(summarise(held))
        sides[kind] = replace(
            figures,
            server_prompt_tokens=prompt,
            server_output_tokens=output,
            engine_in_flight=engine_in_flight(held, figures.makespan_s, untold),
        )
    findings = audit(
        Figures(
            concurrency=concurrency,
            prompt_tokens=_mean_prompt(sides[Kind.COLD]),
            cold=sides[Kind.COLD],
            warm=sides[Kind.WARM],
            model=model or Geometry(),
            hardware=hardware or Hardware(),
            measured=True,
        )
    )
    findings = tuple(map(_of_records, findings))
    return findings if concurrency is not None else tuple(map(_open_loop, findings))


def _mean_prompt(one: RoundFigures) -> int | None:
    successes = (one.requests or 0) - (one.failed or 0)
    return round(one.prompt_tokens / successes) if one.prompt_tokens is not None and successes > 0 else None


_OF_TABLES = {"latency", "totals_prompt", "totals_output"}
"""Laws between means of a table, which say nothing of requests of different length that were measured one by one."""


def _of_records(found: AuditFinding) -> AuditFinding:
    """Of measured rounds the records themselves are there, and evidence says whether a cold round was cold."""
    name = found.law.partition(".")[0]
    if name in _OF_TABLES:
        return missing(found.law, "needs figures from elsewhere; of a run the records are held against each other")
    too_many = found.left is not None and found.right is not None and found.left > found.right
    return missing(found.law, "needs evidence, which judges it") if name == "cached" and not too_many else found


def _open_loop(found: AuditFinding) -> AuditFinding:
    """In an open loop arrivals set the throughput, so no gain has to follow from latency."""
    return missing(found.law, "needs a closed loop") if found.law == "closed_loop" else found


def _findings(figures: Figures) -> Iterator[AuditFinding]:
    for name in (COLD, WARM):
        yield from laws_of_round(Side(figures, name))
    yield from laws_of_machines(figures)
