"""Starting a simulated stack in a process of its own, and stopping it whatever happens."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mooncake.border.child_environment import inherited
from pytest_mooncake.errors import StackError
from pytest_mooncake.records import Engine, KVGeometry, StackView, Store
from pytest_mooncake.stack.log_dir import own_log_dir

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import StackPlan

SIMULATED_NOTE = "SIMULATED: no model ran and nothing was cached; these figures mean nothing about a real stack."
_LOG_LINES = 8
_STOP_S = 3.0


@contextmanager
def provision_simulated(plan: StackPlan, *, log_dir: Path, progress: Callable[[str], None]) -> Iterator[StackView]:
    """Run a simulated stack for as long as the context lasts.

    Args:
        plan: stack plan of kind `simulated`.
        log_dir: where `simulated.log` (standard error of the process) is written.
        progress: called with one line for each thing that is waited for.

    Yields:
        The stack as everybody else sees it, with `simulated` set and `SIMULATED_NOTE` among its notes.

    Raises:
        StackError: the process did not become ready within `plan.ready_timeout_s`; holds its last log lines.
    """
    log = own_log_dir(log_dir) / "simulated.log"
    progress("starting the SIMULATED stack")
    started = time.monotonic()
    with log.open("xb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            [sys.executable, "-m", "pytest_mooncake.stack.simulated", *_arguments(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop it when we are done
            env=_environment(),
        )
    try:
        ports = _ports(process, plan.ready_timeout_s, log)
        yield _view(plan, ports, ready_s=time.monotonic() - started)
    finally:
        _stop(process)


def _arguments(plan: StackPlan) -> list[str]:
    return ["--follow-parent", str(os.getpid()), "--plan", plan.model_dump_json(include=_PASSED_ON)]


# Secrets have no business in another process's arguments, not even by the name of their variable.
_PASSED_ON = {"name", "kind", "model", "model_name", "store", "connector", "engine", "simulated"}


def _environment() -> dict[str, str]:
    """Return what it needs of our environment; this package is importable also where it was not installed."""
    environment = {**inherited(), "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).resolve().parents[3]
    if str(root) != sysconfig.get_path("purelib"):
        paths = [path for path in (environment.get("PYTHONPATH"), str(root)) if path]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _ports(process: subprocess.Popen[bytes], timeout_s: float, log: Path) -> dict[str, Any]:
    """Return what the process said when it was ready."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        answered = selector.select(timeout_s)
    line = process.stdout.readline() if answered else b""
    if line:
        ports: dict[str, Any] = json.loads(line)
        return ports
    state = "ended" if answered else f"said nothing for {timeout_s:g} s"
    raise StackError(f"the simulated stack {state} before it was ready; its log is {log}", _last_lines(log))


def _last_lines(log: Path) -> tuple[str, ...]:
    return tuple(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, then ask, then kill; return when it is gone."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    for insist in (process.terminate, process.kill):
        try:
            process.wait(_STOP_S)
            return
        except subprocess.TimeoutExpired:
            insist()
    process.wait()


def _view(plan: StackPlan, ports: dict[str, Any], *, ready_s: float) -> StackView:
    from pytest_mooncake import __version__
    from pytest_mooncake.stack.simulated.geometry import bytes_per_token, served_name

    urls = [f"http://127.0.0.1:{port}" for port in ports["engines"]]
    master_url = f"http://127.0.0.1:{ports['master']}"
    components = {f"engine-{place}": f"simulated engine on {url[7:]}" for place, url in enumerate(urls)}
    return StackView(
        name=plan.name,
        provisioned=True,
        simulated=True,
        engines=tuple(Engine(url=url, metrics_url=f"{url}/metrics") for url in urls),
        model=served_name(plan),
        max_model_len=plan.engine.max_model_len,
        store=None if plan.connector.kind == "none" else Store(master_url=master_url),
        kv=KVGeometry(bytes_per_token=bytes_per_token(plan), chunk_tokens=plan.connector.chunk_tokens),
        versions={"pytest-mooncake": __version__},
        components={**components, "master": f"simulated master on {master_url[7:]}"},
        notes=(SIMULATED_NOTE,),
        ready_s=ready_s,
        details={"pid": ports["pid"], "faults": list(plan.simulated.faults)},
    )
