"""The event parser: any cutting of the same bytes gives the same events, stamped by the read that completed each."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.load.http.sse import Event, Mark, SSEParser

RECORDED = (
    b": connected\n\n"
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"\xc3\xa9"}}]}\r\n\r\n'
    b"event: ping\nid: 7\n\n"
    b'data: {"choices":[{"delta":{"content":" b"}}]}\r\r'
    b"\n\n\n"
    b"data: first line\ndata:second line\ndata\n\n"
    b"retry: 10\r\ndata: with retry\r\n\r\n"
    b"data: [DONE]\n\n"
)
EXPECTED = [
    b'{"choices":[{"delta":{"role":"assistant","content":""}}]}',
    b'{"choices":[{"delta":{"content":"\xc3\xa9"}}]}',
    b'{"choices":[{"delta":{"content":" b"}}]}',
    b"first line\nsecond line",
    b"with retry",
    b"[DONE]",
]


def parse(reads: list[bytes], *, feeds: list[int] | None = None) -> list[Event]:
    """Parse `reads` (read i arrived at i), handing the parser the bytes at the offsets `feeds`, or read by read."""
    totals = list(itertools.accumulate(map(len, reads)))
    marks: list[Mark] = list(enumerate(totals))
    body = b"".join(reads)
    cuts = totals if feeds is None else [*sorted(feeds), len(body)]
    parser = SSEParser(marks)
    events: list[Event] = []
    for begin, end in itertools.pairwise([0, *cuts]):
        events += parser.feed(body[begin:end])
    return events + parser.finish()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    return [body[begin:end] for begin, end in itertools.pairwise(bounds)]


def data(events: list[Event]) -> list[bytes]:
    return [data for _, data in events]


def test_a_recorded_stream_gives_its_events() -> None:
    assert data(parse([RECORDED])) == EXPECTED


def test_one_byte_at_a_time_gives_the_same_events() -> None:
    assert data(parse([bytes([byte]) for byte in RECORDED])) == EXPECTED


def test_every_single_cut_gives_the_same_events() -> None:
    for place in range(len(RECORDED) + 1):
        assert data(parse(cut(RECORDED, [place]))) == EXPECTED


@given(st.lists(st.integers(min_value=0, max_value=10_000), max_size=40))
def test_any_cutting_gives_the_same_events(places: list[int]) -> None:
    assert data(parse(cut(RECORDED, places))) == EXPECTED


LINES = st.sampled_from(
    [b"data: x", b"data: ", b"data:y", b"data", b"", b": c", b"id: 1", b"\xff", b"datax: 1", b"data:  two"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=30).map(lambda pairs: b"".join(a + b for a, b in pairs))


@given(STREAMS | st.binary(max_size=200), st.lists(st.integers(min_value=0, max_value=400), max_size=20))
def test_no_stream_whatever_depends_on_how_it_was_cut(body: bytes, places: list[int]) -> None:
    assert data(parse(cut(body, places))) == data(parse([body]))


def reference(body: bytes) -> list[bytes]:
    """The algorithm as the standard words it: line by line, with the lenient end."""
    events: list[bytes] = []
    values: list[bytes] = []
    for line in [*re.split(rb"\r\n|\n|\r", body.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line and values:
            if joined := b"\n".join(values):
                events.append(joined)
            values = []
        elif line.startswith(b"data:"):
            value = line[5:]
            values.append(value.removeprefix(b" "))
    return events


@given(STREAMS)
def test_the_events_are_those_of_the_standard(body: bytes) -> None:
    assert data(parse([body])) == reference(body)


@given(st.lists(st.integers(min_value=0, max_value=10_000), max_size=20))
def test_an_event_has_the_time_of_the_read_that_completed_it(places: list[int]) -> None:
    reads = cut(RECORDED.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), places)
    totals = list(itertools.accumulate(map(len, reads)))
    body = b"".join(reads)
    for at_ns, value in parse(reads):
        first = value.split(b"\n")[-1]
        completed = body.index(b"\n\n", body.index(first)) + 2
        assert totals[at_ns] >= completed
        assert at_ns == 0 or totals[at_ns - 1] < completed


PLAIN = st.lists(st.sampled_from([b"1", b"two words", b"", b"data: 3"]), min_size=1, max_size=20)


@given(PLAIN, st.lists(st.integers(min_value=0, max_value=400), max_size=20))
def test_a_stream_of_one_line_an_event_is_read_as_any_other(values: list[bytes], places: list[int]) -> None:
    frames = [b"data: " + value + b"\n\n" for value in values]
    ends = list(itertools.accumulate(map(len, frames)))
    reads = cut(b"".join(frames), places)
    totals = list(itertools.accumulate(map(len, reads)))
    arrivals = [next(read for read, total in enumerate(totals) if total >= end) for end in ends]
    expected = [(at, value) for at, value in zip(arrivals, values, strict=True) if value]
    assert parse(reads, feeds=[]) == expected == parse(reads)


@given(
    st.lists(st.integers(min_value=0, max_value=10_000), max_size=20),
    st.lists(st.integers(min_value=0, max_value=len(RECORDED)), max_size=5),
)
def test_parsing_later_moves_no_time(places: list[int], feeds: list[int]) -> None:
    reads = cut(RECORDED, places)
    assert parse(reads, feeds=feeds) == parse(reads)


def test_a_last_event_without_its_blank_line_is_given_at_the_end_only() -> None:
    parser = SSEParser([(5, 7)])
    assert parser.feed(b"data: 1") == []
    assert parser.held_bytes == 7
    assert parser.finish() == [(5, b"1")]
    assert parser.finish() == []


def test_a_byte_order_mark_is_skipped_at_the_beginning_only() -> None:
    mark = b"\xef\xbb\xbf"
    assert data(parse([mark + b"data: 1\n\n"])) == [b"1"]
    assert data(parse([b"data: 1\n\n" + mark + b"data: 2\n\n"])) == [b"1"]


def test_several_events_of_one_read_share_its_time() -> None:
    assert parse([b"data: 1\n\ndata: 2\n\nda", b"ta: 3\n\n"]) == [(0, b"1"), (0, b"2"), (1, b"3")]
