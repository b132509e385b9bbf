"""The lines of a log that say why a component failed."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.stack.local.host.logs import LINES, WIDTH, port_taken, tail, useful_lines


def write(tmp_path: Path, text: str) -> Path:
    log = tmp_path / "component.log"
    log.write_text(text)
    return log


def test_a_traceback_is_reduced_to_its_last_line(tmp_path: Path) -> None:
    log = write(
        tmp_path,
        "INFO starting\nTraceback (most recent call last):\n"
        '  File "/venv/vllm/engine.py", line 3, in raise_error\n    raise RuntimeError("no")\n'
        "RuntimeError: the KV cache does not fit\nINFO bye\n",
    )
    assert useful_lines(log) == ("RuntimeError: the KV cache does not fit",)


def test_errors_of_the_c_plus_plus_parts_are_found(tmp_path: Path) -> None:
    log = write(tmp_path, "I1124 12:00:00 started\nE1124 12:00:01 master.cpp:3] no route\nI1124 12:00:02 bye\n")
    assert useful_lines(log) == ("E1124 12:00:01 master.cpp:3] no route",)


def test_a_cause_that_was_logged_long_before_the_end_is_said_first(tmp_path: Path) -> None:
    log = write(
        tmp_path,
        "E1125 00:49:52.935082 29846 real_client.cpp:865] Failed to create client after 20 retries\n"
        + "LMCache INFO: Mooncake store setup completed successfully\n"
        + "".join(f"ERROR 11-25 {kind}: EngineCore encountered an issue\n" for kind in "abcdefghijkl"),
    )
    told = useful_lines(log)
    assert "master address or port are wrong" in told[0]
    assert len(told) == LINES
    assert told[-1].endswith("EngineCore encountered an issue")


def test_a_degraded_connector_is_named(tmp_path: Path) -> None:
    log = write(tmp_path, "LMCache ERROR: System will operate in degraded mode (recompute)\n")
    assert useful_lines(log)[0].startswith("likely cause: the connector runs in degraded mode")


def test_what_a_pydantic_error_means_is_kept(tmp_path: Path) -> None:
    log = write(tmp_path, "pydantic.ValidationError: 1 validation error\n  Value error, max_model_len is too large\n")
    assert useful_lines(log)[-1] == "  Value error, max_model_len is too large"


def test_without_errors_the_last_lines_are_shown(tmp_path: Path) -> None:
    log = write(tmp_path, "".join(f"line {number}\n" for number in range(50)))
    assert useful_lines(log) == ("line 46", "line 47", "line 48", "line 49")


def test_a_message_repeated_with_other_numbers_is_shown_once(tmp_path: Path) -> None:
    log = write(tmp_path, "".join(f"E1124 12:00:{second:02} cannot connect, try {second}\n" for second in range(20)))
    assert useful_lines(log) == ("E1124 12:00:19 cannot connect, try 19",)


def test_colours_and_empty_lines_are_removed(tmp_path: Path) -> None:
    log = write(tmp_path, "\x1b[32;20mLMCache\x1b[0m ERROR: bad\n\n\n")
    assert useful_lines(log) == ("LMCache ERROR: bad",)


def test_a_log_that_does_not_exist_has_no_lines(tmp_path: Path) -> None:
    assert useful_lines(tmp_path / "none.log") == ()
    assert port_taken(tmp_path / "none.log") is None


def test_of_a_huge_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = write(tmp_path, "ERROR first\n" + "x" * 80 * 10_000 + "\n" + "ERROR last\n")
    assert useful_lines(log) == ("ERROR last",)


def test_a_taken_port_is_recognised_in_the_words_of_every_component(tmp_path: Path) -> None:
    for line in (
        "OSError: [Errno 98] Address already in use",
        "E1124 http_server.cpp:10] bind port 9003 failed",
        "[Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use",
    ):
        assert port_taken(write(tmp_path, f"starting\n{line}\n")) == line
    assert port_taken(write(tmp_path, "ERROR something else\n")) is None


@given(st.binary(max_size=2000))
def test_whatever_a_log_holds_few_short_lines_come_out(tmp_path_factory: object, content: bytes) -> None:
    log = Path(tmp_path_factory.mktemp("log")) / "any.log"  # type: ignore[attr-defined]
    log.write_bytes(content)
    lines = useful_lines(log)
    assert len(lines) <= LINES
    assert all(len(line) <= WIDTH for line in lines)
    assert all("\n" not in line for line in tail(log))
