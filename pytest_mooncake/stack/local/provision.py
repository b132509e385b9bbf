"""From a plan to a running stack's view, and what to say when a part of it has died since."""

from __future__ import annotations

from pathlib import Path

from pytest_mooncake.errors import StackError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.stack.local.assembly import assemble
from pytest_mooncake.stack.local.components import RunningStore
from pytest_mooncake.stack.local.existing_store import require_store
from pytest_mooncake.stack.local.host.logs import useful_lines
from pytest_mooncake.stack.local.readiness import Progress
from pytest_mooncake.stack.local.view import exposure, view_of
from pytest_mooncake.stack.process import Supervisor, birth

__all__ = ["casualties", "start_stack"]


def start_stack(plan: StackPlan, supervisor: Supervisor, *, log_dir: Path, progress: Progress) -> StackView:
    """Start the stack of `plan` under `supervisor` and describe it once it has proven itself.

    Raises:
        MissingPartError: Something is not installed; the message says the command that installs it.
        StackError: A component died or did not get ready; `details` holds its last useful log lines.
        EndpointError: A running store that was named is not there.
    """
    store = RunningStore.of(plan)
    if store is not None:
        progress(f"looking for the store at {store.rpc_address}")
        require_store(store)
    assembled = assemble(plan, supervisor, log_dir=log_dir, progress=progress)
    exposed = exposure(supervisor)
    for sentence in exposed:
        progress(sentence)
    return view_of(assembled, supervisor, exposed)


def casualties(view: StackView) -> tuple[StackError, ...]:
    """One error for every component of a provisioned stack that is no longer running, with its last words.

    A client sees a dead engine as a refused connection; this says which process died, and of what.
    """
    log_dir = Path(view.details.get("log_dir", ""))
    pids = view.details.get("pids", {})
    dead = [name for name, pid in pids.items() if birth(pid) is None]
    return tuple(_casualty(name, log_dir / f"{name}.log") for name in dead)


def _casualty(name: str, log: Path) -> StackError:
    return StackError(f"{name} is no longer running; its log: {log}", useful_lines(log))
