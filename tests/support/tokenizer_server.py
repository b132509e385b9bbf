"""A server whose tokenizer is known word by word, and what it was asked."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web

from pytest_mooncake.records import Engine, KVGeometry, StackView
from pytest_mooncake.workload.tokens.server_tokenizer import ServerTokenizer

Answer = Callable[[dict[str, Any]], object]


def one_token_a_word(body: dict[str, Any]) -> dict[str, Any]:
    """A server with BOS, a chat template of seven tokens, and words that cost one token, or three if they are long."""
    text = body["messages"][0]["content"] if "messages" in body else body["prompt"]
    ids = [100 + zlib.crc32(word.encode()) % 50_000 for word in text.split() for _ in range(3 if len(word) > 8 else 1)]
    around = [1] * 7 if "messages" in body else [1]
    return {"count": len(ids) + len(around), "tokens": [*around, *ids], "max_model_len": 4096}


@contextlib.asynccontextmanager
async def serving(
    answer: Answer, *, status: int = 200, chat: bool = False
) -> AsyncIterator[tuple[ServerTokenizer, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    async def tokenize(request: web.Request) -> web.Response:
        asked.append(await request.json())
        found = answer(asked[-1])
        if isinstance(found, str):
            return web.Response(text=found, status=status)
        return web.json_response(found, status=status)

    app = web.Application()
    app.add_routes([web.post("/tokenize", tokenize)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        yield ServerTokenizer(session=session, url=url, model="m", chat=chat), asked
    await runner.cleanup()


def view_of(url: str) -> StackView:
    return StackView(
        name="test",
        provisioned=False,
        engines=(Engine(url=url),),
        model="m",
        max_model_len=4096,
        kv=KVGeometry(bytes_per_token=1),
    )
