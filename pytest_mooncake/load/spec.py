"""What one round is to do and what came of it, as plain values (no aiohttp, so that anybody may import them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_mooncake.border.redaction import Redactor, secrets_of_headers
from pytest_mooncake.records import ClientHealth, Engine, Kind, Phase, PlannedRequest

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Timeouts

__all__ = ["Api", "LagSample", "RoundResult", "RoundSpec", "Stamping"]

Api = Literal["completions", "chat"]
Stamping = Literal["arrival", "read"]
"""Where reads are stamped: on arrival in the protocol, or (aiohttp of an unknown shape) when the reader got them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSpec:
    """One pass over the workload, ready to be sent.

    `requests` may make its items in `__getitem__`; each is asked for once and in order, ahead of its time. All items
    have `offset_ns` (open loop, ascending) or none has (closed loop, `concurrency` needed). In an open loop
    `concurrency` is a cap, `None` for none. `headers` may hold secrets: they are sent and never shown.
    `continuous_usage` asks for `usage` on every chunk; turn it off for servers that refuse the option.
    """

    round: int
    kind: Kind
    phase: Phase
    requests: Sequence[PlannedRequest]
    concurrency: int | None
    timeouts: Timeouts
    engines: tuple[Engine, ...]
    model: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict)
    """Fields that every request's body carries; a request's own ones win."""
    api: Api = "completions"
    ignore_eos: bool = True
    continuous_usage: bool = True
    redactor: Redactor = field(init=False, repr=False, compare=False)
    """Takes what is secret of `headers` out of whatever a server says."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "redactor", secrets_of_headers(self.headers))
        if not self.requests:
            raise ValueError("a round needs at least one request")
        if not self.engines:
            raise ValueError("a round needs at least one engine")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"concurrency must be positive, got {self.concurrency}")

    @property
    def is_chained(self) -> bool:
        """Whether some requests wait for the end of others: then one process must send them all."""
        return bool(getattr(self.requests, "is_chained", False))


@dataclass(frozen=True, slots=True, kw_only=True)
class LagSample:
    """The event loop came back `lag_ns` later than asked, at `at_ns`: what arrived meanwhile was stamped late."""

    at_ns: int
    lag_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """What a round came to beside its request records.

    `started_ns` is the first send, `ended_ns` the last token (where nothing was sent or received: begin and end of
    the attempt). `tainted` are the indexes of requests of which a token arrived while the loop lagged
    (`health.TAINT_NS`). `connections_opened` counts those opened after the round had begun.
    """

    started_ns: int
    ended_ns: int
    health: ClientHealth
    cut_short: str | None = None
    tainted: tuple[int, ...] = ()
    stamping: Stamping = "arrival"
    connections_opened: int = 0
