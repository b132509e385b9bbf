"""Figures of a pair of rounds from anywhere: measured here, a vendor's table, a report. Absent means `None`.

The mapping is the format of `pytest-mooncake judge FIGURES.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from pytest_mooncake.analysis.audit.limits import Hardware
from pytest_mooncake.analysis.audit.model.geometry import Geometry, geometry_of
from pytest_mooncake.analysis.audit.model.kv_width import kv_dtype_bytes
from pytest_mooncake.analysis.figures.summary import Spread, Summary
from pytest_mooncake.errors import PlanError

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A latency in milliseconds."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    min: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, spread: Spread) -> Distribution:
        """From a summary's spread."""
        return cls(mean=spread.mean, p50=spread.p50, p90=spread.p90, p99=spread.p99)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFigures:
    """One round, or rounds of one kind pooled. Token counts are totals of successful requests."""

    requests: int | None = None
    failed: int | None = None
    ttft_ms: Distribution = Distribution()
    tpot_ms: Distribution = Distribution()
    e2e_ms: Distribution = Distribution()
    step_ms: float | None = None
    """Mean time between two chunks of a reply; above TPOT where a step brings several tokens (speculation)."""
    request_throughput: float | None = None
    output_token_throughput: float | None = None
    makespan_s: float | None = None
    latency_sum_s: float | None = None
    """Sum of end-to-end latencies."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    server_prompt_tokens: int | None = None
    server_output_tokens: int | None = None
    engine_in_flight: float | None = None
    """Mean number of requests running or waiting, as the engine itself counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Cold and warm figures with what is known of workload, model and hardware.

    `concurrency`: most requests in flight, of a closed loop; `request_rate`: arrivals a second, of an open one.
    """

    requests: int | None = None
    concurrency: int | None = None
    request_rate: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cold: RoundFigures
    warm: RoundFigures
    model: Geometry = field(default_factory=Geometry)
    hardware: Hardware = field(default_factory=Hardware)
    halves: Mapping[str, float] = field(default_factory=dict)
    """Half a unit of the last digit that a figure was printed with, by dotted name; what was measured here has none."""
    measured: bool = False
    """Whether this package measured them: then a concurrency is one, and records say more than means."""


def round_figures(summary: Summary) -> RoundFigures:
    """Figures of measured rounds; counters of the servers are not among them."""
    successes = summary.requests - summary.failed
    e2e_ms = summary.e2e_ms.mean
    return RoundFigures(
        requests=summary.requests,
        failed=summary.failed,
        ttft_ms=Distribution.of(summary.ttft_ms),
        tpot_ms=Distribution.of(summary.tpot_ms),
        e2e_ms=Distribution.of(summary.e2e_ms),
        step_ms=summary.chunk_gap_ms.mean,
        request_throughput=summary.request_throughput,
        output_token_throughput=summary.output_token_throughput,
        makespan_s=summary.makespan_s,
        latency_sum_s=None if e2e_ms is None else e2e_ms * successes / 1e3,
        prompt_tokens=summary.prompt_tokens,
        cached_tokens=summary.cached_tokens,
        output_tokens=summary.output_tokens,
    )


def figures_from_mapping(mapping: Mapping[str, Any]) -> Figures:
    """Read figures that were loaded from YAML.

    Args:
        mapping: as in the reference; `model.config` holds the loaded mapping of a `config.json`, not its path. The
            key `printed` may hold the texts of figures by dotted name, where these were read from a file; digits
            that a number has lost (14.50) count there.

    Returns:
        The figures; what is absent is `None`.

    Raises:
        PlanError: a key does not belong, a value is no positive number, or cold or warm is missing.
    """
    held = dict(mapping)
    printed = held.pop("printed", {})
    for side in ("cold", "warm"):
        if not isinstance(held.get(side), Mapping):
            raise PlanError(f"{side}: missing; figures need a mapping of {side} figures, e.g. {side}: {{ttft_ms: …}}")
    model, hardware = machine_from_mapping({key: held.pop(key, None) for key in ("model", "hardware", "network_gbps")})
    halves = {name: half_a_unit(printed.get(name, value)) for name, value in _leaves(held)}
    return Figures(
        cold=_round(held.pop("cold"), "cold"),
        warm=_round(held.pop("warm"), "warm"),
        model=model,
        hardware=hardware,
        halves={name: half for name, half in halves.items() if half and name.rpartition(".")[2] not in _COUNTED},
        **_numbers(held, Figures, "", skip=("cold", "warm", "model", "hardware", "halves", "measured")),
    )


_COUNTED = {"requests", "failed", "concurrency", "cached_tokens", "server_prompt_tokens", "server_output_tokens"}
"""Counted, not measured: no digit of them was rounded away."""


def _leaves(mapping: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        elif not (above and key in ("prompt_tokens", "output_tokens")):  # totals of a side are counted
            yield f"{above}{key}", value


def half_a_unit(value: object) -> float:
    """Half a unit of the last digit of a number as it was written; 0 where it is no number.

    >>> half_a_unit("14.50"), half_a_unit(14.5), half_a_unit(1200), half_a_unit("7.0e10")
    (0.005, 0.05, 0.5, 500000000.0)
    """
    try:
        exponent = Decimal(str(value).strip().replace("_", "")).as_tuple().exponent
    except InvalidOperation:
        return 0.0
    return 0.5 * 10.0**exponent if isinstance(exponent, int) and -300 < exponent < 300 else 0.0


def machine_from_mapping(mapping: Mapping[str, Any]) -> tuple[Geometry, Hardware]:
    """Model and hardware of the keys `model`, `hardware` and `network_gbps`.

    Raises:
        PlanError: as for `figures_from_mapping`.
    """
    network_gbps = _number("network_gbps", mapping.get("network_gbps"), float)
    hardware = {"network_gbps": network_gbps, **(mapping.get("hardware") or {})}
    return _model(mapping.get("model") or {}), _plain(Hardware, hardware, "hardware")


def _round(mapping: Mapping[str, Any], where: str) -> RoundFigures:
    held = dict(mapping)
    latencies = {name: held.pop(name, {}) for name in ("ttft_ms", "tpot_ms", "e2e_ms")}
    return RoundFigures(
        ttft_ms=_plain(Distribution, latencies["ttft_ms"], f"{where}.ttft_ms"),
        tpot_ms=_plain(Distribution, latencies["tpot_ms"], f"{where}.tpot_ms"),
        e2e_ms=_plain(Distribution, latencies["e2e_ms"], f"{where}.e2e_ms"),
        **_numbers(held, RoundFigures, where, skip=tuple(latencies)),
    )


def _model(mapping: Mapping[str, Any]) -> Geometry:
    held = dict(mapping)
    config, kv_dtype = held.pop("config", None), held.pop("kv_dtype", None)
    given = _numbers(held, Geometry, "model", skip=("doubts", "least_weight_bytes"))
    if given.get("weight_bytes") is not None:
        given["least_weight_bytes"] = given["weight_bytes"]
    if given.get("kv_bytes_per_token") is not None:  # whose word is whole: no window of the file shortens it
        given = {"window_tokens": None, "window_kv_bytes_per_token": None} | given
        if given.get("parameters") is not None:
            given["doubts"] = ()
    if config is None:
        return Geometry(**given)
    if not isinstance(config, Mapping):
        raise PlanError(f"model.config: {config!r} was not read; give the path of a Hugging Face config.json")
    read = geometry_of(config, kv_dtype_bytes=kv_dtype_bytes(kv_dtype))
    return Geometry(**({one.name: getattr(read, one.name) for one in fields(Geometry)} | given))


def _plain(kind: type[Value], mapping: Any, where: str) -> Value:
    if not isinstance(mapping, Mapping):
        raise PlanError(f"{where}: {mapping!r} is no mapping")
    return kind(**_numbers(mapping, kind, where))


def _numbers(mapping: Mapping[str, Any], kind: type[Any], where: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    known = {one.name: one for one in fields(kind) if one.name not in skip}
    read = {}
    for key, value in mapping.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise PlanError(f"{name}: unknown; known here are {', '.join(known)}")
        whole = str(known[key].type).startswith("int")
        read[key] = _number(name, value, int if whole else float)
    return read


def _number(where: str, value: Any, kind: type[int] | type[float]) -> Any:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0 or (kind is int and number % 1):
        raise PlanError(
            f"{where}: {value!r}; {'a whole number' if kind is int else 'a number'} of at least 0 is needed"
        )
    return kind(number)
