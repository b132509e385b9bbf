"""Runs the client's event loop in a thread of its own, so that the caller's thread, loop and signals stay its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["new_event_loop", "run_in_thread"]

T = TypeVar("T")

_WAIT_S = 0.1
"""The caller's thread handles signals between two waits only."""

_CANCEL_S = 10.0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A uvloop where it is installed (half the CPU a chunk), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _Job(Generic[T]):
    """One coroutine on its own loop in its own thread, and what came of it."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]], on_thread_start: Callable[[], None] | None) -> None:
        self._make = make
        self._on_thread_start = on_thread_start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None
        self._started = threading.Event()
        self.ended = threading.Event()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="mooncake-load", daemon=True)

    def _run(self) -> None:
        try:
            if self._on_thread_start is not None:
                self._on_thread_start()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                self._results.append(runner.run(self._main()))
        except BaseException as error:  # everything that ended the thread is raised again in the caller's
            self._error = error
        finally:
            self._started.set()
            self.ended.set()

    async def _main(self) -> T:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._make())
        self._started.set()
        return await self._task

    def cancel(self) -> None:
        """Cancel the coroutine and wait until it has cleaned up (at most 10 s)."""
        if self.thread.ident is None:
            return
        self._started.wait(_CANCEL_S)
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        # Not `join`: one that a signal interrupts (Python 3.11) takes the thread for ended from then on.
        self.ended.wait(_CANCEL_S)

    def result(self) -> T:
        """What the coroutine returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]


def run_in_thread(
    coro_factory: Callable[[], Coroutine[Any, Any, T]], *, on_thread_start: Callable[[], None] | None = None
) -> T:
    """Run a coroutine on its own loop in its own thread and return its result.

    Args:
        coro_factory: Called inside the thread's loop.
        on_thread_start: Called first of all in the thread, before it has a loop: the place to enter a network
            namespace. Threads and processes started from there inherit it.

    Raises:
        BaseException: What the coroutine or `on_thread_start` raised. On `KeyboardInterrupt` (or whatever else a
            signal handler raises here) the coroutine is cancelled, its clean-up awaited, and the exception goes on.
    """
    job = _Job(coro_factory, on_thread_start)
    try:
        job.thread.start()
        while not job.ended.wait(_WAIT_S):
            pass
    except BaseException:
        job.cancel()
        raise
    job.thread.join()
    return job.result()
