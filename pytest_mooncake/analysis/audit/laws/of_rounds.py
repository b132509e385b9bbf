"""Laws that the figures of one side must obey among themselves, whatever the machines are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from pytest_mooncake.analysis.audit.laws.law import (
    BROKEN,
    HELD,
    SLACK,
    WARNING,
    at_most,
    close_to,
    finding,
    missing,
    only_warned,
    too_much,
)
from pytest_mooncake.analysis.audit.laws.open_loop import question
from pytest_mooncake.analysis.audit.laws.printed import Printed
from pytest_mooncake.analysis.audit.laws.side import COLD, Side
from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.records import AuditFinding

REBUILT_MAY_EXCEED = 1.5
"""A latency that was put together from means may be too long by this much where replies differ in length."""
REBUILT_MAY_FALL_SHORT = 0.75
TEMPLATE_TOKENS = 64
"""What a chat template may add to a prompt beyond the length that was asked for."""
COLD_MAY_BE_CACHED = 0.9
COLD_IS_ASKED_ABOUT = 0.5


def laws_of_round(side: Side) -> Iterator[AuditFinding]:
    """Every law of one side, always the same in the same order."""
    yield _little(side)
    yield _engine(side)
    yield _makespan(side)
    yield _rate(side)
    yield _longest(side)
    yield _tokens(side)
    yield from _totals(side)
    yield from _counters(side)
    yield _order(side)
    yield _latency(side)
    yield _cached(side)
    yield _failed(side)


def _little(side: Side) -> AuditFinding:
    """Little (1961): in flight = throughput × mean latency, at most the concurrency of a closed loop."""
    law, flying, concurrency = f"little.{side.name}", side.in_flight, side.figures.concurrency
    rate, latency = side.of("request_throughput"), side.latency_ms
    if flying is None or rate is None or latency is None or concurrency is None:
        return missing(law, "needs throughput, latency (or TTFT, TPOT and output tokens) and concurrency")
    detail = (
        f"{rate.value:.2f} req/s × {latency.value / 1e3:.2f} s = {flying.value:.1f} requests in flight, "
        f"concurrency {concurrency}"
    )
    room = Printed.exactly(concurrency)
    found = at_most(
        law, flying, room, detail, slack=SLACK,
        cause="rounds run at different concurrency, or throughput counted over another window than latency",
    )  # fmt: skip
    return _asked_or_doubted(side, found, flying, room)


def _asked_or_doubted(side: Side, found: AuditFinding, flying: Printed, room: Printed) -> AuditFinding:
    """An open loop is asked about; a latency put together from means condemns only when TTFT alone does, or by far."""
    asked = question(side.figures, side)
    if found.status == BROKEN and asked is not None:
        said = found.detail.partition(": ")[0]
        return finding(found.law, WARNING, found.left, found.right, f"{said}: {too_much(flying, room)}; {asked}")
    rate, ttft = side.of("request_throughput"), side.of("ttft_ms.mean")
    certain = rate is not None and ttft is not None and (rate * ttft.times(1e-3)).low > room.high * (1 + SLACK)
    if not side.is_rebuilt or certain or flying.low > REBUILT_MAY_EXCEED * room.high:
        return found
    return only_warned(found, "the latency is put together from TTFT and TPOT, which is exact for equal replies only")


def _engine(side: Side) -> AuditFinding:
    """The engine must have about as many requests in hand as the client has in flight."""
    law, flying, seen = f"little_engine.{side.name}", side.in_flight, side.of("engine_in_flight")
    if flying is None or seen is None:
        return missing(law, "needs the engine's own latencies")
    detail = f"the engine saw {seen.value:.1f} requests in flight, the client {flying.value:.1f}"
    return close_to(
        law, seen, flying, detail, cause="somebody else's traffic, or a queue before the engine",
        slack=0.25, broken=None,
    )  # fmt: skip


def _makespan(side: Side) -> AuditFinding:
    """No closed loop holds more latency than its slots last: Σ latency ≤ makespan × concurrency."""
    law, concurrency = f"makespan.{side.name}", side.figures.concurrency
    makespan, total = side.of("makespan_s"), side.of("latency_sum_s")
    if makespan is None or total is None or concurrency is None:
        return missing(law, "needs makespan, sum of latencies and concurrency")
    room = makespan.times(concurrency)
    detail = f"Σ latency {total.value:.2f} s, makespan × concurrency {room.value:.2f} s"
    found = at_most(law, total, room, detail, cause="more requests in flight than planned", slack=SLACK)
    asked = question(side.figures, side)
    return found if asked is None else only_warned(found, asked)


def _rate(side: Side) -> AuditFinding:
    """Request throughput = successes / makespan."""
    law, rate, makespan = f"rate.{side.name}", side.of("request_throughput"), side.of("makespan_s")
    if rate is None or makespan is None or not makespan.value or side.successes is None:
        return missing(law, "needs throughput, makespan and number of requests")
    counted = Printed.exactly(side.successes) / makespan
    detail = f"{rate.value:g} req/s, {side.successes} requests in {makespan.value:g} s are {counted.value:.3g} req/s"
    found = close_to(
        law, rate, counted, detail, slack=SLACK, broken=0.05,
        cause="throughput and makespan of different rounds, or counted over another window",
    )  # fmt: skip
    return _unless_failures(side, found, rate, counted)


def _unless_failures(side: Side, found: AuditFinding, less: Printed, full: Printed) -> AuditFinding:
    """What requests that failed would explain condemns nothing, where nobody says how many did."""
    if side.one.failed is None and full.low / 2 <= less.high and less.value < full.value:
        return only_warned(found, "or requests failed, of which nothing is said")
    return found


def _longest(side: Side) -> AuditFinding:
    """No request takes longer than all of them together, from the first send to the last token."""
    law, makespan = f"longest.{side.name}", side.of("makespan_s")
    names = (f"{name}.{part}" for name in ("ttft_ms", "e2e_ms") for part in ("mean", *_RUNGS))
    known = [(value, name) for name in names if (value := side.of(name)) is not None]
    if not known:
        return missing(law, "needs a latency, and makespan or throughput and number of requests")
    longest, name = max(known, key=lambda one: one[0].low)
    words = f"{_spoken(name)} {longest.value / 1e3:.2f} s"
    if makespan is None:
        return _longer_than_implied(side, longest.times(1e-3), words)
    cause = "latencies and makespan of different rounds"
    detail = f"{words}, makespan {makespan.value:g} s"
    return at_most(law, longest.times(1e-3), makespan, detail, cause=cause, slack=SLACK)


def _longer_than_implied(side: Side, longest: Printed, words: str) -> AuditFinding:
    """The same where requests over throughput stand for the makespan: warned, since tools count both differently."""
    law, rate = f"longest.{side.name}", side.of("request_throughput")
    if rate is None or not rate.value or not side.requests:
        return missing(law, "needs a latency, and makespan or throughput and number of requests")
    implied = Printed.exactly(side.requests) / rate
    detail = f"{words}, {side.requests} requests at {rate.value:g} req/s are over in {implied.value:.2f} s"
    cause = "latencies and throughput of different rounds"
    found = only_warned(at_most(law, longest, implied, detail, cause=cause, slack=SLACK), "both should be checked")
    return found if found.status == WARNING else missing(law, "needs makespan")


def _spoken(name: str) -> str:
    latency, part = name.split(".")
    return f"{'mean' if part == 'mean' else _RUNGS[part]} {_LATENCIES[latency]}"


_LATENCIES = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2e_ms": "E2E"}
_RUNGS = {"min": "minimum", "p50": "P50", "p90": "P90", "p95": "P95", "p99": "P99", "max": "maximum"}


def _tokens(side: Side) -> AuditFinding:
    """Token throughput = request throughput × mean output tokens of a request."""
    law, each = f"tokens.{side.name}", side.tokens_each
    tokens, rate = side.of("output_token_throughput"), side.of("request_throughput")
    if tokens is None or rate is None or each is None or not each.value:
        return missing(law, "needs both throughputs and output tokens")
    product = rate * each
    detail = f"{tokens.value:.1f} tokens/s, {rate.value:.2f} req/s × {each.value:.1f} tokens"
    found = close_to(
        law, tokens, product, detail,
        cause="failed requests counted on one side only, or tokens counted by another tokenizer",
        slack=SLACK, broken=0.05,
    )  # fmt: skip
    return found if side.one.output_tokens is None else _unless_failures(side, found, product, tokens)


def _totals(side: Side) -> Iterator[AuditFinding]:
    """Tokens of all requests = successes × tokens of one."""
    for what in ("prompt", "output"):
        law, total, each = f"totals_{what}.{side.name}", side.of(f"{what}_tokens"), side.whole(f"{what}_tokens")
        if total is None or each is None or side.successes is None:
            yield missing(law, f"needs {what} tokens of all requests and of one, and their number")
            continue
        product = each.times(side.successes)
        detail = f"{total.value:.0f} {what} tokens, {side.successes} requests × {each.value:g} are {product.value:.0f}"
        found = close_to(
            law, total, product, detail, slack=SLACK, broken=0.05,
            cause="totals of other rounds, or requests that are not as long as stated",
        )  # fmt: skip
        added = total.low - product.high
        if what == "prompt" and 0 < added <= TEMPLATE_TOKENS * side.successes:
            found = only_warned(found, "or a chat template adds to each prompt")
        yield _unless_failures(side, found, total, product)


def _counters(side: Side) -> Iterator[AuditFinding]:
    """What clients were told and what servers counted must agree, while nothing failed."""
    for what in ("prompt", "output"):
        law = f"counters_{what}.{side.name}"
        client, server = side.of(f"{what}_tokens"), side.of(f"server_{what}_tokens")
        if client is None or server is None or side.one.failed:
            yield missing(law, "needs the token counters of all engines and no failed request")
            continue
        detail = f"{what} tokens: client {client.value:.0f}, server {server.value:.0f}"
        yield close_to(
            law, client, server, detail, cause="somebody else's traffic, or an engine restarted in between",
            slack=0.005, broken=0.05,
        )  # fmt: skip


def _order(side: Side) -> AuditFinding:
    """Percentiles ascend, a mean lies between its bounds, TTFT is part of end to end."""
    law, pairs = f"order.{side.name}", list(_ascending(side))
    if not pairs:
        return missing(law, "needs two figures of one latency")
    wrong = [one for one in (*pairs, *_around_means(side)) if one[1].low > one[3].high]
    if not wrong:
        return finding(law, HELD, None, None, f"{len(pairs)} pairs of figures are in order")
    said = "; ".join(f"{lower} {low.value:g} ms exceeds {upper} {high.value:g} ms" for lower, low, upper, high in wrong)
    return finding(law, BROKEN, wrong[0][1].value, wrong[0][3].value, said)


Pair = tuple[str, Printed, str, Printed]
"""What may not exceed what, by name."""


def _ascending(side: Side) -> Iterator[Pair]:
    for key, name in _LATENCIES.items():
        ladder = [(f"{name} {word}", side.of(f"{key}.{rung}")) for rung, word in _RUNGS.items()]
        known = [(word, value) for word, value in ladder if value is not None]
        yield from ((a, x, b, y) for (a, x), (b, y) in pairwise(known))
        mean, least, most = (side.of(f"{key}.{part}") for part in ("mean", "min", "max"))
        if mean is not None and least is not None:
            yield f"{name} minimum", least, f"{name} mean", mean
        if mean is not None and most is not None:
            yield f"{name} mean", mean, f"{name} maximum", most
    for part in ("mean", *_RUNGS):
        ttft, e2e = side.of(f"ttft_ms.{part}"), side.of(f"e2e_ms.{part}")
        if ttft is not None and e2e is not None:
            yield f"TTFT {_RUNGS.get(part, part)}", ttft, f"E2E {_RUNGS.get(part, part)}", e2e


def _around_means(side: Side) -> Iterator[Pair]:
    """Half the requests take at least P50, so the mean is at least half of it, and so on; failures rank last."""
    for key, name in _LATENCIES.items():
        mean = side.of(f"{key}.mean")
        if mean is None or side.one.failed:
            continue
        for rung, times in (("p50", 2), ("p90", 10), ("p95", 20), ("p99", 100)):
            value = side.of(f"{key}.{rung}")
            if value is not None:
                yield f"{name} {_RUNGS[rung]}", value, f"{times} × {name} mean", mean.times(times * (1 + SLACK))


def _latency(side: Side) -> AuditFinding:
    """End to end = TTFT + (output tokens - 1) × TPOT: about, where replies differ in length."""
    law, told = f"latency.{side.name}", side.of("e2e_ms.mean")
    rebuilt = [one for one in (side.rebuilt_ms("mean"), side.rebuilt_ms("p50")) if one is not None]
    if told is None or not rebuilt:
        return missing(law, "needs end to end, TTFT, TPOT and output tokens")
    whole, least = rebuilt[0], min(one.low for one in rebuilt)
    detail = f"mean E2E {told.value:g} ms, TTFT + (tokens - 1) × TPOT = {whole.value:.0f} ms"
    cause = "usual cause: latencies of different rounds, or another number of tokens"
    if told.high < REBUILT_MAY_FALL_SHORT * least:
        return finding(law, BROKEN, told.value, whole.value, f"{detail}; {cause}")
    if told.high < 0.9 * least or told.low > whole.high / REBUILT_MAY_FALL_SHORT:
        return finding(law, WARNING, told.value, whole.value, f"{detail}; {cause}")
    return finding(law, HELD, told.value, whole.value, detail)


def _cached(side: Side) -> AuditFinding:
    """No more tokens are cached than prompts have, and hardly any of a cold round's."""
    law, cached, prompt = f"cached.{side.name}", side.of("cached_tokens"), side.of("prompt_tokens")
    each = side.whole("prompt_tokens")
    if prompt is None and each is not None and side.successes is not None:
        prompt = each.times(side.successes)
    if cached is None or prompt is None or not prompt.value:
        return missing(law, "needs cached tokens and prompt tokens")
    share = cached / prompt
    detail = f"{cached.value:.0f} of {prompt.value:.0f} prompt tokens cached ({percent(share.value)})"
    if share.low > 1:
        return finding(law, BROKEN, cached.value, prompt.value, f"{detail}: more than there are")
    if side.name != COLD or share.value <= COLD_IS_ASKED_ABOUT:
        return finding(law, HELD, cached.value, prompt.value, detail)
    status = BROKEN if share.low > COLD_MAY_BE_CACHED else WARNING
    return finding(law, status, cached.value, prompt.value, f"{detail}: the cold round was not cold")


def _failed(side: Side) -> AuditFinding:
    """No more requests fail than are sent."""
    law, failed, requests = f"failed.{side.name}", side.one.failed, side.requests
    if failed is None or requests is None:
        return missing(law, "needs failed requests and their number")
    detail = f"{failed} of {requests} requests failed"
    return finding(law, BROKEN if failed > requests else HELD, failed, requests, detail)
