"""Stacks that outlive the run that started them: `pytest-mooncake stack up|status|down` and `--mooncake-keep-stack`.

There is at most one a user. A state file in the user's cache directory says what runs and which process (the warden)
ends it; that process is known by id and start time, so that no stranger with a recycled id is ever signalled.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mooncake.errors import StackError
from pytest_mooncake.journal.values import view_of
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.stack.local.assembly import prove_again
from pytest_mooncake.stack.local.host.paths import cache_dir
from pytest_mooncake.stack.local.provision import start_stack
from pytest_mooncake.stack.process import birth, supervised

__all__ = ["down", "status", "up"]

SCHEMA = 1
END_S = 15.0
TICK_S = 0.05
_NOT_COMPARED = frozenset({"name", "description", "isolate", "ready_timeout_s"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentStack:
    """What the state file says."""

    plan: Mapping[str, Any]
    view: StackView
    pid: int
    birth: str

    @property
    def alive(self) -> bool:
        """Whether the very process that was recorded still runs."""
        return birth(self.pid) == self.birth

    @property
    def ended(self) -> tuple[str, ...]:
        """Components that are gone."""
        pids: Mapping[str, int] = self.view.details.get("pids", {})
        return tuple(name for name, pid in pids.items() if birth(pid) is None)


def up(plan: StackPlan, progress: Callable[[str], None]) -> StackView:
    """Return the kept stack, proven anew, or start one.

    Raises:
        StackError: One with other settings is up, or it cannot be started.
    """
    with _locked(progress):
        if (found := _read()) and found.alive:
            if found.plan != _comparable(plan) or not _runs_with(found, plan.engine.extra_env):
                raise StackError("a kept stack with other settings is up; end it first: pytest-mooncake stack down")
            if _still_good(found, plan, progress):
                return found.view
            _end(found)
        return _start(plan, progress)


def status() -> StackView | None:
    """The kept stack, None when there is none; `details["ended"]` names components that have died."""
    found = _read()
    if found is None or not found.alive:
        return None
    return dataclasses.replace(found.view, details={**found.view.details, "ended": found.ended})


def down() -> bool:
    """End the kept stack and all it left; False when there was none."""
    with _locked(lambda _: None):
        found = _read()
        if found is None:
            return False
        was_alive = found.alive
        _end(found)
        return was_alive


def _start(plan: StackPlan, progress: Callable[[str], None]) -> StackView:
    """Start a stack that can be reached from outside pytest too, hence without a network namespace."""
    log_dir = cache_dir() / "kept"
    shutil.rmtree(log_dir, ignore_errors=True)
    with supervised(isolate=False) as supervisor:
        view = start_stack(plan, supervisor, log_dir=log_dir, progress=progress)
        state = {
            "schema": SCHEMA,
            "plan": _comparable(plan),
            "view": dataclasses.asdict(view),
            "pid": supervisor.pid,
            "birth": birth(supervisor.pid),
        }
        fresh = _state_file().with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=1))
        fresh.rename(_state_file())
        supervisor.detach()
    return view


def _still_good(found: PersistentStack, plan: StackPlan, progress: Callable[[str], None]) -> bool:
    if found.ended:
        progress(f"the kept stack lost {', '.join(found.ended)}; starting it anew")
        return False
    try:
        prove_again(plan, found.view, progress)
    except StackError as error:
        progress(f"the kept stack does not work any more ({error}); starting it anew")
        return False
    return True


def _end(found: PersistentStack) -> None:
    """Let the warden end its stack; by force when it does not: its children die with it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + END_S
        if found.alive:
            os.kill(found.pid, number)
        while found.alive and time.monotonic() < deadline:
            time.sleep(TICK_S)
    if run_dir := found.view.details.get("run_dir"):
        shutil.rmtree(run_dir, ignore_errors=True)
    _state_file().unlink(missing_ok=True)


def _comparable(plan: StackPlan) -> dict[str, Any]:
    return plan.model_dump(mode="json", exclude=set(_NOT_COMPARED))


def _runs_with(found: PersistentStack, variables: Mapping[str, str]) -> bool:
    """Whether the engines have these variables. Their values are on no record: the engines themselves are asked."""
    import psutil

    pids: Mapping[str, int] = found.view.details.get("pids", {})
    for pid in (pid for name, pid in pids.items() if name.startswith("vllm-")) if variables else ():
        try:
            environ = psutil.Process(pid).environ()
        except psutil.Error:
            continue  # it is gone, which is noticed next
        if any(environ.get(name) != value for name, value in variables.items()):
            return False
    return True


def _state_file() -> Path:
    return cache_dir() / "kept-stack.json"


def _read() -> PersistentStack | None:
    """What the state file says; None when there is none or it is of another version."""
    try:
        state = json.loads(_state_file().read_text())
    except (OSError, ValueError):
        return None
    if state.get("schema") != SCHEMA:
        return None
    return PersistentStack(plan=state["plan"], view=view_of(state["view"]), pid=state["pid"], birth=state["birth"])


@contextmanager
def _locked(progress: Callable[[str], None]) -> Iterator[None]:
    """One at a time: two runs must not both start the kept stack."""
    fd = os.open(cache_dir() / "kept-stack.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that is starting or ending the kept stack")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
