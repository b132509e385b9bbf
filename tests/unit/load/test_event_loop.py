"""The loop's own thread: results, errors, hooks and Ctrl-C go through it."""

from __future__ import annotations

import _thread
import asyncio
import sys
import threading

import pytest

from pytest_mooncake.load.event_loop import new_event_loop, run_in_thread


def test_the_result_comes_back_from_another_thread() -> None:
    async def thread_name() -> str:
        return threading.current_thread().name

    assert run_in_thread(thread_name) == "mooncake-load"


def test_an_error_comes_back_as_it_is() -> None:
    async def fail() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        run_in_thread(fail)


def test_the_hook_runs_first_and_in_the_same_thread() -> None:
    seen: list[tuple[str, int]] = []

    async def work() -> None:
        seen.append(("work", threading.get_ident()))

    run_in_thread(work, on_thread_start=lambda: seen.append(("hook", threading.get_ident())))
    assert [name for name, _ in seen] == ["hook", "work"]
    assert seen[0][1] == seen[1][1] != threading.get_ident()


def test_a_hook_that_fails_runs_nothing() -> None:
    ran: list[bool] = []

    async def work() -> None:
        ran.append(True)

    def refuse() -> None:
        raise PermissionError("no such namespace")

    with pytest.raises(PermissionError, match="namespace"):
        run_in_thread(work, on_thread_start=refuse)
    assert ran == []


def test_ctrl_c_cancels_the_work_waits_for_its_clean_up_and_goes_on() -> None:
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            _thread.interrupt_main()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_in_thread(work)
    assert cleaned == [True]
    assert all(thread.name != "mooncake-load" for thread in threading.enumerate())


def test_a_running_loop_of_the_caller_is_left_alone() -> None:
    async def outer() -> int:
        return run_in_thread(inner)

    async def inner() -> int:
        return 3

    assert asyncio.run(outer()) == 3


def test_without_uvloop_the_ordinary_loop_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    try:
        assert type(loop).__module__.startswith("asyncio")
    finally:
        loop.close()
    monkeypatch.undo()
    fast = new_event_loop()
    try:
        assert type(fast).__module__.startswith("uvloop")
    finally:
        fast.close()
