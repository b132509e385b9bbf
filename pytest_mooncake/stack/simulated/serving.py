"""Wiring: engines, store and their HTTP surfaces, listening on loopback for as long as a context lasts."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from pytest_mooncake import __version__
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.simulated.admin import MasterApi
from pytest_mooncake.stack.simulated.engine.api import EngineApi
from pytest_mooncake.stack.simulated.engine.protocol import ServedModel
from pytest_mooncake.stack.simulated.engine.scheduler import SimulatedEngine
from pytest_mooncake.stack.simulated.engine.tokenizer import Vocabulary
from pytest_mooncake.stack.simulated.faults import parse_faults
from pytest_mooncake.stack.simulated.geometry import bytes_per_token, served_name
from pytest_mooncake.stack.simulated.store import SimulatedStore, StoreShape

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Ports of a simulated stack, and the tasks that must never end by themselves."""

    engine_ports: tuple[int, ...]
    master_port: int
    workers: tuple[asyncio.Task[None], ...]

    @property
    def engine_urls(self) -> tuple[str, ...]:
        """Base URLs of the engines."""
        return tuple(f"http://{LOOPBACK}:{port}" for port in self.engine_ports)

    @property
    def master_url(self) -> str:
        """Base URL of the master's admin port."""
        return f"http://{LOOPBACK}:{self.master_port}"


@asynccontextmanager
async def serving(plan: StackPlan, *, port: int = 0, master_port: int = 0) -> AsyncIterator[Listening]:
    """Serve the simulated stack of `plan` in this event loop.

    Args:
        plan: stack plan of kind `simulated`; its `simulated.faults` are obeyed.
        port: port of the first engine, the others follow; 0 takes free ones.
        master_port: port of the master; 0 takes a free one.

    Raises:
        UsageError: a fault is unknown.
        OSError: a port is taken.
    """
    faults = parse_faults(plan.simulated.faults)
    shape = StoreShape(
        nodes=plan.store.nodes,
        segment_bytes=plan.store.segment_bytes,
        object_bytes=plan.connector.chunk_tokens * bytes_per_token(plan),
        lease_ttl_s=plan.store.lease_ttl_ms * 1e-3,
    )
    store = SimulatedStore(shape, faults, time.monotonic)
    served = ServedModel(
        name=served_name(plan), max_model_len=plan.engine.max_model_len, vocabulary=Vocabulary(plan.model.vocab)
    )
    kv = {"bytes_per_token": bytes_per_token(plan), "chunk_tokens": plan.connector.chunk_tokens}
    engines = [SimulatedEngine(plan, store, faults, index) for index in range(plan.engine.count)]
    async with AsyncExitStack() as stack:
        ports = []
        for place, engine in enumerate(engines):
            api = EngineApi(engine, served, faults, kv=kv, version=f"{__version__}+simulated")
            ports.append(await _listen(stack, api.application(), port + place if port else 0))
        master = await _listen(stack, MasterApi(store, faults).application(), master_port)
        workers = tuple(asyncio.create_task(engine.run()) for engine in engines)
        stack.push_async_callback(_cancel, workers)
        yield Listening(engine_ports=tuple(ports), master_port=master, workers=workers)


async def _listen(stack: AsyncExitStack, app: web.Application, port: int) -> int:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    stack.callback(listener.close)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    await web.SockSite(runner, listener).start()
    return int(listener.getsockname()[1])


async def _cancel(workers: tuple[asyncio.Task[None], ...]) -> None:
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
