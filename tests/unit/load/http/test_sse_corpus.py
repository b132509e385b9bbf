"""The kept corpus of streams: whatever a server sends, cut anywhere, is read the same way and never raises."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pytest_mooncake.load.http.completion import StreamReading
from pytest_mooncake.load.http.sse import Event, Mark, SSEParser

CORPUS = sorted((Path(__file__).resolve().parents[3] / "data" / "sse").glob("*.sse"))
GOOD = {"lf", "crlf", "cr", "comments", "no-done", "no-final-blank-line"}


def events_of(body: bytes, size: int) -> list[Event]:
    reads = [body[at : at + size] for at in range(0, len(body), size)]
    marks: list[Mark] = list(enumerate(itertools.accumulate(map(len, reads))))
    parser = SSEParser(marks)
    events = [event for read in reads for event in parser.feed(read)]
    return events + (parser.finish() if marks else [])


def read(body: bytes, size: int, *, chat: bool = False) -> StreamReading:
    reading = StreamReading(chat=chat)
    for event in events_of(body, size):
        reading.take(event)
    return reading


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: str(path.stem))
def test_however_a_stream_is_cut_it_holds_the_same_events(path: Path) -> None:
    body = path.read_bytes()
    whole = [data for _, data in events_of(body, len(body) or 1)]
    for size in (1, 2, 3, 7, 64):
        assert [data for _, data in events_of(body, size)] == whole


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: str(path.stem))
def test_nothing_that_a_server_sends_raises(path: Path, chat: bool) -> None:
    body = path.read_bytes()
    once, again = read(body, len(body) or 1, chat=chat), read(body, 1, chat=chat)
    assert once.error == again.error
    assert once.output_tokens == again.output_tokens
    assert "\n" not in (once.error or "")


@pytest.mark.parametrize("name", sorted(GOOD))
def test_streams_that_differ_in_form_only_are_two_tokens(name: str) -> None:
    reading = read(next(path for path in CORPUS if path.stem == name).read_bytes(), 5)
    assert reading.error is None
    assert reading.output_tokens == 2
    assert len(reading.chunk_ns) == 2
