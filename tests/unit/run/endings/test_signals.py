"""Signals end a run once, never what is being written, and never later than the clock allows."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pytest_mooncake.run.endings import signals
from pytest_mooncake.run.endings.signals import handled, held

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set when the clock ran out, instead of the end of this process."""
    event = threading.Event()
    monkeypatch.setattr(signals, "_end_now", event.set)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
    yield event
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_run_as_ctrl_c_does(number: signal.Signals) -> None:
    with handled(), pytest.raises(KeyboardInterrupt):
        send(number)


@pytest.mark.parametrize("number", ENDING)
def test_what_is_held_is_finished_before_the_signal_ends_the_run(number: signal.Signals) -> None:
    finished = []

    def work() -> None:
        with held():
            send(number)
            finished.append("report")

    with handled(), pytest.raises(KeyboardInterrupt):
        work()
    assert finished == ["report"]


@pytest.mark.parametrize("number", ENDING)
def test_a_second_signal_changes_nothing_while_the_first_is_being_obeyed(number: signal.Signals) -> None:
    written = []
    with handled():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        send(number)
        with held():
            send(number)
            written.append("report")
        send(number)
    assert written == ["report"]


def test_held_blocks_in_each_other_end_with_the_outermost() -> None:
    order = []

    def work() -> None:
        with held():
            with held():
                send(signal.SIGTERM)
                order.append("inner")
            order.append("outer")

    with handled(), pytest.raises(KeyboardInterrupt):
        work()
    assert order == ["inner", "outer"]


def test_an_error_in_what_is_held_is_not_hidden_by_the_signal() -> None:
    def fail() -> None:
        send(signal.SIGTERM)
        raise ValueError("broken")

    with handled(), pytest.raises(ValueError, match="broken"), held():
        fail()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_process_ends_when_the_clock_runs_out(
    number: signal.Signals, ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "LIMIT_S", 0.01)

    def work() -> None:
        with held():
            send(number)
            assert ended.wait(10)

    with handled(), pytest.raises(KeyboardInterrupt):
        work()


def test_one_ctrl_c_starts_no_clock_and_two_do(ended: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[float] = []

    class Clock(threading.Timer):
        def __init__(self, interval: float, function: object) -> None:
            clocks.append(interval)
            super().__init__(interval, ended.set)

    monkeypatch.setattr(threading, "Timer", Clock)
    with handled():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert clocks == []
        send(signal.SIGINT)
        send(signal.SIGINT)
    assert clocks == [signals.LIMIT_S]
    assert signals.LIMIT_S < 20
    assert not ended.is_set(), "what was to end has ended"


def test_handlers_are_given_back_and_an_ignored_signal_stays_ignored() -> None:
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with handled():
            send(signal.SIGHUP)
            with handled():
                assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before[signal.SIGHUP])


def test_outside_the_main_thread_nothing_is_changed() -> None:
    seen = []

    def look() -> None:
        with handled(), held():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
