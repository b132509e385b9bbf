"""Whether the measuring client was the limit of a round, or is too coarse for a claim.

TTFT counts from the send, so a delay before it shifts none; what it costs is time in which a slot of a closed loop
stands idle, hence throughput, in cold and warm rounds alike or not. The shift which the client's bias, or that idle
time, causes in the claim's log ratio may be a quarter of the largest of: the claim's distance to its target, the
half-width of its interval, and (of a metric that is to stay stable) its margin. Beyond that the trial is INVALID: not
the product but the instrument spoke.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.analysis.figures.metrics import METRICS
from pytest_mooncake.analysis.figures.summary import Summary
from pytest_mooncake.records import Claim, RequestRecord, Round

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan
    from pytest_mooncake.plan.targets.models import Target

__all__ = [
    "MOST_SHARE",
    "BiasedRound",
    "allowance",
    "bias_shift",
    "closed_loop_slots",
    "coarseness",
    "idle_share",
    "saturation",
]

MOST_SHARE = 0.25
"""Share of distance, half-width or margin that the bias may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasedRound:
    """Figures of a round with the client's bias in it (measured minus true, ms)."""

    summary: Summary
    bias_ms: float
    itl_bias_ms: float | None = None
    """Mean error of a gap between two chunks; None where only the bias of TTFT is known."""
    error_p99_ms: float | None = None
    """What counts instead of the bias for percentiles: a tail is moved by the client's tail."""
    idle_share: float = 0.0
    """Share (0-1) of the slots' time that stood idle for the client's own delays; 0 in an open loop, which has none."""


def coarseness(targets: Sequence[Target], claims: Sequence[Claim], cold: BiasedRound, warm: BiasedRound) -> str | None:
    """Say in one line for which gating claim the client was too coarse in a trial; `None` when for none.

    Args:
        targets: the targets behind the claims.
        claims: judged at a look; one without an interval is not held against the bias.
        cold: the trial's cold round.
        warm: its warm round.
    """
    asked = {target.claim_id: target for target in targets}
    for claim in claims:
        target = asked.get(claim.id)
        if target is None or not claim.gating:
            continue
        allowed = allowance(target, claim)
        shift = _shift_of(target, cold, warm)
        if allowed is not None and shift is not None and shift > allowed:
            return (
                f"the client was too coarse for {claim.title}: {_cause(cold, warm)} shifts the claim by "
                f"{math.expm1(shift):.1%}, at most {math.expm1(allowed):.1%} may be overlooked; "
                "measure longer prompts, or from a quieter machine"
            )
    return None


def _cause(cold: BiasedRound, warm: BiasedRound) -> str:
    bias = f"its bias of {warm.bias_ms:+.2f} ms"
    if not cold.idle_share and not warm.idle_share:
        return bias
    return f"{bias}, or slots idle for it ({cold.idle_share:.1%} of the cold round, {warm.idle_share:.1%} of the warm),"


def allowance(target: Target, claim: Claim) -> float | None:
    """The largest shift (log) that may be overlooked; `None` where the claim has no interval yet."""
    interval, middle, asked = claim.ci_ratio, claim.estimate_ratio, target.ratio
    if target.bound is not None:
        interval, middle, asked = claim.details.get("interval"), claim.details.get("estimate"), target.bound
    if not interval or not middle or not asked or min(*interval, middle) <= 0:
        return None
    distance = abs(math.log(middle / asked))
    half = math.log(interval[1] / interval[0]) / 2
    return MOST_SHARE * max(distance, half, _margin(target))


def _margin(target: Target) -> float:
    """The margin of a metric that is to stay stable: how far it may get worse."""
    metric = METRICS[target.metric]
    if target.ratio is None:
        return 0.0
    worse = target.direction == metric.better and (target.ratio > 1) == (metric.better == "lower")
    return abs(math.log(target.ratio)) if worse or target.direction == "equivalent" else 0.0


def _shift_of(target: Target, cold: BiasedRound, warm: BiasedRound) -> float | None:
    sides = [bias_shift(target.metric, one) for one in (warm, cold)]
    if target.bound is not None:
        only = sides[0] if target.rounds == "warm" else sides[1]
        return None if only is None else abs(only)
    shift, other = sides
    return None if shift is None or other is None else abs(shift - other)


