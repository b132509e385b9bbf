"""The real stack on this machine: vLLM, LMCache and Mooncake as processes of our own.

Nothing is imported here before it is used: the processes of the stack import this package too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mooncake.plan.models import StackPlan
    from pytest_mooncake.records import StackView

__all__ = ["provision_local"]


@contextmanager
def provision_local(
    plan: StackPlan, *, log_dir: Path, progress: Callable[[str], None], keep: bool = False
) -> Iterator[StackView]:
    """Start Mooncake, LMCache and vLLM on this machine; everything is gone when the block ends.

    It is gone too, within 5 s, when this process is killed. The view's `details["netns"]` names the network namespace
    that has to be entered (`stack.namespace.enter`) to reach the stack; None where it can be reached from anywhere.

    Args:
        plan: A stack plan of kind `local`.
        log_dir: Each component's log is kept here (a kept stack's logs lie in the cache directory).
        progress: Gets a line whenever what is waited for changes, and every 5 s.
        keep: Reuse a kept stack with the same plan or start one, and leave it running (`pytest-mooncake stack down`).

    Raises:
        MissingPartError: Something is not installed; the message says the command that installs it.
        StackError: A component died or did not get ready; `details` holds its last useful log lines.
    """
    if keep:
        from pytest_mooncake.stack import persistent

        yield persistent.up(plan, progress)
        return
    from pytest_mooncake.stack.local.provision import start_stack
    from pytest_mooncake.stack.process import supervised

    with supervised(isolate=plan.isolate == "auto") as supervisor:
        yield start_stack(plan, supervisor, log_dir=log_dir, progress=progress)
