"""Laws that physics sets: compute, network, memory; and the law of a loop whose two sides were run alike."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.analysis.audit.external_figures import Figures, RoundFigures
from pytest_mooncake.analysis.audit.feasibility import Probe
from pytest_mooncake.analysis.audit.laws.law import (
    HELD,
    WARNING,
    at_least,
    at_most,
    close_to,
    finding,
    missing,
    only_warned,
)
from pytest_mooncake.analysis.audit.laws.open_loop import gain_and_allowed
from pytest_mooncake.analysis.audit.laws.printed import Printed
from pytest_mooncake.analysis.audit.laws.side import COLD, WARM, Side
from pytest_mooncake.analysis.audit.limits import load_floor_s
from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.records import AuditFinding

TWO_BYTES = 2.0
HALF_A_BYTE = 0.5
"""Bytes of a parameter when nobody says: as checkpoints usually are, and as the smallest that engines serve."""


def laws_of_machines(figures: Figures) -> Iterator[AuditFinding]:
    """Every law of both sides together and of the machines, always the same in the same order."""
    yield _closed_loop(figures)
    for found in (_compute(figures), _bytes(figures), _cold_time(figures), _warm_time(figures)):
        yield _unless_doubtful(figures, found)
    for name in (COLD, WARM):
        yield _unless_doubtful(figures, _decode(Side(figures, name)))
    yield _model(figures)


def _unless_doubtful(figures: Figures, found: AuditFinding) -> AuditFinding:
    """What rests on a model that is not fully understood condemns nothing."""
    return only_warned(found, "the model's shape is in doubt") if figures.model.doubts else found


def _model(figures: Figures) -> AuditFinding:
    """What of the model's configuration is not understood."""
    model = figures.model
    if model.doubts:
        cure = "give model.kv_bytes_per_token and model.parameters"
        return finding("model", WARNING, None, None, f"{'; '.join(model.doubts)}: {cure}")
    if model.kv_bytes_per_token is None and model.parameters is None:
        return missing("model", "needs model.config, or kv_bytes_per_token and parameters")
    return finding("model", HELD, None, None, "the model's shape is known")


def _closed_loop(figures: Figures) -> AuditFinding:
    """A saturated loop of equal concurrency gains exactly what its latency loses."""
    gain, allowed = gain_and_allowed(figures)
    if gain is None or allowed is None:
        return missing("closed_loop", "needs throughput and latency of both kinds")
    if figures.request_rate is not None:
        return missing("closed_loop", "needs a closed loop")
    detail = f"throughput ×{gain:.2f}, at equal concurrency latency allows ×{allowed:.2f}{_limit(figures)}"
    return close_to(
        "closed_loop", Printed.exactly(gain), Printed.exactly(allowed), detail,
        cause="the warm round had more requests in flight than the cold one", slack=0.25, broken=None,
    )  # fmt: skip


def _limit(figures: Figures) -> str:
    cold, warm = figures.cold.ttft_ms.mean, figures.warm.ttft_ms.mean
    before, after = Side(figures, COLD).latency_ms, Side(figures, WARM).latency_ms
    if cold is None or warm is None or before is None or after is None:
        return ""
    probe = Probe.of_times(cold, before.value - cold, after.value - warm)
    return f", ×{probe.limit:.2f} with no TTFT at all" if probe else ""


def _compute(figures: Figures) -> AuditFinding:
    """Cold throughput × FLOP of a prompt cannot exceed the peak of all GPUs."""
    rate, peak = Side(figures, COLD).of("request_throughput"), figures.hardware.peak_flops
    flop, attention = _flop_of_prompt(figures)
    if rate is None or peak is None or flop is None:
        return missing("compute", "needs cold throughput, parameters, prompt tokens and the GPUs' peak")
    needed = rate * flop
    further = f" ({rate.value * (flop.value + attention) / 1e15:.1f} with attention)" if attention else ""
    detail = (
        f"{rate.value:g} req/s × {flop.value / 1e15:.2f} PFLOP = {needed.value / 1e15:.1f}{further} PFLOP/s, "
        f"peak {peak / 1e15:.2f} PFLOP/s ({percent(needed.value / peak)})"
    )
    cause = "documents share prefixes, so the cold round hit a cache"
    return at_most("compute", needed, Printed.exactly(peak), detail, cause=cause, warn_above=0.75)


def _flop_of_prompt(figures: Figures) -> tuple[Printed | None, float]:
    """FLOP of one cold prefill without attention, and those of attention.

    Only of the tokens that were computed: a scenario's cold rounds may reuse what they stored themselves.
    """
    tokens, model = Side(figures, COLD).whole("prompt_tokens"), figures.model
    if tokens is None or not tokens.value or model.parameters is None:
        return None, 0.0
    share = _computed_share(figures.cold)
    attention = model.attention_flop(round(tokens.value)) or 0.0
    return tokens.times(2.0 * model.parameters * share), attention * share


