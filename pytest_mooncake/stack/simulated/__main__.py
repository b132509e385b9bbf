"""The process of a simulated stack: `python -m pytest_mooncake.stack.simulated [--engines N] [--fault NAME]…`.

When every port listens it prints one line of JSON, `{"pid": …, "engines": [port, …], "master": port}`, and serves
until SIGTERM or SIGINT. With `--follow-parent` it also ends when its standard input closes or its parent is gone;
both are watched, because a pipe's other end may be held open by children of the parent, and a parent-death signal
(PR_SET_PDEATHSIG) comes already when the *thread* that started us ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from pytest_mooncake import __version__
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.simulated.admin import MasterApi
from pytest_mooncake.stack.simulated.api import EngineApi
from pytest_mooncake.stack.simulated.engine import SimulatedEngine
from pytest_mooncake.stack.simulated.faults import Faults, fault_names, parse_faults
from pytest_mooncake.stack.simulated.geometry import bytes_per_token, served_name
from pytest_mooncake.stack.simulated.masterstore import SimulatedStore, StoreShape
from pytest_mooncake.stack.simulated.protocol import ServedModel
from pytest_mooncake.stack.simulated.vocabulary import Vocabulary

_PARENT_POLL_S = 0.25
LOOPBACK = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; return its exit code."""
    options = _parse(arguments)
    try:
        plan = _plan(options)
        faults = parse_faults(plan.simulated.faults)
    except (MooncakeError, ValueError) as error:
        print(f"simulated stack: {error}", file=sys.stderr)
        return 4
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:  # slower, and timers are coarser
        runner = asyncio.Runner()
    gc.freeze()
    with runner:
        runner.run(_serve(plan, faults, options))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pytest_mooncake.stack.simulated", description="SIMULATED engines and store")
    parser.add_argument("--plan", default="", metavar="JSON", help="the stack plan; the options below override it")
    parser.add_argument("--engines", type=int, help="number of engines on the one store")
    parser.add_argument("--port", type=int, default=0, help="port of the first engine (default: a free one)")
    parser.add_argument("--master-port", type=int, default=0, help="port of the master (default: a free one)")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:VALUE]", help="one of " + ", ".join(fault_names())
    )
    parser.add_argument(
        "--follow-parent", type=int, metavar="PID", help="end when standard input closes or the parent is not PID"
    )
    return parser.parse_args(arguments)


def _plan(options: argparse.Namespace) -> StackPlan:
    given: dict[str, Any] = {"name": "simulated", "kind": "simulated"}
    if options.plan:
        given = orjson.loads(options.plan)
    if options.engines is not None:
        given["engine"] = {**given.get("engine", {}), "count": options.engines}
    simulated = given.get("simulated", {})
    given["simulated"] = {**simulated, "faults": [*simulated.get("faults", ()), *options.fault]}
    return StackPlan.model_validate(given)


async def _serve(plan: StackPlan, faults: Faults, options: argparse.Namespace) -> None:
    store = _store(plan, faults)
    served = ServedModel(
        name=served_name(plan), max_model_len=plan.engine.max_model_len, vocabulary=Vocabulary(plan.model.vocab)
    )
    engines = [SimulatedEngine(plan, store, faults, index) for index in range(plan.engine.count)]
    ports = []
    for place, engine in enumerate(engines):
        api = EngineApi(engine, served, faults, kv=_kv(plan), version=f"{__version__}+simulated")
        ports.append(await _listen(api.application(), options.port + place if options.port else 0))
    master = await _listen(MasterApi(store, faults).application(), options.master_port)
    stop = _stop_event()
    print(orjson.dumps({"pid": os.getpid(), "engines": ports, "master": master}).decode(), flush=True)
    if options.follow_parent is not None:
        _follow(options.follow_parent, stop)
    workers = [asyncio.create_task(engine.run()) for engine in engines]
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([*workers, stopped], return_when=asyncio.FIRST_COMPLETED)
    for worker in done:
        worker.result()


def _store(plan: StackPlan, faults: Faults) -> SimulatedStore:
    shape = StoreShape(
        nodes=plan.store.nodes,
        segment_bytes=plan.store.segment_bytes,
        object_bytes=plan.connector.chunk_tokens * bytes_per_token(plan),
        lease_ttl_s=plan.store.lease_ttl_ms * 1e-3,
    )
    return SimulatedStore(shape, faults, time.monotonic)


def _kv(plan: StackPlan) -> dict[str, int]:
    return {"bytes_per_token": bytes_per_token(plan), "chunk_tokens": plan.connector.chunk_tokens}


async def _listen(app: web.Application, port: int) -> int:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    await web.SockSite(runner, listener).start()
    return int(listener.getsockname()[1])


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _follow(parent: int, stop: asyncio.Event) -> None:
    """Set `stop` when standard input closes or process `parent` is no longer our parent."""
    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()

    def read() -> None:
        if not os.read(stdin, 1024):
            loop.remove_reader(stdin)
            stop.set()

    def look() -> None:
        if os.getppid() == parent:
            loop.call_later(_PARENT_POLL_S, look)
        else:
            stop.set()

    loop.add_reader(stdin, read)
    look()


if __name__ == "__main__":
    sys.exit(main())
