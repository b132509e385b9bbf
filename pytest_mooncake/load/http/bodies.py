"""Request bodies, encoded before they are needed: making a 16k-token prompt must never delay a send."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import orjson

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.load.spec import RoundSpec
from pytest_mooncake.records import PlannedRequest

__all__ = ["Bodies", "Prepared"]

AHEAD_BYTES = 256 * 2**20
"""Encoded bodies held at any time. What fits is encoded before the round; the rest while it runs, one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A planned request without its prompt: only the encoded body is kept."""

    index: int
    engine: int
    prompt_tokens: int | None
    output_tokens: int
    offset_ns: int | None
    after: int | None = None
    think_ns: int = 0
    keeps_ids: bool = False
    """Whether the answer's token ids are wanted, for later prompts."""
    body: bytes
    """Empty while the prompt holds an answer that was not given yet."""


class Bodies:
    """A round's requests in order, encoded up to `ahead_bytes` ahead of the one taken last.

    `places` says which of the round's requests are sent from here, in what order; all of them unless given. A share of
    a round holds few bodies, `first` at the beginning and one later, since what it holds no other worker can send.
    """

    def __init__(
        self,
        spec: RoundSpec,
        *,
        places: Iterable[int] | None = None,
        first: int | None = None,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> None:
        self._spec = spec
        # Asked once: what a protocol asks of an object costs more than a request's body.
        self._outlines = spec.requests if isinstance(spec.requests, Outlines) else None
        self._places = iter(range(len(spec.requests)) if places is None else places)
        self._most_held = len(spec.requests) if first is None else first
        self._held_later = len(spec.requests) if first is None else 1
        self._room = asyncio.Event()
        self._ahead_bytes = ahead_bytes
        self._ready: deque[Prepared] = deque()
        self._ready_bytes = 0
        self._exhausted = False

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
        self._most_held = self._held_later
        while not self._exhausted:
            self._room.clear()
            if not self._encode_next() and not self._exhausted:
                await self._room.wait()
            await asyncio.sleep(0)

    def take(self) -> Prepared | None:
        """Hand out the next request, `None` when all are gone."""
        if not self._ready:
            self._encode_next()
        if not self._ready:
            return None
        self._room.set()
        prepared = self._ready.popleft()
        self._ready_bytes -= len(prepared.body)
        return prepared

    def _encode_next(self) -> bool:
        is_full = len(self._ready) >= self._most_held or self._ready_bytes >= self._ahead_bytes
        if self._exhausted or (self._ready and is_full):
            return False
        place = next(self._places, None)
        if place is None:
            self._exhausted = True
            return False
        prepared = self._prepare(place)
        self._ready.append(prepared)
        self._ready_bytes += len(prepared.body)
        return True

    def _prepare(self, place: int) -> Prepared:
        outline = None if self._outlines is None else self._outlines.outline(place)
        planned = self._spec.requests[place] if outline is None else outline
        return _prepare(planned, self._spec, encoded=outline is None)

    def complete(self, prepared: Prepared) -> Prepared:
        """The request with its body, once the answers in its prompt are there."""
        if prepared.body:
            return prepared
        return _prepare(self._spec.requests[prepared.index], self._spec)


@runtime_checkable
class Outlines(Protocol):
    """Requests of which some cannot be made before others were answered."""

    def outline(self, index: int) -> PlannedRequest | None:
        """Request `index` without its prompt where that holds an answer to come; None where all of it is known."""


def _prepare(planned: PlannedRequest, spec: RoundSpec, *, encoded: bool = True) -> Prepared:
    return Prepared(
        index=planned.index,
        engine=planned.engine,
        prompt_tokens=planned.prompt_tokens,
        output_tokens=planned.output_tokens,
        offset_ns=planned.offset_ns,
        after=planned.after,
        think_ns=planned.think_ns,
        keeps_ids=bool(planned.body.get("return_token_ids")),
        body=orjson.dumps(_body_of(planned, spec)) if encoded else b"",
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
    return body | dict(spec.body) | _prompt_of(planned, spec) | dict(planned.body)


def _prompt_of(planned: PlannedRequest, spec: RoundSpec) -> dict[str, Any]:
    if spec.api == "completions":
        return {"prompt": planned.prompt}
    if not isinstance(planned.prompt, str):
        raise WorkloadError(
            f"request {planned.index}: token ids cannot be sent to /v1/chat/completions; "
            "use --mooncake-api completions or a workload of text prompts"
        )
    return {"messages": [{"role": "user", "content": planned.prompt}]}
