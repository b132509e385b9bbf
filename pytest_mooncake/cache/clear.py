"""Really clearing caches, which a run does only when told to: list first, refuse, act, verify.

Cold rounds need none of this: their prompts are new. Where it is asked for, each layer is cleared by its own call, and
each call has a trap: vLLM refuses with HTTP 200, LMCache skips its remote tier with "success", Mooncake takes
everybody's keys. So success is never what the reply says, but what can be observed afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_mooncake.border.http import NoReply, send
from pytest_mooncake.border.values import parse_json
from pytest_mooncake.cache.keys import IsOwn, KeyCensus, count_keys
from pytest_mooncake.errors import BorderError, EndpointError, UsageError
from pytest_mooncake.records import StackView

if TYPE_CHECKING:
    import aiohttp

__all__ = ["ClearPlan", "Cleared", "Layer", "Permission", "clear", "plan_clear"]

TIMEOUT_S = 30.0
MAX_BYTES = 2**20
ATTEMPTS = 5
PAUSE_S = 0.5


class Layer(StrEnum):
    """Where KV cache lies, nearest first."""

    ENGINE = "engine"
    CONNECTOR = "connector"
    STORE = "store"


class Permission(StrEnum):
    """What `--mooncake-allow-clear` permits: nothing, our own keys only, or (told twice) everybody's too."""

    NONE = "none"
    OWN = "own"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPlan:
    """What would go. `keys` is None where no store is known or its layer is not asked for."""

    layers: tuple[Layer, ...]
    engine_urls: tuple[str, ...]
    connector_urls: tuple[str, ...]
    master_url: str | None
    keys: KeyCensus | None

    def lines(self) -> tuple[str, ...]:
        """Say what would go, a line a layer."""
        workers = len(self.connector_urls)
        said = {
            Layer.ENGINE: f"the prefix cache of {_count(len(self.engine_urls), 'engine')}",
            Layer.CONNECTOR: f"LMCache's CPU memory on {_count(workers, 'worker')} (not its remote tier)"
            if workers
            else "",
            Layer.STORE: "" if self.keys is None else _keys_line(self.keys),
        }
        return tuple(said[layer] for layer in self.layers if said[layer])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _keys_line(keys: KeyCensus) -> str:
    line = f"all {keys.own + keys.foreign:,} keys of the Mooncake store, {keys.foreign:,} of them not from this run"
    return line + (f" (such as {keys.foreign_sample[0][:80]!r})" if keys.foreign_sample else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What became of one target: whether it is seen to be empty, and what was observed."""

    layer: Layer
    target: str
    verified: bool
    detail: str


async def plan_clear(
    session: aiohttp.ClientSession,
    view: StackView,
    *,
    layers: tuple[Layer, ...] = tuple(Layer),
    is_own: IsOwn,
    connector_urls: tuple[str, ...] = (),
) -> ClearPlan:
    """List what clearing these layers would remove; changes nothing.

    Args:
        session: client session.
        view: the stack.
        layers: what is to be cleared.
        is_own: whether this run made a key.
        connector_urls: LMCache's internal API of every worker (7000 + rank), where it is on.

    Raises:
        EndpointError: the store's keys cannot be listed.
    """
    store = view.store if Layer.STORE in layers else None
    return ClearPlan(
        layers=layers,
        engine_urls=tuple(engine.url for engine in view.engines),
        connector_urls=connector_urls,
        master_url=store.master_url if store else None,
        keys=await count_keys(session, store, is_own) if store else None,
    )


def check_permission(plan: ClearPlan, permission: Permission) -> None:
    """Refuse what was not permitted.

    Raises:
        UsageError: clearing was not allowed at all, or the store holds keys that this run did not make and that was
            not allowed twice.
    """
    if permission is Permission.NONE:
        raise UsageError(f"--mooncake-allow-clear would be needed to clear {'; '.join(plan.lines())}")
    if plan.keys is not None and plan.keys.foreign and permission is not Permission.EVERYTHING:
        raise UsageError(
            f"clearing the store would remove {_keys_line(plan.keys)}: give --mooncake-allow-clear twice if all of "
            "them may go, or leave it: cold rounds need no clearing"
        )


async def clear(
    session: aiohttp.ClientSession,
    view: StackView,
    plan: ClearPlan,
    permission: Permission,
    *,
    is_own: IsOwn,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[Cleared, ...]:
    """Clear what the plan lists, nearest layer first, and look whether it went.

    The store's keys are listed again immediately before: what somebody else stored since the plan was made counts.

    Raises:
        UsageError: not permitted (see `check_permission`); nothing was touched then.
        EndpointError: the store's keys cannot be listed.
    """
    check_permission(plan, permission)
    now = plan
    if Layer.STORE in plan.layers and plan.keys is not None:
        now = await plan_clear(session, view, layers=plan.layers, is_own=is_own, connector_urls=plan.connector_urls)
        check_permission(now, permission)
    done: list[Cleared] = []
    if Layer.ENGINE in now.layers:
        done += [await _reset_engine(session, url, sleep) for url in now.engine_urls]
    if Layer.CONNECTOR in now.layers:
        done += [await _clear_connector(session, url, sleep) for url in now.connector_urls]
    if Layer.STORE in now.layers and view.store is not None:
        done.append(await _empty_store(session, view, sleep))
    return tuple(done)


async def _reset_engine(session: aiohttp.ClientSession, url: str, sleep: Callable[[float], Awaitable[None]]) -> Cleared:
    """Ask until vLLM says that it did. Since 0.26 the body tells, before that nothing did."""
    status, body = 0, ""
    for attempt in range(ATTEMPTS):
        if attempt:
            await sleep(PAUSE_S)
        status, body = await _call(session, "POST", f"{url}/reset_prefix_cache")
        if status != 200 or _reply(body).get("success") is not False:
            break
    verified, detail = _engine_outcome(status, body)
    return Cleared(layer=Layer.ENGINE, target=url, verified=verified, detail=detail)


def _engine_outcome(status: int, body: str) -> tuple[bool, str]:
    if status == 404:
        return False, "no /reset_prefix_cache: start vLLM with VLLM_SERVER_DEV_MODE=1"
    if status != 200:
        return False, _refusal(status, body)
    success = _reply(body).get("success")
    if success is None:
        return False, "this vLLM does not say whether it reset its prefix cache (0.26 does)"
    return success is True, "reset" if success else f"refused {ATTEMPTS} times: blocks are still held by requests"


def _refusal(status: int, body: str) -> str:
    return f"HTTP {status}: {' '.join(body[:100].split())}" if status else body


async def _clear_connector(
    session: aiohttp.ClientSession, url: str, sleep: Callable[[float], Awaitable[None]]
) -> Cleared:
    """Clear until there is nothing more to remove: chunks in use are pinned, and stay the first time."""
    removed_tokens = 0
    for attempt in range(ATTEMPTS):
        if attempt:
            await sleep(PAUSE_S)
        status, body = await _call(session, "DELETE", f"{url.rstrip('/')}/cache/clear?locations=LocalCPUBackend")
        removed = _reply(body).get("num_removed")
        if status != 200 or type(removed) is not int or removed < 0:
            detail = _refusal(status, body) if status != 200 else "it does not say how much it removed"
            return Cleared(layer=Layer.CONNECTOR, target=url, verified=False, detail=detail)
        removed_tokens += removed
        if removed == 0:
            break
    left = "" if removed == 0 else "; there was still something to remove at the end"
    return Cleared(
        layer=Layer.CONNECTOR, target=url, verified=removed == 0, detail=f"{removed_tokens:,} tokens removed{left}"
    )


async def _empty_store(
    session: aiohttp.ClientSession, view: StackView, sleep: Callable[[float], Awaitable[None]]
) -> Cleared:
    """Remove everything, and count what is left. Objects still being written stay, so it is tried again."""
    if view.store is None:
        raise EndpointError("no Mooncake master is known: name its admin port by --mooncake-master URL")
    url = view.store.master_url.rstrip("/")
    left, status, body = -1, 0, ""
    for attempt in range(ATTEMPTS):
        if attempt:
            await sleep(PAUSE_S)
        status, body = await _call(session, "POST", f"{url}/api/v1/remove_all?force=true")
        if status != 200:
            break
        left = (await count_keys(session, view.store)).foreign
        if left == 0:
            break
    missing = "no /api/v1/remove_all: mooncake_master 0.3.12.post1 has it"
    detail = f"{left:,} keys left" if status == 200 else missing if status == 404 else _refusal(status, body)
    return Cleared(layer=Layer.STORE, target=url, verified=left == 0, detail=detail)


async def _call(session: aiohttp.ClientSession, method: str, url: str) -> tuple[int, str]:
    """Return status and body; status 0 and the reason when there was no answer."""
    try:
        reply = await send(session, method, url, timeout_s=TIMEOUT_S, most_bytes=MAX_BYTES)
    except NoReply as problem:
        return 0, f"no answer: it {problem.why}"
    return reply.status, reply.text


def _reply(body: str) -> dict[str, object]:
    try:
        value = parse_json(body, "the answer")
    except BorderError:
        return {}
    return value if isinstance(value, dict) else {}
