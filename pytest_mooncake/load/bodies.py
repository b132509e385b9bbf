"""Request bodies, encoded before they are needed: making a 16k-token prompt must never delay a send."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.load.spec import RoundSpec
from pytest_mooncake.records import PlannedRequest

__all__ = ["Bodies", "Prepared"]

AHEAD_BYTES = 256 * 2**20
"""Encoded bodies held at any time. What fits is encoded before the round; the rest while it runs, one at a time."""

_REFILL_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A planned request without its prompt: only the encoded body is kept."""

    index: int
    engine: int
    prompt_tokens: int | None
    output_tokens: int
    offset_ns: int | None
    body: bytes


class Bodies:
    """The round's requests in order, encoded up to `ahead_bytes` ahead of the one taken last."""

    def __init__(self, spec: RoundSpec, *, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._spec = spec
        self._ahead_bytes = ahead_bytes
        self._ready: deque[Prepared] = deque()
        self._ready_bytes = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._spec.requests)

    @property
    def has_arrival_times(self) -> bool:
        """Whether the round is an open loop; known once prepared."""
        return bool(self._ready) and self._ready[0].offset_ns is not None

    def prepare(self) -> None:
        """Encode as many bodies as may be held."""
        while self._encode_next():
            pass

    async def keep_ahead(self) -> None:
        """Go on encoding while the round runs. Its cost shows as loop lag, never as a hidden delay of a send."""
        while self._next < len(self):
            if not self._encode_next():
                await asyncio.sleep(_REFILL_S)
            await asyncio.sleep(0)

    def take(self) -> Prepared | None:
        """Hand out the next request, `None` when all are gone."""
        if not self._ready:
            self._encode_next()
        if not self._ready:
            return None
        prepared = self._ready.popleft()
        self._ready_bytes -= len(prepared.body)
        return prepared

    def _encode_next(self) -> bool:
        if self._next >= len(self) or (self._ready and self._ready_bytes >= self._ahead_bytes):
            return False
        planned = self._spec.requests[self._next]
        self._next += 1
        prepared = _prepare(planned, self._spec)
        self._ready.append(prepared)
        self._ready_bytes += len(prepared.body)
        return True


def _prepare(planned: PlannedRequest, spec: RoundSpec) -> Prepared:
    return Prepared(
        index=planned.index,
        engine=planned.engine,
        prompt_tokens=planned.prompt_tokens,
        output_tokens=planned.output_tokens,
        offset_ns=planned.offset_ns,
        body=orjson.dumps(_body_of(planned, spec)),
    )


def _body_of(planned: PlannedRequest, spec: RoundSpec) -> dict[str, Any]:
    options: dict[str, Any] = {"include_usage": True}
    if spec.continuous_usage:
        options["continuous_usage_stats"] = True
    body: dict[str, Any] = {
        "model": spec.model,
        "max_tokens": planned.output_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": options,
    }
    if spec.ignore_eos:
        body |= {"ignore_eos": True, "min_tokens": planned.output_tokens}
    return body | _prompt_of(planned, spec) | dict(planned.body)


def _prompt_of(planned: PlannedRequest, spec: RoundSpec) -> dict[str, Any]:
    if spec.api == "completions":
        return {"prompt": planned.prompt}
    if not isinstance(planned.prompt, str):
        raise WorkloadError(
            f"request {planned.index}: token ids cannot be sent to /v1/chat/completions; "
            "use --mooncake-api completions or a workload of text prompts"
        )
    return {"messages": [{"role": "user", "content": planned.prompt}]}
