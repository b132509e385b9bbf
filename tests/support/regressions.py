"""Two deployments side by side in one network namespace, old and new, and what can be wrong with the new one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from aiohttp import ClientSession, ClientTimeout, web

from pytest_mooncake.analysis.regression.versus import Versus
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import StackView
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import conduct, open_stack
from pytest_mooncake.stack.namespace import inside
from tests.support.sabotage import SMALL, Saboteur, plan_of


@contextlib.contextmanager
def old_deployment(tmp_path: Path) -> Iterator[StackView]:
    """A whole stack; while it is open, this thread is inside its network namespace."""
    plan = plan_of(tmp_path)
    with open_stack(plan, tmp_path / "old", Saboteur(plan)) as view, inside(view.details["netns"]):
        yield view


@contextlib.contextmanager
def another_engine(tmp_path: Path, store: dict[str, Any], stack: str = "") -> Iterator[str]:
    """One more engine on a store that runs, set up after `stack`; yields its address."""
    directory = tmp_path / "another"
    directory.mkdir()
    plan = plan_of(directory, stack, **store)
    with open_stack(plan, directory / "logs", Saboteur(plan)) as view:
        yield view.engines[0].url


def store_of(view: StackView) -> dict[str, Any]:
    """The options that name the store of a stack."""
    assert view.store is not None
    return {
        "url": (f"mooncakestore://{view.store.rpc_address}",),
        "master": view.store.master_url,
        "metadata": view.store.metadata_url,
    }


def in_turns(tmp_path: Path, *, new: str, old: str) -> Versus:
    """Measure both in turns, as `--mooncake-url NEW --mooncake-versus OLD` does."""
    options = Options(**{**SMALL, "url": (new,), "versus": old, "trials": "3", "evidence": "timing"})  # type: ignore[arg-type]
    plan = resolve(options, tmp_path)
    with open_stack(plan, tmp_path / "logs", Silent()) as view:
        outcome = conduct(plan, view, tmp_path / "run", Silent())
    assert outcome.report.versus is not None, "\n".join(outcome.judgement.reasons)
    return outcome.report.versus


@dataclass
class Gateway:
    """One address for two engines, in turns: a deployment of which one replica was rolled out wrongly."""

    engines: tuple[str, str]
    url: str = ""

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        chosen = next(self._turn) if request.method == "POST" else self.engines[0]
        async with (
            ClientSession(timeout=ClientTimeout(total=60)) as session,
            session.request(request.method, chosen + request.path, data=await request.read(), headers=_json()) as got,
        ):
            response = web.StreamResponse(status=got.status, headers={"Content-Type": got.content_type})
            await response.prepare(request)
            async for piece in got.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve from a thread, in the namespace of the calling one."""
        self._turn = itertools.cycle(self.engines)
        loop, ready = asyncio.new_event_loop(), threading.Event()

        async def start() -> web.AppRunner:
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", "/v1/{rest:.*}", self._pass_on)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            return runner

        def serve() -> None:
            runner = loop.run_until_complete(start())
            ready.set()
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert ready.wait(20)
            yield self.url
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(20)


def _json() -> dict[str, str]:
    return {"Content-Type": "application/json"}


def throttle(node_pid: int, rate: str) -> None:
    """Let no more than `rate` (as `tc` writes it) pass to and from a storage node: all ports that it listens on."""
    connections = psutil.Process(node_pid).net_connections("tcp")
    ports = {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    assert ports
    ends = [f"ip {end} {port} 0xffff" for port in sorted(ports) for end in ("sport", "dport")]
    for command in (
        "qdisc add dev lo root handle 1: htb",
        f"class add dev lo parent 1: classid 1:1 htb rate {rate} burst 64k",
        *(f"filter add dev lo parent 1: protocol ip u32 match {end} flowid 1:1" for end in ends),
    ):
        subprocess.run(["tc", *command.split()], check=True)
