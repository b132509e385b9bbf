"""Physical limits: what hardware and model geometry allow at best, and how close a run came.

Prefill cannot be faster than its FLOP over the peak of all GPUs, loading a prompt's KV cache not faster than its bytes
over the link; the best TTFT ratio is the load floor over the measured cold TTFT.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pytest_mooncake.analysis.audit.feasibility import Probe, decode_ms
from pytest_mooncake.analysis.audit.model.geometry import Geometry
from pytest_mooncake.analysis.figures.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A hardware sheet; `None` where it does not tell. Peaks are dense, without sparsity.

    `link_gbps` is what one engine's link to the store carries, `network_gbps` all links together.
    """

    gpus: int | None = None
    peak_tflops_per_gpu: float | None = None
    hbm_gb_per_s_per_gpu: float | None = None
    link_gbps: float | None = None
    network_gbps: float | None = None

    @property
    def peak_flops(self) -> float | None:
        """FLOP/s of all GPUs together."""
        if not self.gpus or not self.peak_tflops_per_gpu:
            return None
        return self.gpus * self.peak_tflops_per_gpu * 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one prompt and the share of them that a run reached; seconds, bytes, FLOP, ratios warm/cold."""

    kv_bytes_per_token: int | None = None
    """The mean over the prompt: layers with a sliding window keep only its end."""
    kv_bytes_per_prompt: int | None = None
    flop_per_prompt: float | None = None
    prefill_floor_s: float | None = None
    load_floor_s: float | None = None
    best_ttft_ratio: float | None = None
    best_throughput_ratio: float | None = None
    ttft_cut_reached_share: float | None = None
    """Measured cut of TTFT over the largest possible one."""
    throughput_reached_share: float | None = None

    def to_json(self) -> dict[str, float | int | None]:
        """As in `report.json`."""
        return asdict(self)


def load_floor_s(kv_bytes: float, gbps: float) -> float:
    """Seconds that `kv_bytes` take on a link of `gbps` gigabits a second.

    >>> round(load_floor_s(327_680 * 16_384, 200), 2)
    0.21
    """
    return kv_bytes * 8 / (gbps * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What one side reached: mean TTFT, mean decode time and throughput; `None` where it was not measured."""

    ttft_ms: float | None = None
    decode_ms: float | None = None
    request_throughput: float | None = None

    @classmethod
    def of(cls, summary: Summary | None) -> Reached:
        """From a summary; nothing where there is none."""
        if summary is None:
            return cls()
        return cls(
            ttft_ms=summary.ttft_ms.mean,
            decode_ms=decode_ms(summary),
            request_throughput=summary.request_throughput,
        )


def limits(
    geometry: Geometry,
    hardware: Hardware,
    *,
    prompt_tokens: int,
    cold: Summary | None = None,
    warm: Summary | None = None,
) -> Limits:
    """Bounds of a prompt of `prompt_tokens` tokens, and the share reached where rounds are given.

    A bound whose inputs are unknown is `None`.
    """
    return limits_reached(geometry, hardware, prompt_tokens, Reached.of(cold), Reached.of(warm))


def limits_reached(geometry: Geometry, hardware: Hardware, prompt_tokens: int, cold: Reached, warm: Reached) -> Limits:
    """As `limits`, from what both sides reached, wherever that was measured."""
    kv_bytes = geometry.kv_bytes(prompt_tokens)
    flop = geometry.prefill_flop(prompt_tokens)
    if flop is not None:
        flop += geometry.attention_flop(prompt_tokens) or 0.0
    link_gbps = hardware.link_gbps or hardware.network_gbps
    floor_s = load_floor_s(kv_bytes, link_gbps) if kv_bytes is not None and link_gbps else None
    ttft_ratio, throughput_ratio = _best(floor_s, cold, warm)
    return Limits(
        kv_bytes_per_token=round(kv_bytes / prompt_tokens)
        if kv_bytes and prompt_tokens
        else geometry.kv_bytes_per_token,
        kv_bytes_per_prompt=kv_bytes,
        flop_per_prompt=flop,
        prefill_floor_s=flop / hardware.peak_flops if flop is not None and hardware.peak_flops else None,
        load_floor_s=floor_s,
        best_ttft_ratio=ttft_ratio,
        best_throughput_ratio=throughput_ratio,
        ttft_cut_reached_share=_cut_share(ttft_ratio, cold, warm),
        throughput_reached_share=_throughput_share(throughput_ratio, cold, warm),
    )


def _best(floor_s: float | None, cold: Reached, warm: Reached) -> tuple[float | None, float | None]:
    if floor_s is None or not cold.ttft_ms:
        return None, None
    ratio = min(1.0, floor_s * 1e3 / cold.ttft_ms)
    probe = Probe.of_times(cold.ttft_ms, cold.decode_ms, warm.decode_ms)
    return ratio, probe.throughput_ratio(1 - ratio) if probe else None


def _cut_share(best: float | None, cold: Reached, warm: Reached) -> float | None:
    if best is None or best >= 1 or not cold.ttft_ms or warm.ttft_ms is None:
        return None
    return (1 - warm.ttft_ms / cold.ttft_ms) / (1 - best)


def _throughput_share(best: float | None, cold: Reached, warm: Reached) -> float | None:
    if not best or not cold.request_throughput or warm.request_throughput is None:
        return None
    return warm.request_throughput / cold.request_throughput / best
