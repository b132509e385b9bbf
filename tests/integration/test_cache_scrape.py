"""Scraping real sockets on loopback: a failure is a value, bounded in time and size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry, Counter, generate_latest

from pytest_mooncake.analysis.evidence.counters.sources import TIMED_OUT
from pytest_mooncake.cache import scrape as scrape_module
from pytest_mooncake.cache.scrape import Source, scrape

MASTER_TEXT = "# TYPE mem_cache_hit_nums_ counter\nmem_cache_hit_nums_ 7\nmaster_key_count 3\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _master(_: web.Request) -> web.Response:
    return web.Response(text=MASTER_TEXT)


async def _engine(_: web.Request) -> web.Response:
    registry = CollectorRegistry()
    Counter("vllm:prompt_tokens", "t", ["engine"], registry=registry).labels("0").inc(16_384)
    return web.Response(body=generate_latest(registry) + b"process_start_time_seconds 1.75e+09\n")


async def _slow(_: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response(text=MASTER_TEXT)


async def _denied(_: web.Request) -> web.Response:
    return web.Response(status=404, text="not here")


async def _moved(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"location": "http://192.0.2.1/"})


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="<html><body>Sign in</body></html>", content_type="text/html")


async def _huge(_: web.Request) -> web.Response:
    return web.Response(body=b"# padding\n" * 1000)


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"vllm:a 1\n")
        await asyncio.sleep(0.01)


HANDLERS: dict[str, Handler] = {
    "master": _master,
    "engine": _engine,
    "slow": _slow,
    "denied": _denied,
    "moved": _moved,
    "page": _page,
    "huge": _huge,
    "endless": _endless,
}


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    app = web.Application()
    for name, handler in HANDLERS.items():
        app.router.add_get(f"/{name}", handler)
    running = TestServer(app, host="127.0.0.1")
    async with running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


async def test_every_source_is_read_in_order_with_its_time_and_start(
    server: TestServer, session: aiohttp.ClientSession
) -> None:
    sources = tuple(
        Source(name=n, url=str(server.make_url(p))) for n, p in [("engine:0", "engine"), ("master", "master")]
    )
    ticks = count(1)
    engine, master = await scrape(session, sources, clock=lambda: next(ticks))

    assert (engine.source, engine.started_s, engine.error) == ("engine:0", 1.75e9, None)
    assert engine.samples['vllm:prompt_tokens_total{engine="0"}'] == 16_384
    assert master.samples == {"mem_cache_hit_nums_": 7, "master_key_count": 3}
    assert {engine.at_ns, master.at_ns} == {1, 2}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("denied", "HTTP 404 instead of metrics"),
        ("moved", "HTTP 302 instead of metrics"),
        ("page", "is this a /metrics address of the stack?"),
        ("huge", "it sends an answer larger than 0.00476837 MiB"),
    ],
)
async def test_an_answer_that_is_no_metrics_is_one_line_of_error(
    server: TestServer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.setattr(scrape_module, "MAX_BYTES", 5000)
    (seen,) = await scrape(session, (Source(name="master", url=str(server.make_url(path))),))

    assert seen.samples == {}
    assert seen.error is not None
    assert words in seen.error
    assert "\n" not in seen.error


@pytest.mark.parametrize("path", ["slow", "endless"])
async def test_a_source_that_does_not_finish_is_left_after_the_limit_and_spoils_no_other(
    server: TestServer, session: aiohttp.ClientSession, path: str
) -> None:
    sources = tuple(Source(name=p, url=str(server.make_url(p))) for p in (path, "master"))
    started = time.monotonic()
    late, master = await scrape(session, sources, timeout_s=0.2)

    assert time.monotonic() - started < 10, "bounded, however busy the machine"
    assert (late.error or "").startswith(f"{TIMED_OUT} 0.2 s")
    assert master.error is None


async def test_a_port_where_nobody_listens_is_one_line_of_error(
    unused_tcp_port: int, session: aiohttp.ClientSession
) -> None:
    (seen,) = await scrape(session, (Source(name="master", url=f"http://127.0.0.1:{unused_tcp_port}/metrics"),))

    assert seen.error is not None
    assert str(unused_tcp_port) in seen.error
    assert not seen.error.startswith(TIMED_OUT)


async def test_a_url_that_is_none_is_one_line_of_error(session: aiohttp.ClientSession) -> None:
    (seen,) = await scrape(session, (Source(name="master", url="not a url"),))

    assert seen.error is not None
