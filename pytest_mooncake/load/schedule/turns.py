"""Turns of conversations: a request that names another in `after` is sent when that one is done and time has passed."""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable

from pytest_mooncake.load.http.bodies import Bodies, Prepared
from pytest_mooncake.load.http.transport import Clock

__all__ = ["Answers", "Turns", "sleep_until"]


@runtime_checkable
class Answers(Protocol):
    """Requests whose later prompts hold the server's answers to earlier ones."""

    def answered(self, index: int, token_ids: tuple[int, ...]) -> None:
        """Take the server's answer to request `index` into later prompts; empty when it gave none."""


class Turns:
    """When the requests ended that others wait for.

    A request that waits was handed out after the one it waits for, which is therefore on its way or over: waiting
    always ends.
    """

    def __init__(self, bodies: Bodies, clock: Clock) -> None:
        self._bodies = bodies
        self._clock = clock
        self._ended_ns: dict[int, int] = {}
        self._waited_for: dict[int, asyncio.Event] = {}

    def note(self, index: int, ended_ns: int) -> None:
        """Request `index` ended, well or not, at `ended_ns`; who waits for it goes on."""
        self._ended_ns[index] = ended_ns
        if index in self._waited_for:
            self._waited_for.pop(index).set()

    async def come(self, prepared: Prepared) -> tuple[Prepared, int]:
        """Wait until it is the turn of `prepared`, whose body is made as soon as all that it holds is known.

        Returns:
            The request with its body, and since when it could be sent; 0 where it waits for nothing.
        """
        if prepared.after is None:
            return prepared, 0
        if prepared.after not in self._ended_ns:
            await self._waited_for.setdefault(prepared.after, asyncio.Event()).wait()
        due_ns = self._ended_ns[prepared.after] + prepared.think_ns
        prepared = self._bodies.complete(prepared)
        await sleep_until(due_ns, self._clock)
        return prepared, due_ns


async def sleep_until(at_ns: int, clock: Clock) -> None:
    """Sleep to an absolute time. Timers have 1 ms resolution and may fire early: never send before the time."""
    while (left_ns := at_ns - clock()) > 0:  # noqa: ASYNC110 - what is waited for is the time itself
        await asyncio.sleep(left_ns / 1e9)
