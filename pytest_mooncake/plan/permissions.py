"""What a run may do to whom: judged by the resolved plan, whichever option or file it came from."""

from __future__ import annotations

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import Plan, StackPlan
from pytest_mooncake.plan.sources.endpoints import check_store_url, check_url

__all__ = ["check_permissions", "checked_stack", "has_own_store"]


def has_own_store(stack: StackPlan) -> bool:
    """Whether the store is started with the stack, so that nobody else's keys can lie in it."""
    return stack.kind != "attached" and stack.store_url is None


def check_permissions(plan: Plan) -> None:
    """Refuse what was not permitted, and what would be left undone in silence.

    Raises:
        UsageError: the run would fill a store that is somebody else's too, or start or keep what it does not start.
    """
    stack = plan.stack
    if plan.steady and not has_own_store(stack) and plan.allow_clear != "everything":
        raise UsageError(
            "--mooncake-steady fills the store, so that it evicts whatever lies there: where it was not started here, "
            "give --mooncake-allow-clear twice as well"
        )
    if plan.keep_stack and stack.kind == "attached":
        raise UsageError(
            f"--mooncake-keep-stack concerns a stack started here; with {_named(stack)} nothing is started"
        )
    if plan.keep_stack and stack.store_url is not None:
        raise UsageError(
            f"--mooncake-keep-stack: engines that were started against {stack.store_url} stop with the run"
        )
    if plan.sessions > 1 and not has_own_store(stack):
        raise UsageError(
            f"--mooncake-sessions {plan.sessions} starts the stack several times: leave out {_named(stack)}"
        )
    if plan.cold_tax and stack.kind == "attached":
        raise UsageError(
            f"--mooncake-cold-tax starts an engine without the connector; with {_named(stack)} nothing is started"
        )


def _named(stack: StackPlan) -> str:
    """What named a stack or store that runs: the option, or a stack's file."""
    if stack.store_url is not None:
        return f"the running store {stack.store_url}"
    return "--mooncake-url" if stack.name == "attached" else f"the attached stack {stack.name!r}"


def checked_stack(stack: StackPlan) -> StackPlan:
    """A stack as its file describes it, held to what is asked of the options that say the same.

    Raises:
        UsageError: an address is none, or carries a password; a running store is named for engines that cannot join.
    """
    where = f"stack {stack.name!r}:"
    if stack.kind == "attached" and not stack.urls:
        raise UsageError(f"{where} kind attached needs urls, the addresses of its engines")
    for url in stack.urls:
        check_url(f"{where} urls", url)
    for key, given in (("master_url", stack.master_url), ("metadata_url", stack.metadata_url)):
        if given is not None:
            check_url(f"{where} {key}", given)
    if stack.store_url is None:
        return stack
    if stack.kind != "local":
        raise UsageError(f"{where} store_url: only a local stack's engines can join a running store")
    check_store_url(f"{where} store_url", stack.store_url)
    return stack.model_copy(update={"store_url": stack.store_url.rstrip("/"), "isolate": "never"})
