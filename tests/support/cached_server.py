"""An OpenAI-compatible server with a cache in the engine and one behind it, and a switch for whatever can go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pytest_mooncake.records import Engine, StackView

MODEL = "fake-1"
BLOCK = 16


def _prefixes(tokens: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[:end]) for end in range(size, len(tokens) + 1, size)]


def _found(keys: list[Any], seen: set[Any]) -> int:
    return next((place for place, key in enumerate(keys) if key not in seen), len(keys))


@dataclass
class CachedServer:
    """What it serves and what it gets wrong."""

    chunk: int = 256
    prefix_cache: bool = False
    store_on: bool = True
    tags_in_keys: bool = True
    salt_in_store_keys: bool = False
    shows_metrics: bool = True
    shows_cached: bool = True
    can_reset: bool = True
    wrong_bytes: bool = False
    """Everything that the store serves gets another text, as unlikely as can be."""
    nudge: float = 0.0
    """By how much the store's answers have other log-probabilities, with the same text."""
    alternatives: int = 5
    spread: float = 1.0
    """Nats between one alternative and the next: 0.01 is a flat top."""
    reshape: Callable[[dict[str, Any]], Any] = lambda logprobs: logprobs
    """Changes the `logprobs` of every reply."""
    refuses: frozenset[str] = frozenset()
    """Fields that are answered with 400."""
    fails: Callable[[dict[str, Any], int], int] = lambda _body, _external: 0
    """Status of a request by its body and the tokens the store has of it; 0: it is answered."""
    hangs: bool = False
    """Never answers a request with log-probabilities."""
    foreign_tokens: int = 0
    """Prompt tokens of somebody else's, counted at every scrape."""
    replicas: int = 1
    """Scrapes are dealt out to so many; requests are counted by the first."""
    engines: int = 1
    """Engines behind the address, with one store and a prefix cache each; nobody counts what they do."""
    deals_out: str = "requests"
    """What these take turns at: requests, or connections."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    resets: int = 0
    _scrapes: int = 0
    _stored: set[Any] = field(default_factory=set)
    _local: set[Any] = field(default_factory=set)
    _turns: list[Any] = field(default_factory=list)
    _counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("prompt", "local", "external"), 0.0))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[StackView]:
        """Listen, and say where as the plugin sees it: attached, nothing known of its chunks."""
        app = web.Application()
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/reset_prefix_cache", self._reset)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        metrics = f"{url}/metrics" if self.shows_metrics else None
        try:
            engines = (Engine(url=url, metrics_url=metrics),)
            yield StackView(name="s", provisioned=False, engines=engines, model=MODEL, max_model_len=65_536)
        finally:
            await runner.cleanup()

    async def _reset(self, _request: web.Request) -> web.Response:
        self.resets += 1
        if not self.can_reset:
            return web.Response(status=404)
        self._local.clear()
        return web.json_response({"success": True})

    async def _metrics(self, _request: web.Request) -> web.Response:
        self._scrapes += 1
        self._counts["prompt"] += self.foreign_tokens
        other = self._scrapes % self.replicas != 0
        prompt, local, external = (12_345.0, 0.0, 0.0) if other else self._counts.values()
        sources = {"local_cache_hit": local, "external_kv_transfer": external}
        lines = [f'vllm:prompt_tokens_by_source_total{{source="{name}"}} {value}' for name, value in sources.items()]
        lines += [f"vllm:prompt_tokens_total {prompt}", "vllm:num_requests_running 0", "vllm:num_requests_waiting 0"]
        return web.Response(text="\n".join(lines) + "\n")

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        refused = sorted(self.refuses & set(body))
        if refused:
            return web.json_response({"error": {"message": f"unknown field {refused[0]}"}}, status=400)
        if self.hangs and "logprobs" in body:
            await asyncio.sleep(3600)
        local, external = self._look_up(body, self._engine_of(request))
        status = self.fails(body, external)
        if status:
            return web.json_response({"error": {"message": "boom"}}, status=status)
        tokens = body["prompt"]
        self._counts = {
            "prompt": self._counts["prompt"] + len(tokens),
            "local": self._counts["local"] + local,
            "external": self._counts["external"] + external,
        }
        details = {"prompt_tokens_details": {"cached_tokens": local + external} if self.shows_cached else None}
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": self._logprobs(body, external)}
        reply = {"choices": [choice], "usage": {"prompt_tokens": len(tokens), **details}}
        return web.Response(text=json.dumps(reply), content_type="application/json")  # json writes NaN, orjson null

    def _engine_of(self, request: web.Request) -> int:
        """Whose turn it is."""
        turn = request.transport if self.deals_out == "connections" else len(self._turns)
        if turn not in self._turns:
            self._turns.append(turn)
        return self._turns.index(turn) % self.engines

    def _look_up(self, body: dict[str, Any], engine: int) -> tuple[int, int]:
        """Tokens found here and behind, and both remembered."""
        tokens, salt = body["prompt"], body.get("cache_salt")
        tag = json.dumps(body.get("kv_transfer_params")) if self.tags_in_keys else None
        blocks = [(engine, salt, key) for key in _prefixes(tokens, BLOCK)]
        chunks = [(tag, salt if self.salt_in_store_keys else None, key) for key in _prefixes(tokens, self.chunk)]
        most = len(tokens) - 1
        local = min(_found(blocks, self._local) * BLOCK, most) if self.prefix_cache else 0
        external = max(0, min(_found(chunks, self._stored) * self.chunk, most) - local) if self.store_on else 0
        self._local.update(blocks)
        self._stored.update(chunks)
        return local, external

    def _logprobs(self, body: dict[str, Any], external: int) -> Any:
        name, first = ("z", -0.5) if self.wrong_bytes and external else ("a", -0.5 - (self.nudge if external else 0.0))
        best = {f"{name}{i}": first - i * self.spread for i in range(min(self.alternatives, body["logprobs"]))}
        steps = body["max_tokens"]
        return self.reshape(
            {"tokens": [f"{name}0"] * steps, "token_logprobs": [first] * steps, "top_logprobs": [best] * steps}
        )
