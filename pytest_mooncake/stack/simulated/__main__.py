"""The process of a simulated stack: `python -m pytest_mooncake.stack.simulated [--engines N] [--fault NAME]…`.

When every port listens it prints one line of JSON, `{"pid": …, "engines": [port, …], "master": port}`, and serves
until SIGTERM or SIGINT. With `--follow-parent PID` it also ends when its standard input closes or its parent is gone;
both are watched, because a pipe's other end may be held open by children of the parent, and a parent-death signal
(PR_SET_PDEATHSIG) comes already when the *thread* that started us ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.simulated.faults import fault_names
from pytest_mooncake.stack.simulated.serving import serving

_PARENT_POLL_S = 0.25


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; return its exit code: 0 when it was stopped, 4 when it could not start."""
    options = _parse(arguments)
    try:
        plan = _plan(options)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(plan, options))
    except (MooncakeError, OSError, ValueError) as error:
        print(f"simulated stack: {error}", file=sys.stderr)
        return 4
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


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # slower, and its timers are coarser
        return None
    return uvloop.new_event_loop


async def _serve(plan: StackPlan, options: argparse.Namespace) -> None:
    async with serving(plan, port=options.port, master_port=options.master_port) as listening:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if options.follow_parent is not None:
            _follow(options.follow_parent, stop)
        gc.freeze()
        ports = {"pid": os.getpid(), "engines": listening.engine_ports, "master": listening.master_port}
        print(orjson.dumps(ports).decode(), flush=True)
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([*listening.workers, stopped], return_when=asyncio.FIRST_COMPLETED)
        for worker in done:
            worker.result()


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