def bias_shift(metric: str, one: BiasedRound) -> float | None:
    """Log of what the client measured over what was true, of one metric of one round.

    TTFT and end-to-end latency hold the bias whole, their percentiles the P99 error instead. TPOT and ITL hold the
    bias of a gap; where that is unknown, a share of 1/n of the other, of which a decode of n tokens holds at most one.
    A round's makespan holds one, and the slots' idle time. Shares of requests or tokens hold none (0.0). `None`: not
    measured.
    """
    value = METRICS[metric].of(one.summary)
    if value is None or value <= 0:
        return None
    name, _, point = metric.partition("_")
    if name in ("ttft", "e2e"):
        is_tail = one.error_p99_ms is not None and re.fullmatch(r"p\d+", point)
        return _log_over_true(value, (one.error_p99_ms or 0.0) if is_tail else one.bias_ms)
    if name in ("tpot", "itl"):
        bias = _gap_bias(one)
        return None if bias is None else _log_over_true(value, bias)
    if METRICS[metric].unit and one.summary.makespan_s:
        longer = _log_over_true(one.summary.makespan_s * 1e3, one.bias_ms) - math.log1p(-min(one.idle_share, 0.99))
        return longer if metric == "makespan" else -longer
    return 0.0


def _log_over_true(measured: float, bias: float) -> float:
    true = measured - bias
    return math.log(measured / true) if true > 0 else math.inf


def _gap_bias(one: BiasedRound) -> float | None:
    if one.itl_bias_ms is not None:
        return one.itl_bias_ms
    tokens = _decoded_tokens(one.summary)
    return None if tokens is None else one.bias_ms / tokens


def _decoded_tokens(summary: Summary) -> float | None:
    successes = summary.requests - summary.failed
    if summary.output_tokens is None or successes <= 0:
        return None
    return max(1.0, summary.output_tokens / successes - 1)


SATURATED_CPU_SHARE = 0.85
"""Share of one core in any second of a round above which the client was the limit."""


SATURATED_IDLE_SHARE = 0.20
"""Share of the slots' time that stood idle for the client's own delays, above which it was the limit (closed loop)."""
SATURATED_LATE_SHARE = 0.05
"""Mean lateness, as a share of mean TTFT, above which the client was the limit (open loop)."""


def saturation(measured: Round, *, slots: int | None, ttft_mean_ms: float | None) -> str | None:
    """Say in one line why the client was the limit of a round and what to change; `None` when it was not.

    Args:
        measured: the round.
        slots: requests that may be in flight at once in a closed loop; `None` in an open loop, sent by a schedule.
        ttft_mean_ms: mean TTFT of the round, for an open loop.
    """
    peak = measured.client.cpu_peak_share
    if peak is not None and peak > SATURATED_CPU_SHARE:
        return (
            f"the client was the limit: it used {peak:.0%} of a core in one second "
            f"(at most {SATURATED_CPU_SHARE:.0%}); use --mooncake-workers or a lower rate"
        )
    if slots is not None:
        return _idle(idle_share(measured.requests, slots))
    return _late(measured.client.send_delay_mean_ms, ttft_mean_ms)


def _idle(share: float) -> str | None:
    if share <= SATURATED_IDLE_SHARE:
        return None
    return (
        f"the client was the limit: its own delays left {share:.1%} of the slots' time idle "
        f"(at most {SATURATED_IDLE_SHARE:.0%}); use --mooncake-workers, or measure from a quieter machine"
    )


def _late(delay_ms: float | None, ttft_mean_ms: float | None) -> str | None:
    if delay_ms is None or not ttft_mean_ms or delay_ms <= SATURATED_LATE_SHARE * ttft_mean_ms:
        return None
    return (
        f"the client was the limit: requests left {delay_ms:.2f} ms late on average, {delay_ms / ttft_mean_ms:.1%} of "
        f"mean TTFT (at most {SATURATED_LATE_SHARE:.0%}); use --mooncake-workers or a lower rate"
    )


def idle_share(requests: Sequence[RequestRecord], slots: int) -> float:
    """Share (0-1) of the slots' time from free slot to send, over the whole round; 0 where nothing was sent.

    Args:
        requests: of one round.
        slots: requests that may be in flight at once.
    """
    free = [(r.ready_ns if r.ready_ns is not None else r.intended_ns, r.sent_ns) for r in requests]
    delays = [sent - ready for ready, sent in free if sent is not None]
    ends = [end for r in requests if (end := r.last_token_ns if r.done_ns is None else r.done_ns) is not None]
    if not delays or not ends:
        return 0.0
    span = max(ends) - min(ready for ready, _ in free)
    return min(1.0, sum(delays) / (min(slots, len(requests)) * span)) if span > 0 else 0.0


def closed_loop_slots(plan: Plan) -> int | None:
    """Requests in flight at once in a closed loop; `None` where a schedule says when each is sent, capped or not."""
    return None if plan.workload.arrivals is not None else plan.workload.in_flight_cap
