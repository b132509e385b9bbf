"""What a connection does with reads, without a socket: when they are stamped, and when they are parsed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from unittest.mock import create_autospec

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.load.http.sse import Mark
from pytest_mooncake.load.http.transport import ENOUGH_PUT_OFF, MOST_PUT_OFF, StampingProtocol, StampingReader
from pytest_mooncake.load.http.turnstile import Turnstile

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(slots=True)
class Noted:
    """What a request keeps of its response."""

    most_bytes: int = 2**20
    marks: list[Mark] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)
    connected_ns: int | None = None
    sent_ns: int | None = None
    stamped_by: StampingProtocol | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.held)


class Later(Turnstile):
    """Keeps what is to be done in turns to come."""

    def __init__(self) -> None:
        super().__init__()
        self.works: list[tuple[Callable[[], object], bool]] = []

    def schedule(self, work: Callable[[], object], *, priority: bool) -> None:
        self.works.append((work, priority))

    def turn(self) -> None:
        for work, _ in self.works:
            work()
        self.works.clear()


class Connection:
    """A connection that has sent a request; the nth read comes at n."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_framed: bool, head: bytes = HEAD) -> None:
        clock = itertools.count()
        self.later = Later()
        self.protocol = StampingProtocol(loop, lambda: next(clock), self.later)
        self.noted = Noted()
        self.protocol.begin(self.noted)
        self.protocol.set_response_params(read_until_eof=True)
        self.protocol.data_received(head)
        reader = self.protocol._payload
        assert isinstance(reader, aiohttp.StreamReader)
        self.reader: aiohttp.StreamReader = reader
        assert self.protocol.take_over(reader, is_framed=is_framed)

    def receive(self, *reads: bytes) -> None:
        for read in reads:
            self.protocol.data_received(read)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


DATA = st.sampled_from([b"data: 1\n\n", b"data: 1\r\n\r\n", b"x", b"\r\n\r\n", b"0\r\n\r\n"])
TRAILERS = st.sampled_from([b"", b"Checksum: 1\r\n"])


@given(
    st.lists(DATA, min_size=1, max_size=60),
    TRAILERS,
    st.lists(st.integers(min_value=1, max_value=10_000), max_size=60),
)
def test_what_is_put_off_is_read_as_what_is_not_and_the_end_is_seen_in_the_next_turn(
    loop: asyncio.AbstractEventLoop, data: list[bytes], trailers: bytes, places: list[int]
) -> None:
    wire = b"".join(map(framed, data)) + b"0\r\n" + trailers + b"\r\n"
    bounds = [0, *sorted({place % len(wire) for place in places} - {0}), len(wire)]
    reads = [wire[begin:end] for begin, end in itertools.pairwise(bounds)]
    patient, eager = (Connection(loop, is_framed=is_framed) for is_framed in (True, False))
    for connection in (patient, eager):
        connection.receive(*reads)
        connection.later.turn()
        assert connection.reader.is_eof()
    assert patient.noted.body == b"".join(data)
    assert patient.noted.marks == eager.noted.marks


def test_enough_reads_are_parsed_in_a_turn_to_come_without_hurry(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop, is_framed=True)
    one = framed(b"data: 1\n\n")
    connection.receive(*[one] * (ENOUGH_PUT_OFF - 1))
    assert connection.later.works == []
    connection.receive(one, one)
    assert [priority for _, priority in connection.later.works] == [False], "once, not for every read after"
    assert connection.noted.body == b""
    connection.later.turn()
    assert connection.noted.body == b"data: 1\n\n" * (ENOUGH_PUT_OFF + 1)
    assert [at for at, _ in connection.noted.marks] == list(range(ENOUGH_PUT_OFF + 2))


def test_the_end_of_a_body_hurries(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop, is_framed=True)
    connection.receive(framed(b"1") + b"0\r\n\r\n")
    assert [priority for _, priority in connection.later.works] == [True]
    assert not connection.reader.is_eof()
    connection.later.turn()
    assert connection.reader.is_eof()


def test_where_no_turn_comes_only_so_many_reads_are_put_off(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop, is_framed=True)
    connection.receive(*[framed(b"1")] * (MOST_PUT_OFF - 1))
    assert connection.noted.body == b""
    connection.receive(framed(b"1"))
    assert connection.noted.body == b"1" * MOST_PUT_OFF


@pytest.mark.parametrize("read", [b"a", b"\r\n\r\n"], ids=["short", "like an end"])
def test_reads_that_may_be_an_end_are_bound_too(loop: asyncio.AbstractEventLoop, read: bytes) -> None:
    connection = Connection(loop, is_framed=True)
    connection.receive(b"%x\r\n" % 2**10)
    connection.protocol.catch_up()
    connection.receive(*[read] * (MOST_PUT_OFF - 1))
    assert connection.noted.body == b""
    connection.receive(read)
    assert connection.noted.body == read * MOST_PUT_OFF


def test_a_large_read_is_parsed_at_once_and_what_is_too_long_ends_the_connection(
    loop: asyncio.AbstractEventLoop,
) -> None:
    connection = Connection(loop, is_framed=True)
    transport = create_autospec(asyncio.Transport, instance=True)
    connection.protocol.transport = transport
    large = b"x" * 2**15 + b"\r\n"
    connection.receive(framed(large))
    assert connection.noted.body == large
    transport.abort.assert_not_called()
    connection.receive(framed(b"x" * 2**20))
    transport.abort.assert_called_once_with()


def test_a_stream_is_caught_up_with_when_it_was_quiet_for_long_enough(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop, is_framed=True)
    connection.receive(framed(b"1"), framed(b"2"))
    last = 2
    connection.protocol.catch_up(quiet_since_ns=last - 1)
    assert connection.noted.body == b""
    connection.protocol.catch_up(quiet_since_ns=last)
    assert connection.noted.body == b"12"


def test_what_was_put_off_is_there_when_the_connection_ends(loop: asyncio.AbstractEventLoop) -> None:
    lost, ended = (Connection(loop, is_framed=True) for _ in range(2))
    for connection in (lost, ended):
        connection.receive(framed(b"1"))
    lost.protocol.connection_lost(None)
    ended.protocol.eof_received()
    assert lost.noted.body == ended.noted.body == b"1"
    assert isinstance(lost.reader.exception(), aiohttp.ClientPayloadError)
    assert ended.reader.exception() is None


def test_what_was_put_off_goes_to_its_own_request(loop: asyncio.AbstractEventLoop) -> None:
    connection, after = Connection(loop, is_framed=True), Noted()
    connection.receive(framed(b"1"))
    connection.protocol.begin(after)
    assert connection.noted.body == b"1"
    assert after.held == []


def test_a_body_whose_framing_tells_no_end_is_parsed_at_once(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop, is_framed=False, head=b"HTTP/1.1 200 OK\r\n\r\n")
    connection.receive(b"data: 1\n\n")
    assert connection.noted.body == b"data: 1\n\n"


def test_a_reader_of_somebody_else_or_of_another_layout_is_left_alone(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop, is_framed=True)

    class Other(aiohttp.StreamReader):
        __slots__ = ("more",)

    other = Other(connection.protocol, 2**16, loop=loop)
    assert not connection.protocol.take_over(other, is_framed=True)
    connection.protocol._payload = other
    assert not connection.protocol.take_over(other, is_framed=True)
    assert type(other) is Other
    assert type(connection.reader) is StampingReader
