"""A record read as columns says what the record read as objects says, and holds one round at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.analysis.figures.summary import summarise, summarise_columns
from pytest_mooncake.analysis.statistics.observed import observe
from pytest_mooncake.errors import JournalError
from pytest_mooncake.journal import EVENTS_FILE, REQUESTS_FILE, Journal, read
from pytest_mooncake.journal.columns import observed, rounds_in_columns
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.targets.slo import parse_goodput
from pytest_mooncake.records import Kind, Phase, Round
from tests.support.made_records import as_first_version
from tests.support.made_rounds import noisy, request


def record(directory: Path, rounds: tuple[Round, ...]) -> Path:
    with Journal(directory, resolve(Options(stack="simulated"), directory.parent)) as journal:
        for one in rounds:
            for held in reversed(one.requests):
                journal.request(held)
            journal.round(one)
    return directory


def a_run() -> tuple[Round, ...]:
    """A chain of which one warm request failed, and a round that is left out of it."""
    rounds = list(noisy(3, 0.3))
    failed = replace(request(9, error="refused"), round=1, kind=Kind.WARM)
    rounds[1] = replace(rounds[1], requests=(*rounds[1].requests, failed))
    left_out = replace(rounds[0], round=99, phase=Phase.LEFT_OUT, requests=tuple(
        replace(r, round=99) for r in rounds[0].requests
    ))  # fmt: skip
    return (left_out, *rounds)


def test_columns_and_objects_of_a_record_come_to_the_same_figures(tmp_path: Path) -> None:
    directory = record(tmp_path / "run", a_run())
    by_objects = {one.round: one for one in read(directory).rounds}
    by_columns = {one.round: one for one in rounds_in_columns(directory)}
    assert list(by_columns) == list(by_objects)
    for number, one in by_columns.items():
        assert summarise_columns(one.columns) == summarise([by_objects[number]])
        whole = by_objects[number]
        assert (one.kind, one.phase, one.segment, one.position) == (
            whole.kind, whole.phase, whole.segment, whole.position,
        )  # fmt: skip


def test_the_chain_is_observed_as_from_objects_with_its_goodput(tmp_path: Path) -> None:
    directory, limits = record(tmp_path / "run", a_run()), parse_goodput("ttft_ms<=400")
    chain = [observe(one, limits) for one in read(directory).rounds if one.phase is Phase.CHAIN]
    assert observed(directory, limits) == tuple(chain)
    assert len(chain) == 7
    assert chain[1].summary.failed == 1


def test_rounds_come_one_by_one(tmp_path: Path) -> None:
    directory = record(tmp_path / "run", a_run())
    stream = rounds_in_columns(directory)
    assert isinstance(stream, Iterator)
    assert next(stream).round == 99
    with (directory / REQUESTS_FILE).open("ab") as file:
        file.write(b"torn")
    assert [one.round for one in stream] == list(range(7))


def test_requests_of_a_round_that_was_never_finished_are_left_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "run", resolve(Options(stack="simulated"), tmp_path)) as journal:
        journal.request(replace(request(0), round=50))
    assert list(rounds_in_columns(tmp_path / "run")) == []


def test_a_round_whose_requests_do_not_stand_together_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "run", resolve(Options(stack="simulated"), tmp_path)) as journal:
        for number in (2, 3, 2):
            journal.request(replace(request(0), round=number))
    with pytest.raises(JournalError, match="requests of round 2 do not stand together"):
        list(rounds_in_columns(tmp_path / "run"))


@pytest.mark.parametrize("name", [EVENTS_FILE, REQUESTS_FILE])
@pytest.mark.parametrize("change", [lambda line: line.replace(b"0", b"1", 1), lambda _: b"", lambda line: line + line])
def test_a_record_that_is_not_as_it_was_written_gives_no_columns(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    path = record(tmp_path / "run", a_run()) / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((*lines[:3], change(lines[3]), *lines[4:])))
    with pytest.raises(JournalError, match=f"the record is damaged: {name}:"):
        list(rounds_in_columns(tmp_path / "run"))


@pytest.mark.parametrize("line", [b"3", b"{}", b'{"round":0}', b'{"round":0,"kind":', b'{"round":"x"}'])
def test_a_line_of_the_first_version_that_is_no_request_is_refused_in_one_line(tmp_path: Path, line: bytes) -> None:
    path = as_first_version(record(tmp_path / "run", a_run())) / REQUESTS_FILE
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(JournalError) as refused:
        list(rounds_in_columns(tmp_path / "run"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("missing", [EVENTS_FILE, REQUESTS_FILE])
def test_a_record_without_one_of_its_files_is_refused(tmp_path: Path, missing: str) -> None:
    directory = record(tmp_path / "run", a_run())
    (directory / missing).unlink()
    with pytest.raises(JournalError, match=f"{missing} is missing"):
        list(rounds_in_columns(directory))
