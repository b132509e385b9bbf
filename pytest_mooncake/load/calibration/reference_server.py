"""A server with known truth, for calibrating the client: streams chunks on a schedule and says when it wrote each.

Runs in a process of its own (`python -m pytest_mooncake.load.calibration.reference_server`), on loopback, on one port
that it prints. It looks at the clock just before each write; being late itself does not matter, since the truth says
when it really wrote. The truth is kept in memory and written to standard output as JSON once standard input is closed,
so reporting it disturbs nothing. Closing standard input also ends the process, hence it cannot outlive whoever started
it.

The first chunk of a request may leave `ttft_ms` after its last byte was read, the others every `gap_ms`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import cast

import orjson

from pytest_mooncake.load.event_loop import new_event_loop

__all__ = ["Script", "main"]

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_JITTER = 7919
"""Spreads the first chunks of a round over a fifth of `ttft_ms`, as a server would; a prime, so that none coincide."""


def _frame(event: dict[str, object]) -> bytes:
    data = b"data: " + orjson.dumps(event) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


class Script:
    """Chunks and their times, made once: serving must cost far less than being measured."""

    def __init__(self, *, ttft_ms: float, gap_ms: float, tokens: int) -> None:
        self.ttft_s = ttft_ms / 1000
        self.gap_s = gap_ms / 1000
        self.tokens = tokens
        self.frames = tuple(self._token(count) for count in range(1, tokens + 1))
        self.usage = _frame({"id": "scripted", "choices": [], "usage": self._usage(tokens)}) + _END

    def _usage(self, count: int) -> dict[str, int]:
        return {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": 1 + count}

    def _token(self, count: int) -> bytes:
        reason = "length" if count == self.tokens else None
        choice = {"index": 0, "text": f" {count:05d}", "logprobs": None, "finish_reason": reason, "stop_reason": None}
        usage = self._usage(count)
        head = {"id": "scripted", "object": "text_completion", "created": 0, "model": "scripted"}
        return _frame({**head, "choices": [choice], "usage": usage})


class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests come one after another."""

    def __init__(self, script: Script, truth: dict[str, list[int]]) -> None:
        self._script = script
        self._truth = truth
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        headers = _headers(bytes(self._buffer[:head_end]))
        if len(self._buffer) < head_end + 4 + int(headers.get(b"content-length", b"0")):
            return
        self._begin(headers.get(b"x-request-id", b"").decode())

    def _begin(self, request_id: str) -> None:
        """Start answering; the first stamp is when the request had arrived."""
        self._buffer.clear()
        self._stamps = self._truth.setdefault(request_id, [])
        self._stamps.append(time.perf_counter_ns())
        self._loop = asyncio.get_running_loop()
        spread = len(self._truth) * _JITTER % 1000 / 5000
        self._at_s = self._loop.time() + self._script.ttft_s * (1 + spread)
        self._next = 0
        self._loop.call_at(self._at_s, self._write_next)

    def _write_next(self) -> None:
        if self._transport.is_closing():
            return
        script, place = self._script, self._next
        frame = script.frames[place] if place else _HEAD + script.frames[0]
        is_last = place + 1 == script.tokens
        self._next += 1
        self._stamps.append(time.perf_counter_ns())
        self._transport.write(frame + script.usage if is_last else frame)
        if not is_last:
            self._at_s += script.gap_s
            self._loop.call_at(self._at_s, self._write_next)


def _headers(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


async def _serve(script: Script) -> dict[str, list[int]]:
    truth: dict[str, list[int]] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(script, truth), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    return truth


def main(argv: Sequence[str]) -> None:
    """Serve until standard input closes. Arguments: `ttft_ms gap_ms tokens`."""
    ttft_ms, gap_ms, tokens = argv
    script = Script(ttft_ms=float(ttft_ms), gap_ms=float(gap_ms), tokens=int(tokens))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        truth = runner.run(_serve(script))
    # Not `sys.stdout.buffer`: under PYTHONUNBUFFERED that is the bare pipe, whose `write` may stop short.
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(orjson.dumps(truth))


if __name__ == "__main__":
    main(sys.argv[1:])
