"""Several processes behind one address, over real sockets: seen when attaching, and while counters are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pytest_mooncake.analysis.evidence.counters.deltas import deltas
from pytest_mooncake.analysis.evidence.counters.sources import is_gone
from pytest_mooncake.border.pinning import PinnedResolver, addresses_of
from pytest_mooncake.cache.scrape import LOOKS, Reader, Source, sources_of
from pytest_mooncake.errors import EndpointError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.stack import replicas
from pytest_mooncake.stack.attach import attach
from tests.support.faulty_server import FaultyServer, Received, Reply, error, hang_up, redirect, silent, text

LONG_AGO_S = time.time() - 1_000


@dataclass
class Process:
    """An engine that shows its counters; without `started_s` it does not tell when it began."""

    started_s: float | None = LONG_AGO_S
    served: int = 0

    def shown(self) -> Reply:
        lines = [
            f'vllm:request_success_total{{engine="0",finished_reason="length"}} {self.served}',
            f'vllm:prompt_tokens_total{{engine="0"}} {2048 * self.served}',
            f'vllm:request_prefill_time_seconds_sum{{engine="0"}} {0.3 * self.served}',
        ]
        lines += [] if self.started_s is None else [f"process_start_time_seconds {self.started_s}"]
        return text("\n".join(lines) + "\n")


@dataclass
class Balancer:
    """Deals connections out to processes, in turn. `answers` are given first, one a request."""

    processes: list[Process]
    answers: list[Reply] = field(default_factory=list)
    asked: int = 0

    def __call__(self, _: Received) -> Reply:
        self.asked += 1
        if self.answers:
            return self.answers.pop(0)
        return self.processes[self.asked % len(self.processes)].shown()


def two() -> list[Process]:
    return [Process(served=5), Process(started_s=LONG_AGO_S - 500, served=7)]


async def look(url: str, *metrics: str, urls: Sequence[str] = ()) -> StackView:
    plan = StackPlan(name="attached", kind="attached", urls=(url, *urls), metrics_urls=metrics)
    return await attach(plan, environ={}, progress=lambda _: None, timeout_s=5)


@pytest.fixture
async def fresh() -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose every request takes a connection of its own."""
    connector = aiohttp.TCPConnector(force_close=True, resolver=PinnedResolver(), use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


def reader(session: aiohttp.ClientSession, url: str, *, identified: bool = False) -> Reader:
    return Reader(
        session, (Source(name="engine:0", url=f"{url}/metrics"),), identified=identified, timeout_s=1, pause=no_pause
    )


# --- attaching --------------------------------------------------------------------------------------------------------


async def test_one_process_behind_an_address_is_read_however_often_it_is_looked_at() -> None:
    balancer = Balancer([Process(served=3)])
    async with FaultyServer({"/metrics": balancer}) as server:
        view = await look(server.url)
    assert view.engines[0].metrics_urls == (f"{server.url}/metrics",)
    assert view.notes == ()
    assert balancer.asked > 5


@pytest.mark.parametrize(
    "processes",
    [
        two(),
        [*two(), Process(started_s=LONG_AGO_S + 0.2)],
        [Process(None, served=5), Process(None, served=9)],
        [Process(served=5), Process(None, served=9)],
    ],
)
async def test_several_processes_behind_an_address_are_not_read_as_one_engine(processes: list[Process]) -> None:
    async with FaultyServer({"/metrics": Balancer(processes)}) as server:
        view = await look(server.url)
    assert view.engines[0].metrics_url is None
    assert view.details["replicas"] == {f"{server.url}/metrics": len(processes)}
    assert view.notes == (
        f"{len(processes)} processes answer at {server.url}/metrics in turn, so no engine counters are read there: "
        "name each one's metrics with --mooncake-metrics.",
    )


async def test_a_replica_that_shows_no_counters_is_another_process_too() -> None:
    async with FaultyServer({"/metrics": [Process().shown(), Process().shown(), error(404), Process().shown()]}) as one:
        view = await look(one.url)
    assert view.engines[0].metrics_url is None
    assert len(view.details["replicas"]) == 1


@pytest.mark.parametrize("answer", [error(503), error(429), hang_up(), error(500)])
@pytest.mark.parametrize("before", [0, 2, 5])
async def test_one_bad_moment_while_attaching_hides_no_counters(answer: Reply, before: int) -> None:
    shown = Process(served=3).shown()
    async with FaultyServer({"/metrics": [*[shown] * before, answer, shown]}) as server:
        usual = await look(server.url)
        server.routes["/metrics"] = [answer, shown]
        named = await look(server.url, server.url)
    assert usual.engines[0].metrics_urls == named.engines[0].metrics_urls == (f"{server.url}/metrics",)
    assert usual.notes == named.notes == ()


async def test_processes_that_are_named_are_all_read_and_each_once() -> None:
    first, second = two()
    async with (
        FaultyServer({"/metrics": Balancer([first, second])}) as gateway,
        FaultyServer({"/metrics": Balancer([first])}) as one,
        FaultyServer({"/metrics": Balancer([second])}) as other,
        FaultyServer({"/metrics": Balancer([first])}) as again,
    ):
        view = await look(gateway.url, one.url, other.url, f"{gateway.url}={again.url}", one.url)
    assert view.engines[0].metrics_urls == (f"{one.url}/metrics", f"{other.url}/metrics")
    assert view.engines[0].metrics_url == f"{one.url}/metrics"
    assert view.notes == (f"{again.url}/metrics and {one.url}/metrics show one process: it is read once.",)
    assert [source.name for source in sources_of(view)] == ["engine:0", "engine:0.1"]


async def test_a_named_address_with_several_processes_is_no_better_than_the_usual_one() -> None:
    async with FaultyServer() as gateway, FaultyServer({"/metrics": Balancer(two())}) as service:
        view = await look(gateway.url, service.url)
    assert view.engines[0].metrics_urls == ()
    assert view.details["replicas"] == {f"{service.url}/metrics": 2}


async def test_one_engine_that_has_two_addresses_is_read_once() -> None:
    process = Process(served=4)
    async with FaultyServer({"/metrics": Balancer([process])}) as one, FaultyServer(
        {"/metrics": Balancer([process])}
    ) as other:  # fmt: skip
        view = await look(one.url, urls=(other.url,))
    assert [engine.metrics_urls for engine in view.engines] == [(f"{one.url}/metrics",)] * 2
    assert [source.name for source in sources_of(view)] == ["engine:0"]
    assert view.notes == (f"{other.url}/metrics and {one.url}/metrics show one process: it is read once.",)


async def test_counters_are_not_read_where_that_is_asked() -> None:
    balancer = Balancer([Process()])
    async with FaultyServer({"/metrics": balancer}) as server:
        view = await look(server.url, "none")
    assert balancer.asked == 0
    assert view.engines[0].metrics_url is None
    assert view.notes == ("The engines' counters are not read, as asked (--mooncake-metrics none).",)
    assert view.details["metrics"] == "none"


async def test_a_named_address_that_shows_none_is_one_line() -> None:
    async with FaultyServer({"/metrics": Process().shown()}) as good, FaultyServer() as bad:
        with pytest.raises(EndpointError, match="does --mooncake-metrics name an engine's metrics address"):
            await look(good.url, good.url, bad.url)


# --- a host name of several addresses ---------------------------------------------------------------------------------


@dataclass
class Pods:
    """Processes that listen at one port of several addresses, as those of a headless service do."""

    port: int
    hosts: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.hosts.append(request.headers["Host"])
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        started_s = LONG_AGO_S + int(address.rpartition(".")[2])
        return web.Response(body=(Process(started_s, served=2).shown()).steps[0])


@pytest.fixture
async def pods(unused_tcp_port: int) -> AsyncIterator[Pods]:
    service = Pods(unused_tcp_port)
    app = web.Application()
    app.router.add_get("/metrics", service.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        await web.TCPSite(runner, address, service.port).start()
    yield service
    await runner.cleanup()


async def test_every_address_of_a_host_name_is_read_by_the_name_it_was_given(
    pods: Pods, fresh: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(host: str, _: int) -> tuple[str, ...]:
        return ("127.0.0.1", "127.0.0.2", "127.0.0.3") if host == "pods.example" else (host,)

    monkeypatch.setattr(replicas, "addresses_of", resolved)
    url = f"http://pods.example:{pods.port}/metrics"
    async with FaultyServer() as gateway:
        view = await look(gateway.url, url)
    scrapes = await Reader(fresh, sources_of(view), identified=False)()

    assert view.engines[0].metrics_urls == tuple(f"{url}#127.0.0.{n}" for n in (1, 2, 3))
    assert [scrape.source for scrape in scrapes] == ["engine:0", "engine:0.1", "engine:0.2"]
    assert [scrape.started_s for scrape in scrapes] == [LONG_AGO_S + n for n in (1, 2, 3)]
    assert set(pods.hosts) == {f"pods.example:{pods.port}"}


async def test_a_process_that_has_addresses_of_both_families_is_one() -> None:
    assert await addresses_of("127.0.0.1", 80) == ("127.0.0.1",)
    assert len(await addresses_of("localhost", 80)) == 1


# --- reading again and again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        error(503),
        error(401),
        error(404),
        text("<html>busy</html>", content_type="text/html"),
        text(""),
        text("up 1\n"),
        hang_up(),
        silent(),
        redirect("http://192.0.2.1/"),
        Reply(headers=(("Content-Length", "5000"),), steps=(b"vllm:a 1\n",)),
    ],
)
async def test_a_source_that_fails_once_is_asked_once_more(fresh: aiohttp.ClientSession, answer: Reply) -> None:
    balancer = Balancer([Process(served=3)], [answer])
    async with FaultyServer({"/metrics": balancer}) as server:
        (seen,) = await reader(fresh, server.url)()
    assert seen.error is None
    assert seen.started_s == pytest.approx(LONG_AGO_S)
    assert balancer.asked == 2


async def test_a_source_that_goes_on_failing_is_asked_once_a_time_until_it_answers(
    fresh: aiohttp.ClientSession,
) -> None:
    balancer = Balancer([Process()], [error(503)] * 4)
    async with FaultyServer({"/metrics": balancer}) as server:
        read = reader(fresh, server.url)
        errors = [(await read())[0].error for _ in range(4)]
    assert [bool(one) for one in errors] == [True, True, True, False]
    assert "HTTP 503 instead of metrics" in str(errors[0])
    assert not is_gone(str(errors[0]))
    assert balancer.asked == 2 + 1 + 1 + 1


async def test_a_port_where_nobody_listens_any_more_is_told_from_one_that_answers_wrongly(
    fresh: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    (seen,) = await reader(fresh, f"http://127.0.0.1:{unused_tcp_port}")()

    assert is_gone(str(seen.error))


@pytest.mark.parametrize("processes", [two(), [Process(None, served=5), Process(None, served=9)]])
async def test_replicas_that_appear_later_are_noticed_and_their_counters_not_trusted_again(
    fresh: aiohttp.ClientSession, processes: list[Process]
) -> None:
    balancer = Balancer(processes[:1])
    async with FaultyServer({"/metrics": balancer}) as server:
        read = reader(fresh, server.url)
        (alone,) = await read()
        balancer.processes = processes
        late = [(await read())[0] for _ in range(3)]
        asked = balancer.asked
        await read()
    assert alone.error is None
    assert late[-1].processes == 2
    assert "2 processes answer at" in str(late[-1].error)
    assert balancer.asked == asked, "once is enough"
    assert deltas((alone,), (late[-1],)).restarted == ()


async def test_a_replica_that_is_started_during_the_run_is_no_restart(fresh: aiohttp.ClientSession) -> None:
    old = Process(served=50)
    balancer = Balancer([old])
    async with FaultyServer({"/metrics": balancer}) as server:
        read = reader(fresh, server.url)
        before = await read()
        balancer.processes = [old, Process(started_s=time.time() + 5)]
        looks = [await read() for _ in range(2)]
    assert all(deltas(before, one).restarted == () for one in looks)
    assert looks[-1][0].processes == 2


async def test_one_process_that_is_gone_for_good_and_began_anew_restarted(fresh: aiohttp.ClientSession) -> None:
    balancer = Balancer([Process(served=50)])
    async with FaultyServer({"/metrics": balancer}) as server:
        read = reader(fresh, server.url)
        before = await read()
        balancer.processes = [Process(started_s=time.time() + 5, served=1)]
        after = await read()
    assert after[0].error is None
    assert balancer.asked == 1 + 1 + LOOKS
    assert deltas(before, after).restarted == ("engine:0",)


async def test_a_process_that_comes_back_had_never_gone(fresh: aiohttp.ClientSession) -> None:
    """An address that leads to one process for a while and then to another, as sticky sessions do."""
    first, second = two()
    balancer = Balancer([first])
    async with FaultyServer({"/metrics": balancer}) as server:
        read = reader(fresh, server.url)
        seen = []
        for process in (first, second, first):
            balancer.processes = [process]
            seen.append((await read())[0])
    assert [one.processes for one in seen] == [1, 1, 2]
    assert deltas((seen[0],), (seen[1],)).restarted == ()


async def test_connections_that_are_kept_hide_replicas_and_fresh_ones_show_them(fresh: aiohttp.ClientSession) -> None:
    """What happens where connections are dealt out: whoever keeps one is always answered by the same process."""
    turns = cycle(two())
    owners: dict[object, Process] = {}

    async def answer(request: web.Request) -> web.Response:
        owner = owners.setdefault(request.protocol, next(turns))  # held, so that no other takes its place
        return web.Response(body=owner.shown().steps[0])

    app = web.Application()
    app.router.add_get("/metrics", answer)
    async with TestServer(app, host="127.0.0.1") as server, aiohttp.ClientSession() as kept:
        url = str(server.make_url("")).rstrip("/")
        sticky, open_eyed = reader(kept, url), reader(fresh, url)
        assert {(await sticky())[0].processes for _ in range(4)} == {1}
        assert (await open_eyed())[0].processes == 1
        assert (await open_eyed())[0].processes == 2


async def test_an_answer_without_a_length_that_ends_in_the_middle_of_a_line_is_none(
    fresh: aiohttp.ClientSession,
) -> None:
    cut = Reply(raw=True, steps=(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nvllm:prompt_tokens_total 12",))
    async with FaultyServer({"/metrics": cut}) as server:
        (seen,) = await reader(fresh, server.url)()
    assert "breaks off in the middle of a line" in str(seen.error)
