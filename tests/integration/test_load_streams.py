"""One request at a time: every shape of a right stream, and every way in which a stream can be wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tracemalloc
from typing import Any

import pytest

from pytest_mooncake.load.http.exchange import max_body_bytes
from pytest_mooncake.plan.models import Timeouts
from pytest_mooncake.records import RequestRecord
from tests.support.faulty_server import FaultyServer
from tests.support.measured_rounds import PROMPT_TOKENS, only_record, planned, spec_for
from tests.support.replies import (
    DONE,
    Disconnect,
    Hang,
    Pause,
    Received,
    Reply,
    Step,
    Stream,
    error,
    event,
    garbage,
    hang_up,
    json_reply,
    limited,
    redirect,
    silent,
    stream,
    text,
)

PINGS: list[Step] = [b": ping\n\n", Pause(0.05)] * 40
COMMENT = b": " + b"x" * 65_533 + b"\n"
BOMB = gzip.compress(b"x" * 2**28)
SHORT = Timeouts(first_token_s=0.3, between_chunks_s=0.3, request_s=5)


async def record_of(answer: Any, *, output_tokens: int = 4, **others: Any) -> RequestRecord:
    path = "/v1/chat/completions" if others.get("api") == "chat" else "/v1/completions"
    prompt: Any = "one two three four five" if others.get("api") == "chat" else tuple(range(PROMPT_TOKENS))
    stamp = others.pop("stamp_on_arrival", True)
    async with FaultyServer({path: answer}) as server:
        requests = planned(1, output_tokens=output_tokens, prompt=prompt)
        return await only_record(spec_for(server.url, requests=requests, **others), stamp_on_arrival=stamp)


def usage(output: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": output, **more}


def token(text: str, output: int | None = None, finish: str | None = None) -> bytes:
    body: dict[str, Any] = {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}
    return event(body if output is None else {**body, "usage": usage(output)})


def final_usage(output: int) -> bytes:
    return event({"choices": [], "usage": usage(output)})


@pytest.mark.parametrize("stamp_on_arrival", [True, False])
@pytest.mark.parametrize(
    "shape",
    [
        Stream(),
        Stream(split_at=1),
        Stream(split_at=7),
        Stream(together=True),
        Stream(comments=True),
        Stream(line_end=b"\r\n", split_at=3, comments=True),
        Stream(line_end=b"\r"),
        Stream(done=False),
        Stream(tokens_per_event=2),
    ],
    ids=["plain", "split at 1", "split at 7", "one write", "comments", "CRLF", "CR", "no DONE", "two tokens a chunk"],
)
@pytest.mark.parametrize("api", ["completions", "chat"])
async def test_a_right_stream_is_read_rightly_however_it_comes(api: str, shape: Stream, stamp_on_arrival: bool) -> None:
    record = await record_of(shape, api=api, stamp_on_arrival=stamp_on_arrival)
    assert record.error is None
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (PROMPT_TOKENS, 4, 0)
    assert record.chunk_tokens == (shape.tokens_per_event,) * (4 // shape.tokens_per_event)
    assert record.finish_reason == "length"
    assert record.http_status == 200


async def test_the_times_of_a_request_are_in_order_of_what_happened() -> None:
    record = await record_of(Stream(role_s=0.01, first_token_s=0.02, gap_s=0.005), api="chat")
    order = [
        record.intended_ns,
        record.ready_ns,
        record.connected_ns,
        record.sent_ns,
        record.first_byte_ns,
        record.first_role_ns,
        record.first_token_ns,
        record.last_token_ns,
        record.usage_ns,
        record.done_ns,
    ]
    assert None not in order
    assert order == sorted(order, key=lambda at: at or 0)


async def test_a_role_only_chunk_is_not_the_first_token() -> None:
    record = await record_of(Stream(role_s=0.0, first_token_s=0.3), api="chat")
    assert record.first_role_ns is not None
    assert record.first_token_ns is not None
    assert record.sent_ns is not None
    role_ms = record.first_role_ns - record.sent_ns
    assert record.first_token_ns - record.sent_ns > 3 * role_ms


async def test_without_usage_on_every_chunk_each_chunk_is_one_token_if_the_counts_agree() -> None:
    record = await record_of(Stream(), continuous_usage=False)
    assert record.error is None
    assert record.chunk_tokens == (1, 1, 1, 1)


async def test_tokens_per_chunk_are_unknown_when_fewer_chunks_than_tokens_come_without_usage() -> None:
    record = await record_of(Stream(tokens_per_event=2), continuous_usage=False)
    assert record.error is None
    assert len(record.chunk_ns) == 2
    assert record.chunk_tokens == ()


async def test_a_token_without_text_on_completions_is_output() -> None:
    answer = stream(
        token("", 1), Pause(0.2), token("é", 2), token("x", 3), token("", 4, "length"), final_usage(4), DONE
    )
    record = await record_of(answer)
    assert record.error is None
    assert record.chunk_tokens == (1, 1, 1, 1)
    assert record.chunk_ns[1] - record.chunk_ns[0] > 2 * (record.chunk_ns[3] - record.chunk_ns[2])


async def test_a_compressed_stream_is_read() -> None:
    def compressed(received: Received) -> Reply:
        body = b"".join(step for step in Stream()(received).steps if isinstance(step, bytes))
        head = (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"))
        return Reply(headers=head, steps=(gzip.compress(body),), chunked=True)

    record = await record_of(compressed)
    assert record.error is None
    assert record.output_tokens == 4


async def test_a_body_that_ends_with_the_connection_is_read() -> None:
    body = token("a", 1) + token("b", 2, "length") + final_usage(2) + DONE
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    record = await record_of(Reply(raw=True, steps=(head, body, Disconnect())), output_tokens=2)
    assert record.error is None
    assert record.output_tokens == 2


async def test_equal_outputs_have_equal_digests_and_others_have_others() -> None:
    one = await record_of(Stream())
    same = await record_of(Stream(tokens_per_event=2))
    other = await record_of(stream(*[token("x", count) for count in (1, 2, 3, 4)], final_usage(4), DONE))
    assert one.output_sha256 == same.output_sha256 != other.output_sha256


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(401, "no key"), "HTTP 401: .*no key"),
        (limited(), "HTTP 429: .*rate limit"),
        (error(500), "HTTP 500"),
        (Reply(status=503), "HTTP 503: Service Unavailable"),
        (redirect("http://127.0.0.1:9/elsewhere"), "HTTP 307: a redirect to 'http://127.0.0.1:9/elsewhere'"),
        (garbage(), "connection failed before the first token"),
        (hang_up(), "connection failed before the first token: ServerDisconnectedError"),
        (Stream(disconnect_after=2), "connection failed in the middle of the stream"),
        (Stream(error_after=2), "the server reported an error in the stream: EngineCore"),
        (stream(event({"object": "error", "message": "old form"})), "error in the stream: old form"),
        (Stream(tokens=3), "produced 3 output tokens, asked for were 4"),
        (Stream(extra_output_tokens=1), "produced 5 output tokens, asked for were 4"),
        (Stream(extra_prompt_tokens=1), "counted 6 prompt tokens, planned were 5"),
        (Stream(usage=False), "without usage"),
        (stream(), "HTTP 200, but no event stream: 'an empty body'"),
        (text("<html>a portal</html>"), "no event stream: '<html>a portal</html>'"),
        (json_reply({"choices": []}), "no event stream"),
        (stream(token("a", 1), b'data: {"choices": [{"te'), "not JSON: '{\"choices"),
        (stream(token("a", 1), b'data: "\xc3'), "not JSON"),
        (stream(b"data: 12\n\n"), "not an object: '12'"),
        (stream(token("a", 3), token("b", 2)), "contradicts itself: completion_tokens fell 3 -> 2"),
        (stream(b"HTTP/1.1 200 OK\r\n\r\n"), "no event stream"),
    ],
)
async def test_a_wrong_answer_is_a_failed_record_that_says_why(answer: Any, reason: str) -> None:
    record = await record_of(answer)
    assert record.error is not None
    assert "\n" not in record.error
    assert re.search(reason, record.error), record.error


@pytest.mark.parametrize(
    ("answer", "limit"),
    [
        (silent(), "first-token"),
        (stream(Hang()), "first-token"),
        (stream(event({"choices": [{"delta": {"role": "assistant"}}]}), Hang()), "first-token"),
        (stream(*PINGS), "first-token"),
        (Stream(hang_after=2), "between-chunks"),
        (stream(token("a", 1), *PINGS), "between-chunks"),
    ],
    ids=["silent", "headers only", "role only", "pings only", "stalls", "stalls with pings"],
)
@pytest.mark.parametrize("stamp_on_arrival", [True, False])
async def test_a_stream_that_stalls_fails_with_the_limit_it_passed(
    answer: Any, limit: str, stamp_on_arrival: bool
) -> None:
    record = await record_of(answer, timeouts=SHORT, stamp_on_arrival=stamp_on_arrival)
    assert record.error is not None
    assert f"(limit {limit})" in record.error


async def test_broken_framing_before_a_silence_is_told_without_waiting_for_the_limit() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    record = await record_of(Reply(raw=True, steps=(head, Pause(0.05), b"no size\r\nof a chunk", Hang())))
    assert record.error is not None
    assert re.search("connection failed before the first token: .*chunk size", record.error), record.error


async def test_what_came_before_a_failure_is_kept() -> None:
    record = await record_of(Stream(disconnect_after=2))
    assert len(record.chunk_ns) == 2
    assert record.first_token_ns == record.chunk_ns[0]
    assert record.http_status == 200


async def test_slow_but_steady_output_passes_the_limits_between_chunks() -> None:
    record = await record_of(Stream(gap_s=0.1), timeouts=SHORT, output_tokens=6)
    assert record.error is None


async def test_an_endless_stream_is_given_up_at_the_limit_of_the_request() -> None:
    steps: list[Step] = [token("x"), Pause(0.02)]
    limits = Timeouts(first_token_s=5, between_chunks_s=5, request_s=0.3)
    record = await record_of(stream(*steps * 200), timeouts=limits)
    assert record.error == "not complete within 0.3 s (limit request)"


async def test_trickled_headers_are_given_up() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    trickle = [step for at in range(len(head)) for step in (head[at : at + 1], Pause(0.05))]
    record = await record_of(Reply(raw=True, steps=tuple(trickle)), timeouts=SHORT)
    assert record.error is not None
    assert "first-token" in record.error


async def test_a_line_of_ten_megabytes_is_no_completion() -> None:
    line = b"data: " + b"x" * 10_000_000
    record = await record_of(stream(line, Hang()))
    assert record.error is not None
    assert "longer than" in record.error


async def test_a_stream_that_is_complete_but_never_closed_is_a_success() -> None:
    steps: list[Step] = [token("a", 1), token("b", 2, "length"), final_usage(2), DONE, Hang()]
    record = await record_of(stream(*steps), output_tokens=2, timeouts=SHORT)
    assert record.error is None
    assert record.output_tokens == 2


async def test_a_refusal_before_the_body_was_read_is_recorded() -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"error": {"message": "too large"}}).encode()
        writer.write(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        requests = planned(1, prompt=tuple(range(500_000)), prompt_tokens=None)
        record = await only_record(spec_for(f"http://127.0.0.1:{port}", requests=requests, timeouts=SHORT))
    assert record.error is not None
    assert record.output_tokens is None


async def test_nobody_listens_is_a_failed_record() -> None:
    record = await only_record(spec_for("http://127.0.0.1:1", requests=planned(1)))
    assert record.error is not None
    assert record.error.startswith("connection failed before it was sent: ClientConnectorError")
    assert record.sent_ns is None


async def test_tls_to_a_server_without_it_is_a_failed_record() -> None:
    async with FaultyServer() as server:
        url = server.url.replace("http:", "https:")
        record = await only_record(spec_for(url, requests=planned(1)))
    assert record.error is not None
    assert record.error.startswith("connection failed before it was sent: ClientConnector")


async def test_a_token_at_a_time_in_many_pieces_is_no_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_mooncake.load.http.exchange._READS_PER_STREAM", 3)
    monkeypatch.setattr("pytest_mooncake.load.http.exchange._READS_PER_TOKEN", 1)
    record = await record_of(stream(*PINGS))
    assert record.error is not None
    assert "pieces" in record.error


async def test_an_answer_cannot_smuggle_control_characters_into_a_report() -> None:
    record = await record_of(text("\x1b[31mred\x1b[0m\r\n\u202eevil" + "x" * 1000, status=500))
    assert record.error is not None
    assert record.error.isprintable()
    assert len(record.error) < 250


def flood(_received: Received) -> Reply:
    """Without end, as fast as it is taken: 64 MiB of nothing."""
    head = (("Content-Type", "text/event-stream"),)
    return Reply(headers=head, steps=(COMMENT,) * 1024, chunked=True)


def compressed_bomb(_received: Received) -> Reply:
    """256 MiB in 256 KiB, to a client that asked for no compression."""
    head = (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"))
    return Reply(headers=head, steps=(BOMB,), chunked=True)


@pytest.mark.parametrize("stamp_on_arrival", [True, False])
@pytest.mark.parametrize("answer", [flood, compressed_bomb])
async def test_a_flood_is_given_up_before_it_fills_the_memory(answer: Any, stamp_on_arrival: bool) -> None:
    async with FaultyServer({"/v1/completions": answer}) as server:
        spec = spec_for(server.url, requests=planned(1))
        tracemalloc.start()
        try:
            record = await only_record(spec, stamp_on_arrival=stamp_on_arrival)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert record.error is not None
    assert re.search("longer than|exceeds the configured limit", record.error)
    assert peak < 24 * max_body_bytes(4), (
        "less than was sent; the test server's buffers included, and what aiohttp unpacks at once"
    )


async def test_output_that_goes_on_after_its_end_is_not_counted() -> None:
    answer = stream(token("a", 1), token("b", 2, "length"), final_usage(2), DONE, token("c", 3), token("d", 4))
    record = await record_of(answer, output_tokens=2)
    assert record.error is None
    assert (record.output_tokens, len(record.chunk_ns)) == (2, 2)


async def test_the_headers_of_a_limit_do_not_make_the_client_wait_and_send_again() -> None:
    async with FaultyServer({"/v1/completions": [limited(30), Stream()]}) as server:
        record = await only_record(spec_for(server.url, requests=planned(1)))
        assert len(server.requests_to("/v1/completions")) == 1
    assert record.http_status == 429


async def test_a_redirect_takes_no_secret_elsewhere() -> None:
    async with FaultyServer() as elsewhere:
        answer = redirect(f"{elsewhere.url}/v1/completions")
        record = await record_of(answer, headers={"Authorization": "Bearer hush"})
        assert elsewhere.received == []
    assert record.error is not None
    assert "not followed" in record.error
