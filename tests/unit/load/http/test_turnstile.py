"""What the turnstile lets through between two looks at the sockets, in which order, and that it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pytest_mooncake.load.http.turnstile import A_TURN, OTHERS_EVERY, Turnstile


class Turns:
    """A loop's turns, counted as its sockets would see them, and what was done in each."""

    def __init__(self) -> None:
        self.turn = 0
        self.done: list[tuple[int, str]] = []
        asyncio.get_running_loop().call_soon(self._count)

    def _count(self) -> None:
        self.turn += 1
        if self.turn < 10_000:
            asyncio.get_running_loop().call_soon(self._count)

    def work(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append((self.turn, name))

    async def come(self, turnstile: Turnstile, name: str, *, priority: bool) -> None:
        await turnstile.wait_turn(priority=priority)
        self.done.append((self.turn, name))

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.done]

    def in_one_turn(self) -> int:
        turns = [turn for turn, _ in self.done]
        return max(map(turns.count, turns))


async def turned(turns: Turns, count: int) -> None:
    for _ in range(10_000):
        if len(turns.done) >= count:
            return
        await asyncio.sleep(0)


async def test_who_comes_when_nobody_waits_is_through_at_once() -> None:
    turnstile, turns = Turnstile(), Turns()
    await turns.come(turnstile, "a", priority=True)
    for _ in range(3):
        await asyncio.sleep(0)
    before = turns.turn
    await turns.come(turnstile, "b", priority=False)
    assert turns.turn == before


async def test_a_turn_lets_only_so_many_through_and_all_in_order() -> None:
    turnstile, turns = Turnstile(), Turns()
    tasks = [asyncio.create_task(turns.come(turnstile, str(place), priority=True)) for place in range(5 * A_TURN)]
    await asyncio.gather(*tasks)
    assert turns.names == [str(place) for place in range(5 * A_TURN)]
    assert turns.in_one_turn() <= A_TURN + 1, "the first of all is through before the first turn"


async def test_work_is_done_in_turns_too() -> None:
    turnstile, turns = Turnstile(), Turns()
    for place in range(3 * A_TURN):
        turnstile.schedule(turns.work(str(place)), priority=False)
    assert turns.done == [], "not where it was handed in: other bytes may wait to be stamped"
    await turned(turns, 3 * A_TURN)
    assert turns.names == [str(place) for place in range(3 * A_TURN)]
    assert turns.in_one_turn() == A_TURN


async def test_who_hurries_goes_first_but_not_for_ever() -> None:
    turnstile, turns = Turnstile(), Turns()
    count = 2 * A_TURN * OTHERS_EVERY
    turnstile.schedule(turns.work("patient"), priority=False)
    for _ in range(count):
        turnstile.schedule(turns.work("priority"), priority=True)
    await turned(turns, count + 1)
    assert turns.names.index("patient") == A_TURN * (OTHERS_EVERY - 1)


async def test_who_was_cancelled_while_waiting_holds_nobody_up() -> None:
    turnstile, turns = Turnstile(), Turns()
    tasks = [asyncio.create_task(turns.come(turnstile, name, priority=True)) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert turns.names == ["a", "c"]


async def test_work_that_raises_ends_nothing() -> None:
    turnstile, turns = Turnstile(), Turns()
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context.get("exception")))
    turnstile.schedule(lambda: [][0], priority=True)
    turnstile.schedule(turns.work("next"), priority=False)
    await turned(turns, 1)
    assert turns.names == ["next"]
    assert isinstance(said[0], IndexError)
