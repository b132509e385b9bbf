"""Quiesce watches counters, says what it watched, and never waits beyond its limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_mooncake.cache.quiesce import quiesce
from pytest_mooncake.records import Scrape, Settle
from tests.support.scripted_world import World


class Clockwork:
    """A clock that only sleeping moves, and a world that changes at set times."""

    def __init__(self, world: World, *events: tuple[float, Callable[[], None]]) -> None:
        self.world = world
        self.now_s = 100.0
        self.reads = 0
        self._events = sorted(((100.0 + at, event) for at, event in events), key=lambda pair: pair[0])

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        while self._events and self._events[0][0] <= self.now_s:
            self._events.pop(0)[1]()

    async def read(self) -> tuple[Scrape, ...]:
        self.reads += 1
        return self.world.scrapes()

    async def settle(
        self,
        *,
        expect_keys: int | None = None,
        expect_requests: int | None = None,
        before: tuple[Scrape, ...] = (),
        enough_share: float = 1.0,
        fixed_s: float | None = None,
    ) -> Settle:
        return await quiesce(
            self.read,
            expect_keys=expect_keys,
            expect_requests=expect_requests,
            before=before,
            enough_share=enough_share,
            fixed_s=fixed_s,
            sleep=self.sleep,
            clock=self.clock,
        )

    @property
    def elapsed_s(self) -> float:
        return self.now_s - 100.0


def running(world: World, count: int) -> Callable[[], None]:
    def change() -> None:
        name = next(s for s in world.sources["engine:0"] if s.startswith("vllm:num_requests_running"))
        world.sources["engine:0"][name] = count

    return change


def puts_started(world: World, items: int) -> None:
    world.master["master_batch_put_start_items_total"] += items


def puts_ended(world: World, items: int) -> None:
    world.master["master_batch_put_end_items_total"] += items
    world.master["master_key_count"] += items
    world.master["master_allocated_bytes"] += items


async def test_a_store_at_rest_settles_after_two_looks_half_a_second_apart() -> None:
    world = World()
    before = world.scrapes()
    world.store(12)
    clockwork = Clockwork(world)
    settle = await clockwork.settle(expect_keys=12, before=before)

    assert (settle.settled, settle.seconds) == (True, 0.0)
    assert clockwork.elapsed_s == 0.5
    assert settle.detail == "visible after 0.0 s"
    assert "every put had ended" in settle.how


async def test_it_waits_for_engines_and_for_open_puts_and_tells_when_the_cache_was_visible() -> None:
    world = World()
    before = world.scrapes()
    running(world, 2)()
    puts_started(world, 8)
    clockwork = Clockwork(world, (0.5, running(world, 0)), (1.25, lambda: puts_ended(world, 8)))
    settle = await clockwork.settle(expect_keys=8, before=before)

    assert (settle.settled, settle.seconds) == (True, 1.25)
    assert clockwork.elapsed_s == 1.75


async def test_it_waits_for_keys_whose_puts_have_not_even_been_started() -> None:
    world = World()
    before = world.scrapes()
    world.store(4)
    settle = await Clockwork(world, (3.0, lambda: world.store(4))).settle(expect_keys=8, before=before)

    assert (settle.settled, settle.seconds) == (True, 3.0)


async def test_keys_of_earlier_rounds_do_not_count_as_this_rounds() -> None:
    world = World()
    world.store(100)
    before = world.scrapes()
    settle = await Clockwork(world, (1.0, lambda: world.store(8))).settle(expect_keys=8, before=before)

    assert settle.seconds == 1.0


async def test_dropped_writes_are_given_up_as_soon_as_nothing_moves_any_more() -> None:
    world = World()
    before = world.scrapes()
    world.store(6)
    clockwork = Clockwork(world)
    settle = await clockwork.settle(expect_keys=8, before=before)

    assert not settle.settled
    assert clockwork.elapsed_s == 10.0
    assert settle.detail == "6 of 8 keys in the store, and nothing has moved for 10 s: the others were dropped"


async def test_a_key_that_is_never_put_does_not_hold_up_a_store_that_has_nearly_all_of_them() -> None:
    world = World()
    before = world.scrapes()
    clockwork = Clockwork(world)
    world.store(199)

    settle = await clockwork.settle(expect_keys=200, before=before, enough_share=0.99)

    assert settle.settled
    assert settle.seconds == 0.0
    assert settle.detail == "visible after 0.0 s: 199 of 200 keys in the store, the others were never put"


async def test_puts_that_never_end_are_given_up_at_the_limit() -> None:
    world = World()
    before = world.scrapes()
    puts_started(world, 3)
    clockwork = Clockwork(world)
    settle = await clockwork.settle(expect_keys=0, before=before)

    assert not settle.settled
    assert clockwork.elapsed_s == 30.0
    assert settle.detail == "gave up after 30 s: 3 puts not ended"


async def test_a_store_that_never_stands_still_is_given_up_at_the_limit() -> None:
    world = World()
    before = world.scrapes()
    busy = [(0.25 * i, lambda: world.store(1)) for i in range(200)]
    settle = await Clockwork(world, *busy).settle(expect_keys=0, before=before)

    assert (settle.settled, settle.detail) == (False, "gave up after 30 s: the store's keys and bytes kept changing")


@pytest.mark.parametrize("series", ["master_batch_put_revoke_items_total", "master_put_start_discard_cnt"])
async def test_revoked_and_discarded_puts_are_ended_puts(series: str) -> None:
    world = World()
    before = world.scrapes()
    puts_started(world, 3)
    world.master[series] += 3

    assert (await Clockwork(world).settle(expect_keys=0, before=before)).settled


async def test_a_put_that_failed_to_start_never_has_to_end() -> None:
    world = World()
    before = world.scrapes()
    puts_started(world, 3)
    world.master["master_batch_put_start_failed_items_total"] += 3

    assert (await Clockwork(world).settle(expect_keys=0, before=before)).settled


async def test_a_writer_that_died_long_ago_does_not_keep_a_round_from_settling() -> None:
    world = World()
    puts_started(world, 3)
    before = world.scrapes()

    assert (await Clockwork(world).settle(expect_keys=0, before=before)).settled


async def test_an_unknown_number_of_keys_is_waited_for_a_little_longer() -> None:
    world = World()
    clockwork = Clockwork(world)
    settle = await clockwork.settle(expect_keys=None, before=world.scrapes())

    assert settle.settled
    assert clockwork.elapsed_s == 2.0


async def test_expected_keys_without_a_baseline_are_compared_with_all_keys_and_not_trusted() -> None:
    clockwork = Clockwork(World())

    assert (await clockwork.settle(expect_keys=5)).settled
    assert clockwork.elapsed_s == 2.0


async def test_requests_that_were_not_counted_yet_are_waited_for_but_not_long() -> None:
    world = World()
    before = world.scrapes()
    counted = Clockwork(world, (0.5, lambda: [world.serve(0, 300, "none") for _ in range(4)].clear()))
    never = Clockwork(World())

    assert (await counted.settle(expect_keys=0, expect_requests=4, before=before)).settled
    assert counted.elapsed_s == 1.0
    assert (await never.settle(expect_keys=0, expect_requests=4, before=never.world.scrapes())).settled
    assert never.elapsed_s == 2.0


async def test_without_store_counters_it_waits_until_the_engines_are_idle_plus_five_seconds_and_says_so() -> None:
    world = World(hidden={"master"})
    running(world, 1)()
    clockwork = Clockwork(world, (2.0, running(world, 0)))
    settle = await clockwork.settle(expect_keys=None)

    assert (settle.settled, settle.seconds) == (True, 7.0)
    assert settle.how == "until the engines were idle, plus 5 s: there are no store counters to watch"


async def test_without_any_counters_it_waits_five_seconds_and_says_so() -> None:
    world = World(hidden={"master", "engine:0"})
    settle = await Clockwork(world).settle(expect_keys=None)

    assert (settle.settled, settle.seconds) == (True, 5.0)
    assert settle.how == "5 s by the clock: there are no counters to watch"


async def test_an_engine_that_never_gets_idle_is_given_up_at_the_limit() -> None:
    world = World(hidden={"master"})
    running(world, 3)()
    settle = await Clockwork(world).settle(expect_keys=None)

    assert (settle.settled, settle.detail) == (False, "gave up after 30 s: 3 requests in the engines")


async def test_a_master_that_dies_meanwhile_is_no_longer_waited_for() -> None:
    world = World()
    before = world.scrapes()
    puts_started(world, 3)
    clockwork = Clockwork(world, (1.0, lambda: world.down.update(master="refused")))
    settle = await clockwork.settle(expect_keys=12, before=before)

    assert settle.settled
    assert clockwork.elapsed_s == 6.0
    assert "no store counters" in settle.how


async def test_the_specifications_fixed_pause_reads_no_counters() -> None:
    clockwork = Clockwork(World())
    settle = await clockwork.settle(expect_keys=12, fixed_s=5.0)

    assert settle == Settle(seconds=5.0, settled=True, how="5 s by the clock, as asked")
    assert clockwork.reads == 0
