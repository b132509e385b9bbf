"""Progress on a terminal is one line that changes; in a log it is a plain line now and then."""

from __future__ import annotations

from pytest_mooncake.run.progress import PLAIN_EVERY_S, WARNING, Console, Quiet, Silent


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def console(*, live: bool, columns: int = 80) -> tuple[list[str], Clock, Console]:
    written: list[str] = []
    clock = Clock()
    return written, clock, Console(written.append, live=live, clock=clock, columns=lambda: columns)


def test_a_live_line_is_wiped_before_the_next_one() -> None:
    written, clock, progress = console(live=True)
    progress.tick("12/30")
    clock.now_s = 1.0
    progress.tick("13/30")
    progress.say("round C0 done")
    assert "".join(written) == "12/30\r     \r13/30\r     \rround C0 done\n"


def test_a_live_line_never_wraps() -> None:
    written, _, progress = console(live=True, columns=20)
    progress.tick("x" * 100)
    assert written == ["x" * 19]


def test_a_live_line_changes_ten_times_a_second_at_most() -> None:
    written, clock, progress = console(live=True)
    for step in range(100):
        clock.now_s = step / 100
        progress.tick(str(step))
    assert len(written) <= 10


def test_a_log_gets_a_plain_line_now_and_then() -> None:
    written, clock, progress = console(live=False)
    progress.tick("waiting")
    clock.now_s = PLAIN_EVERY_S / 2
    progress.tick("still waiting")
    clock.now_s = PLAIN_EVERY_S
    progress.tick("yet waiting")
    assert written == ["  waiting\n", "  yet waiting\n"]


def test_silence_is_silent() -> None:
    Silent().say("x")
    Silent().tick("x")


def test_where_little_is_to_be_said_warnings_are() -> None:
    written: list[str] = []
    quiet = Quiet(written.append)
    quiet.tick("round C0")
    quiet.say("round C0 took 3 s")
    quiet.say(f"{WARNING}nobody knows how much will be stored")
    assert written == ["\nWARNING: nobody knows how much will be stored\n"]
