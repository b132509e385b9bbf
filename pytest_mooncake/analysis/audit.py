"""Laws that figures must obey together. Numbers that cannot be true at once must not be published.

Each finding names the law, both sides, by how much it is broken and what usually causes that. A law whose inputs are
absent is `not_applicable`; one that is broken makes a run INVALID, a warning is only said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.counters import engine_in_flight, server_tokens
from pytest_mooncake.analysis.deltas import untold_sources
from pytest_mooncake.analysis.feasibility import Probe
from pytest_mooncake.analysis.figures import Figures, RoundFigures, round_figures
from pytest_mooncake.analysis.geometry import Geometry
from pytest_mooncake.analysis.laws import (
    NOT_APPLICABLE,
    at_least,
    at_most,
    close_to,
    e2e_mean_ms,
    finding,
    flop_of_prompt,
    in_flight,
    missing,
)
from pytest_mooncake.analysis.limits import Hardware, load_floor_s
from pytest_mooncake.analysis.percent import percent
from pytest_mooncake.analysis.summary import summarise
from pytest_mooncake.records import AuditFinding, Kind

if TYPE_CHECKING:
    from pytest_mooncake.records import Round

ROUNDING = 0.02
"""Share by which sides may differ because figures are printed with few digits."""


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
        )
    )
    return findings if concurrency is not None else tuple(map(_open_loop, findings))


def _mean_prompt(one: RoundFigures) -> int | None:
    successes = (one.requests or 0) - (one.failed or 0)
    return round(one.prompt_tokens / successes) if one.prompt_tokens is not None and successes > 0 else None


def _open_loop(found: AuditFinding) -> AuditFinding:
    """In an open loop arrivals set the throughput, so no gain has to follow from latency."""
    return missing(found.law, "needs a closed loop") if found.law == "closed_loop" else found


def _findings(figures: Figures) -> Iterator[AuditFinding]:
    for side, one in (("cold", figures.cold), ("warm", figures.warm)):
        yield _little(figures, one, side)
        yield _engine(figures, one, side)
        yield _makespan(figures, one, side)
        yield _tokens(figures, one, side)
        yield from _counters(one, side)
        yield _order(one, side)
    yield _closed_loop(figures)
    yield _compute(figures)
    yield _bytes(figures)
    yield _cold_time(figures)
    yield _warm_time(figures)


def _little(figures: Figures, one: RoundFigures, side: str) -> AuditFinding:
    """Little (1961): in flight = throughput × mean latency, at most the concurrency of a closed loop."""
    law, flying = f"little.{side}", in_flight(figures, one)
    if flying is None or figures.concurrency is None:
        return missing(law, "needs throughput, latency (or TTFT, TPOT and output tokens) and concurrency")
    latency_s = (e2e_mean_ms(figures, one) or 0.0) / 1e3
    sides = f"{one.request_throughput:.2f} req/s × {latency_s:.2f} s = {flying:.1f} requests in flight"
    return at_most(
        law,
        flying,
        figures.concurrency,
        f"{sides}, concurrency {figures.concurrency}",
        cause="rounds run at different concurrency, or throughput counted over another window than latency",
        slack=ROUNDING,
    )


def _engine(figures: Figures, one: RoundFigures, side: str) -> AuditFinding:
    """The engine must have about as many requests in hand as the client has in flight."""
    law, flying = f"little_engine.{side}", in_flight(figures, one)
    if flying is None or one.engine_in_flight is None:
        return missing(law, "needs the engine's own latencies")
    detail = f"the engine saw {one.engine_in_flight:.1f} requests in flight, the client {flying:.1f}"
    return close_to(
        law, one.engine_in_flight, flying, detail, cause="somebody else's traffic, or a queue before the engine",
        slack=0.25, broken=None,
    )  # fmt: skip


def _makespan(figures: Figures, one: RoundFigures, side: str) -> AuditFinding:
    """No closed loop holds more latency than its slots last: Σ latency ≤ makespan × concurrency."""
    law = f"makespan.{side}"
    if one.makespan_s is None or one.latency_sum_s is None or figures.concurrency is None:
        return missing(law, "needs makespan, sum of latencies and concurrency")
    room = one.makespan_s * figures.concurrency
    detail = f"Σ latency {one.latency_sum_s:.2f} s, makespan × concurrency {room:.2f} s"
    return at_most(law, one.latency_sum_s, room, detail, cause="more requests in flight than planned", slack=ROUNDING)


def _tokens(figures: Figures, one: RoundFigures, side: str) -> AuditFinding:
    """Token throughput = request throughput × mean output tokens of a request."""
    law, each = f"tokens.{side}", _tokens_of_request(figures, one)
    if one.output_token_throughput is None or one.request_throughput is None or not each:
        return missing(law, "needs both throughputs and output tokens")
    product = one.request_throughput * each
    detail = f"{one.output_token_throughput:.1f} tokens/s, {one.request_throughput:.2f} req/s × {each:.1f} tokens"
    return close_to(
        law, one.output_token_throughput, product, detail,
        cause="failed requests counted on one side only, or tokens counted by another tokenizer",
        slack=ROUNDING, broken=0.05,
    )  # fmt: skip


def _tokens_of_request(figures: Figures, one: RoundFigures) -> float | None:
    successes = (one.requests or 0) - (one.failed or 0)
    if one.output_tokens is not None and successes > 0:
        return one.output_tokens / successes
    return figures.output_tokens


def _counters(one: RoundFigures, side: str) -> Iterator[AuditFinding]:
    """What clients were told and what servers counted must agree, while nothing failed."""
    pairs = (
        ("prompt", one.prompt_tokens, one.server_prompt_tokens),
        ("output", one.output_tokens, one.server_output_tokens),
    )
    for what, client, server in pairs:
        law = f"counters_{what}.{side}"
        if client is None or server is None or one.failed:
            yield missing(law, "needs the token counters of all engines and no failed request")
            continue
        detail = f"{what} tokens: client {client}, server {server}"
        yield close_to(
            law, client, server, detail, cause="somebody else's traffic, or an engine restarted in between",
            slack=0.005, broken=0.05,
        )  # fmt: skip


def _order(one: RoundFigures, side: str) -> AuditFinding:
    """Percentiles ascend, a mean lies between minimum and maximum, TTFT is part of end to end."""
    law = f"order.{side}"
    pairs = list(_ordered_pairs(one))
    if not pairs:
        return missing(law, "needs two figures of one latency")
    for lower, low, higher, high in pairs:
        if low > high:
            return finding(law, "broken", low, high, f"{lower} {low:g} ms exceeds {higher} {high:g} ms")
    return finding(law, "held", None, None, f"{len(pairs)} pairs of figures are in order")


def _ordered_pairs(one: RoundFigures) -> Iterator[tuple[str, float, str, float]]:
    for name, held in (("TTFT", one.ttft_ms), ("TPOT", one.tpot_ms), ("E2E", one.e2e_ms)):
        ladder = [("minimum", held.min), ("P50", held.p50), ("P90", held.p90), ("P99", held.p99), ("maximum", held.max)]
        known = [(f"{name} {rung}", value) for rung, value in ladder if value is not None]
        yield from ((a, x, b, y) for (a, x), (b, y) in pairwise(known))
        if held.mean is not None and held.min is not None:
            yield f"{name} minimum", held.min, f"{name} mean", held.mean
        if held.mean is not None and held.max is not None:
            yield f"{name} mean", held.mean, f"{name} maximum", held.max
    for part in ("mean", "p50", "p90"):
        ttft, e2e = getattr(one.ttft_ms, part), getattr(one.e2e_ms, part)
        if ttft is not None and e2e is not None:
            yield f"TTFT {part}", ttft, f"E2E {part}", e2e


def _closed_loop(figures: Figures) -> AuditFinding:
    """A saturated loop of equal concurrency gains exactly what its latency loses."""
    law, cold, warm = "closed_loop", figures.cold, figures.warm
    before, after = e2e_mean_ms(figures, cold), e2e_mean_ms(figures, warm)
    if not before or not after or not cold.request_throughput or not warm.request_throughput:
        return missing(law, "needs throughput and latency of both kinds")
    gain, allowed = warm.request_throughput / cold.request_throughput, before / after
    detail = (
        f"throughput ×{gain:.2f}, at equal concurrency latency allows ×{allowed:.2f}{_limit(figures, before, after)}"
    )
    return close_to(
        law, gain, allowed, detail, cause="the warm round had more requests in flight than the cold one",
        slack=0.25, broken=None,
    )  # fmt: skip


def _limit(figures: Figures, before_ms: float, after_ms: float) -> str:
    cold, warm = figures.cold.ttft_ms.mean, figures.warm.ttft_ms.mean
    if cold is None or warm is None:
        return ""
    probe = Probe.of_times(cold, before_ms - cold, after_ms - warm)
    return f", ×{probe.limit:.2f} with no TTFT at all" if probe else ""


def _compute(figures: Figures) -> AuditFinding:
    """Cold throughput × FLOP of a prompt cannot exceed the peak of all GPUs."""
    law, rate, peak = "compute", figures.cold.request_throughput, figures.hardware.peak_flops
    flop, attention = flop_of_prompt(figures)
    if rate is None or peak is None or flop is None:
        return missing(law, "needs cold throughput, parameters, prompt tokens and the GPUs' peak")
    with_attention = f" ({rate * (flop + attention) / 1e15:.1f} with attention)" if attention else ""
    detail = (
        f"{rate:g} req/s × {flop / 1e15:.2f} PFLOP = {rate * flop / 1e15:.1f}{with_attention} PFLOP/s, "
        f"peak {peak / 1e15:.2f} PFLOP/s ({percent(rate * flop / peak)})"
    )
    cause = "documents share prefixes, so the cold round hit a cache"
    return at_most(law, rate * flop, peak, detail, cause=cause, warn_above=0.75)


def _bytes(figures: Figures) -> AuditFinding:
    """Warm throughput × KV bytes of a request cannot exceed the network between store and engines."""
    law, rate, gbps = "bytes", figures.warm.request_throughput, figures.hardware.network_gbps
    kv_bytes = _loaded_bytes(figures)
    if rate is None or not gbps or kv_bytes is None:
        return missing(law, "needs warm throughput, KV bytes a token, prompt tokens and network_gbps")
    used_gbps = rate * kv_bytes * 8 / 1e9
    share = percent(used_gbps / gbps)
    detail = f"{rate:g} req/s × {kv_bytes / 1e9:.2f} GB = {used_gbps:.0f} Gb/s of {gbps:g} Gb/s ({share})"
    return at_most(
        law, used_gbps, gbps, detail, cause="a local tier served what the store was to serve", warn_above=0.7
    )


def _loaded_bytes(figures: Figures) -> float | None:
    """KV bytes a warm request loads: of its cached tokens where they are known, else of its prompt."""
    warm, each = figures.warm, figures.model.kv_bytes_per_token
    successes = (warm.requests or 0) - (warm.failed or 0)
    if each is None:
        return None
    if warm.cached_tokens is not None and successes > 0:
        return each * warm.cached_tokens / successes
    return None if figures.prompt_tokens is None else float(each * figures.prompt_tokens)


def _cold_time(figures: Figures) -> AuditFinding:
    """No prefill is faster than its FLOP over the peak of all GPUs."""
    law, ttft_ms, peak = "time.cold", figures.cold.ttft_ms.mean, figures.hardware.peak_flops
    flop, _ = flop_of_prompt(figures)
    if ttft_ms is None or peak is None or flop is None:
        return missing(law, "needs cold TTFT, parameters, prompt tokens and the GPUs' peak")
    floor_ms = flop / peak * 1e3
    detail = f"mean TTFT {ttft_ms:g} ms, prefill floor {floor_ms:.0f} ms"
    return at_least(law, ttft_ms, floor_ms, detail, cause="the cold round hit a cache")


def _warm_time(figures: Figures) -> AuditFinding:
    """No load is faster than its bytes over all links together."""
    law, ttft_ms = "time.warm", figures.warm.ttft_ms.mean
    gbps, kv_bytes = figures.hardware.link_gbps or figures.hardware.network_gbps, _loaded_bytes(figures)
    if ttft_ms is None or not gbps or kv_bytes is None:
        return missing(law, "needs warm TTFT, KV bytes a token, prompt tokens and network_gbps")
    floor_ms = load_floor_s(kv_bytes, gbps) * 1e3
    detail = f"mean TTFT {ttft_ms:g} ms, load floor {floor_ms:.0f} ms"
    return at_least(law, ttft_ms, floor_ms, detail, cause="a local tier served what the store was to serve")


def is_applicable(one: AuditFinding) -> bool:
    """Whether the law's inputs were known."""
    return one.status != NOT_APPLICABLE
