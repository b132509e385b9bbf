"""The faulty server does what it says: other tests stand on it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import aiohttp
import pytest

from tests.support.faulty_server import DONE, FaultyServer, Stream, error, event, stream, text

BODY = {"prompt": [1, 2, 3], "max_tokens": 5, "stream": True}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


async def send(server: FaultyServer, path: str = "/v1/completions", **more: Any) -> list[bytes]:
    """Return what came, one entry for each read."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + path, json={**BODY, **more}) as response,
    ):
        return [part async for part in response.content.iter_any()]


def bodies(parts: list[bytes]) -> list[Any]:
    lines = b"".join(parts).replace(b"\r\n", b"\n").split(b"\n\n")
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


async def test_by_itself_it_answers_rightly_with_counts_that_follow_the_request() -> None:
    async with FaultyServer() as server:
        events = bodies(await send(server, **USAGE))
    assert [one["usage"]["completion_tokens"] for one in events] == [1, 2, 3, 4, 5, 5]
    assert events[-1]["usage"]["prompt_tokens"] == 3
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    assert server.requests_to("/v1/completions")[0].json()["max_tokens"] == 5


async def test_a_chat_has_a_role_only_chunk_unless_told_otherwise() -> None:
    chat = "/v1/chat/completions"
    messages = [{"role": "user", "content": "a b"}]
    async with FaultyServer({chat: [Stream(), Stream(role_s=None)]}) as server:
        first, second = [bodies(await send(server, chat, messages=messages, **USAGE)) for _ in range(2)]
    assert first[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert second[0]["choices"][0]["delta"] == {"content": " t0"}
    assert first[-1]["usage"]["prompt_tokens"] == 2


async def test_events_can_be_cut_joined_and_dressed() -> None:
    async with FaultyServer({"/v1/completions": [Stream(split_at=11), Stream(together=True), Stream()]}) as server:
        cut, joined, plain = [await send(server) for _ in range(3)]
    assert b"".join(cut) == b"".join(joined) == b"".join(plain)
    assert max(map(len, cut)) < 60
    assert len(joined) == 1
    async with FaultyServer({"/v1/completions": Stream(comments=True, line_end=b"\r\n")}) as server:
        dressed = await send(server)
    assert b": ping\r\n\r\n" in b"".join(dressed)
    assert bodies(dressed) == bodies(plain)


async def test_it_breaks_off_hangs_or_reports_an_error_where_told() -> None:
    routes = {
        "/v1/completions": [Stream(disconnect_after=2), Stream(error_after=1), Stream(hang_after=1), Stream(done=False)]
    }
    async with FaultyServer(routes) as server:
        with pytest.raises(aiohttp.ClientPayloadError):
            await send(server)
        failed = bodies(await send(server))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(server), 0.1)
        unended = await send(server)
    assert [("error" in one) for one in failed] == [False, True]
    assert DONE not in b"".join(unended)


async def test_it_can_send_fewer_tokens_than_asked_and_tell_more() -> None:
    lying = Stream(tokens=2, tokens_per_event=2, extra_prompt_tokens=1, extra_output_tokens=3, cached_tokens=None)
    async with FaultyServer({"/v1/completions": lying}) as server:
        events = bodies(await send(server, **USAGE))
    assert [one["choices"][0]["text"] for one in events[:-1]] == [" t0 t1"]
    assert events[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}


async def test_replies_come_in_turn_and_the_last_repeats() -> None:
    async with FaultyServer({"/x": [text("a"), error(500)]}) as server, aiohttp.ClientSession() as session:
        statuses = []
        for _ in range(3):
            async with session.get(f"{server.url}/x?q=1") as response:
                statuses.append(response.status)
    assert statuses == [200, 500, 500]
    assert server.received[0].query == "q=1"


async def test_any_steps_can_be_scripted() -> None:
    async with FaultyServer({"/v1/completions": stream(event({"a": 1}), b"da", b"ta: {}\n\n")}) as server:
        assert b"".join(await send(server)) == b'data: {"a": 1}\n\ndata: {}\n\n'


def test_it_serves_from_a_thread_of_its_own() -> None:
    with FaultyServer({"/x": text("hello")}) as server:
        with urllib.request.urlopen(f"{server.url}/x") as response:
            assert response.read() == b"hello"
        assert server.requests_to("/x")