def _computed_share(one: RoundFigures) -> float:
    if not one.cached_tokens or not one.prompt_tokens:
        return 1.0
    return max(0.0, 1 - one.cached_tokens / one.prompt_tokens)


def _bytes(figures: Figures) -> AuditFinding:
    """Warm throughput × KV bytes of a request cannot exceed the network between store and engines."""
    rate, gbps = Side(figures, WARM).of("request_throughput"), figures.hardware.network_gbps
    loaded = _loaded_bytes(figures)
    if rate is None or not gbps or loaded is None:
        return missing("bytes", "needs warm throughput, KV bytes a token, prompt tokens and network_gbps")
    used = (rate * loaded).times(8 / 1e9)
    share = percent(used.value / gbps)
    detail = f"{rate.value:g} req/s × {loaded.value / 1e9:.2f} GB = {used.value:.0f} Gb/s of {gbps:g} Gb/s ({share})"
    cause = "a local tier served what the store was to serve"
    return at_most("bytes", used, Printed.exactly(gbps), detail, cause=cause, warn_above=0.7)


def _loaded_bytes(figures: Figures) -> Printed | None:
    """KV bytes a warm request loads: of its cached tokens where they are known, else of its prompt."""
    side, tokens, model = Side(figures, WARM), figures.prompt_tokens, figures.model
    mean = None if not tokens else model.kv_bytes(tokens)
    if mean is None or not tokens:
        each = model.kv_bytes_per_token
        each = None if each is None else each - (model.window_kv_bytes_per_token or 0)
    cached, successes = side.of("cached_tokens"), side.successes if side.one.requests is not None else None
    if cached is not None and successes:
        per_token = mean / tokens if mean is not None and tokens else each
        return None if per_token is None else cached.times(per_token / successes)
    whole = side.whole("prompt_tokens")
    return None if mean is None or whole is None or not tokens else whole.times(mean / tokens)


def _cold_time(figures: Figures) -> AuditFinding:
    """No prefill is faster than its FLOP over the peak of all GPUs."""
    ttft, peak = Side(figures, COLD).of("ttft_ms.mean"), figures.hardware.peak_flops
    flop, _ = _flop_of_prompt(figures)
    if ttft is None or peak is None or flop is None:
        return missing("time.cold", "needs cold TTFT, parameters, prompt tokens and the GPUs' peak")
    floor = flop.times(1e3 / peak)
    detail = f"mean TTFT {ttft.value:g} ms, prefill floor {floor.value:.0f} ms"
    return at_least("time.cold", ttft, floor, detail, cause="the cold round hit a cache")


def _warm_time(figures: Figures) -> AuditFinding:
    """No load is faster than its bytes over all links together."""
    ttft, loaded = Side(figures, WARM).of("ttft_ms.mean"), _loaded_bytes(figures)
    gbps = figures.hardware.link_gbps or figures.hardware.network_gbps
    if ttft is None or not gbps or loaded is None:
        return missing("time.warm", "needs warm TTFT, KV bytes a token, prompt tokens and network_gbps")
    floor = loaded.times(load_floor_s(1.0, gbps) * 1e3)
    detail = f"mean TTFT {ttft.value:g} ms, load floor {floor.value:.0f} ms"
    return at_least("time.warm", ttft, floor, detail, cause="a local tier served what the store was to serve")


def _decode(side: Side) -> AuditFinding:
    """No step of decoding is faster than reading the weights that a token passes through out of all GPUs' memory."""
    law, model, hardware = f"decode.{side.name}", side.figures.model, side.figures.hardware
    tpot, step = side.of("tpot_ms.mean"), side.of("step_ms")
    took = max((one for one in (tpot, step) if one is not None), key=lambda one: one.value, default=None)
    if took is None or not hardware.gpus or not hardware.hbm_gb_per_s_per_gpu or model.parameters is None:
        return missing(law, "needs TPOT, parameters, gpus and hbm_gb_per_s_per_gpu")
    per_byte = 1e3 / (hardware.gpus * hardware.hbm_gb_per_s_per_gpu * 1e9)
    usual = (model.weight_bytes or model.parameters * TWO_BYTES) * per_byte
    least = (model.least_weight_bytes or model.parameters * HALF_A_BYTE) * per_byte
    detail = f"TPOT {took.value:g} ms, reading the weights takes {usual:.2g} ms at least"
    cause = "more GPUs, fewer bits or another model than told, or several tokens a step (then give step_ms)"
    found = at_least(law, took, Printed.exactly(usual), detail, cause=cause)
    if took.high < least * 0.98:
        return found
    return only_warned(found, f"in fewer bits it could be {least:.2g} ms")
