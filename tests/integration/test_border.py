"""Every path that is read, against every kind of reply that a broken or hostile server gives.

Each read ends in a value or in one printable line, never in a traceback; no secret reaches another origin.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from pytest_mooncake.border.http import NoReply, each_line, open_session, send, send_now
from pytest_mooncake.cache import clear, keys, lmcache_api
from pytest_mooncake.cache.keys import count_keys
from pytest_mooncake.cache.lmcache_api import connectors_of
from pytest_mooncake.cache.probes.gate import run_gate
from pytest_mooncake.cache.scrape import Source, scrape
from pytest_mooncake.errors import BorderError, MooncakeError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.plan.secrets.credentials import Credentials, credentials_of
from pytest_mooncake.records import Engine, GateStatus, StackView, Store
from pytest_mooncake.run.instruments import _api, _connections
from pytest_mooncake.stack.attach import attach
from pytest_mooncake.stack.local.host import http
from pytest_mooncake.workload.tokens.server_tokenizer import ServerTokenizer, fetch_token_pool, fetch_word_pool
from tests.support.faulty_server import Disconnect, FaultyServer, Hang, Pause, Reply, text

ENVIRON = {"K": "sk-very-secret", "H": "X-Gateway-Key: top-secret"}
SECRETS = ("sk-very-secret", "top-secret")
MIB = 2**20
JSON = ("Content-Type", "application/json")
VLLM = "vllm:prompt_tokens_total 1\n"


def packed(body: bytes, coding: str = "gzip") -> Reply:
    return Reply(headers=(JSON, ("Content-Encoding", coding)), steps=(body,), chunked=True)


def of_json(body: str | bytes) -> Reply:
    return Reply(headers=(JSON,), steps=(body.encode() if isinstance(body, str) else body,))


def card(**fields: Any) -> Reply:
    return of_json(json.dumps({"data": [{"id": "m", **fields}]}))


REPLIES: dict[str, Reply] = {
    "endless": Reply(headers=(JSON,), steps=(b"[" * MIB,) * 600, chunked=True),
    "200 MB of metrics": Reply(steps=(VLLM.encode() * 40_000,) * 200, chunked=True),
    "gzip bomb": packed(gzip.compress(b" " * 300 * MIB)),
    "gzip bomb of tokens": packed(gzip.compress(b'{"tokens":[' + b"1," * 30 * MIB + b"1]}")),
    "deflate bomb": packed(zlib.compress(b" " * 300 * MIB), "deflate"),
    "raw deflate bomb": packed(zlib.compress(b" " * 300 * MIB, wbits=-15), "deflate"),
    "blocks of nothing": packed(gzip.compress(b"")[:10] + b"\x00\x00\x00\xff\xff" * MIB),
    "members without end": packed(gzip.compress(b"x") * 1000),
    "no gzip": packed(b"hello"),
    "gzip cut off": packed(gzip.compress(json.dumps({"data": list(range(9999))}).encode())[:-9]),
    "brotli": packed(b"\x0b\x02\x80", "br"),
    "twice packed": packed(gzip.compress(gzip.compress(b"{}")), "gzip, gzip"),
    "nested": of_json("[" * 200_000),
    "nested and closed": of_json("[" * 500 + "]" * 500),
    "nested objects": of_json('{"data":' * 200_000),
    "not a number": of_json('{"data": [{"id": "m", "x": NaN}], "tokens": [NaN]}'),
    "too large": of_json('{"data": [{"id": "m", "x": 1e400}], "tokens": [1e400]}'),
    "half a character": of_json('{"data": [{"id": "\\ud800"}], "tokens": [1], "version": "\\ud800"}'),
    "many digits": of_json(
        '{"data": [{"id": "m", "max_model_len": ' + "9" * 5000 + '}], "tokens": [' + "9" * 5000 + "]}"
    ),
    "no UTF-8": Reply(headers=(("Content-Type", "application/json; charset=utf-16"),), steps=(b"\xff\xfe\x00\xd8",)),
    "empty": of_json(""),
    "breaks off": Reply(headers=(JSON,), steps=(b'{"data', Disconnect()), chunked=True),
    "odd chunks": Reply(
        raw=True, steps=(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", Disconnect())
    ),
    "short of its length": Reply(
        raw=True, steps=(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}", Disconnect())
    ),
    "odd length": Reply(raw=True, steps=(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}", Disconnect())),
    "header of odd bytes": Reply(
        raw=True, steps=(b"HTTP/1.1 307 \xff\r\nLocation: http://\xed\xa0\x80/\r\n\r\n", Disconnect())
    ),
    "no HTTP": Reply(raw=True, steps=(b"\x15\x03\x03\x00\x02\x02\x46", Disconnect())),
    "endless header": Reply(raw=True, steps=(b"HTTP/1.1 200 OK\r\nX: " + b"y" * MIB, Disconnect())),
    "long refusal": Reply(status=500, steps=(b"x" * MIB,) * 100, chunked=True),
}


def plan_for(url: str, **fields: Any) -> StackPlan:
    return StackPlan.model_validate(
        {"name": "a", "kind": "attached", "urls": (url,), "api_key_env": "K", "header_env": "H", **fields}
    )


def view_for(url: str) -> StackView:
    return StackView(name="a", provisioned=False, engines=(Engine(url=url),), model="m", store=Store(master_url=url))


def credentials_for(url: str) -> Credentials:
    return credentials_of(plan_for(url), ENVIRON)


async def read_models(url: str, **_: Any) -> object:
    return await attach(plan_for(url), environ=ENVIRON, progress=lambda _: None, timeout_s=5)


async def read_metrics(url: str, **_: Any) -> object:
    (seen,) = await scrape(_connections_of(url), (Source(name="engine:0", url=f"{url}/metrics"),))
    return seen.error


async def read_named_metrics(url: str, **_: Any) -> object:
    return await attach(plan_for(url, metrics_urls=(f"{url}/prom",)), environ=ENVIRON, progress=lambda _: None)


async def read_master(url: str, **_: Any) -> object:
    return await attach(plan_for(url, master_url=f"{url}/master"), environ=ENVIRON, progress=lambda _: None)


async def read_tokens(url: str, **_: Any) -> object:
    return await fetch_token_pool(_tokenizer(url))


async def read_words(url: str, **_: Any) -> object:
    return await fetch_word_pool(_tokenizer(url, chat=True))


async def read_keys(url: str, **_: Any) -> object:
    return await count_keys(_connections_of(url), Store(master_url=url))


async def read_lmcache(url: str, **_: Any) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lmcache_api, "FIRST_PORT", urlsplit(url).port)
        return await connectors_of(_connections_of(url), view_for(url))


async def read_reset(url: str, **_: Any) -> object:
    return await clear._call(_connections_of(url), "POST", f"{url}/reset_prefix_cache")


async def read_kind_of_api(url: str, **_: Any) -> object:
    return await _api(plan=_auto(), view=view_for(url), http=_connections_of(url), headers=credentials_for(url).headers)


async def read_local(url: str, **_: Any) -> object:
    return await asyncio.to_thread(http.get, urlsplit(url).port or 0, "/health")


async def read_local_completion(url: str, **_: Any) -> object:
    return (await asyncio.to_thread(http.post, urlsplit(url).port or 0, "/v1/completions", {}, 5.0))[0]


async def read_gate(url: str, **_: Any) -> object:
    """The correctness gate's own requests: whatever answers them, the gate says what became of it."""
    read = partial(scrape, _connections_of(url), (Source(name="engine:0", url=f"{url}/metrics"),))
    headers, ids = credentials_for(url).headers, range(100, 1100)
    answers, gate = await run_gate(
        _redacting(url), view_for(url), "r", ids, read=read, headers=headers, params=None, limit_s=15, request_s=3
    )
    assert gate.status is GateStatus.NOT_MADE, "nothing here is an answer"
    reason = gate.reason or ""
    assert reason.isprintable()
    assert all(answer.error and answer.error.isprintable() for answer in answers)
    return reason, answers


def _auto() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(api="auto")


def _tokenizer(url: str, *, chat: bool = False) -> ServerTokenizer:
    headers = credentials_for(url).headers
    return ServerTokenizer(session=_connections_of(url), url=url, model="m", headers=headers, chat=chat)


_open: list[aiohttp.ClientSession] = []


def _connections_of(url: str) -> aiohttp.ClientSession:
    _open.append(_connections(credentials_for(url)))
    return _open[-1]


def _redacting(url: str) -> aiohttp.ClientSession:
    credentials = credentials_for(url)
    _open.append(open_session(headers_for=credentials.headers_for, redact=credentials.redacted))
    return _open[-1]


@pytest.fixture(autouse=True)
async def _closed() -> Any:
    yield
    while _open:
        await _open.pop().close()


READERS: dict[str, tuple[str, Callable[..., Awaitable[object]]]] = {
    "models": ("/v1/models", read_models),
    "version": ("/version", read_models),
    "usual metrics": ("/metrics", read_models),
    "named metrics": ("/prom", read_named_metrics),
    "master": ("/master/metrics", read_master),
    "metrics": ("/metrics", read_metrics),
    "tokens": ("/tokenize", read_tokens),
    "words": ("/tokenize", read_words),
    "keys": ("/get_all_keys", read_keys),
    "LMCache": ("/lmc_version", read_lmcache),
    "reset": ("/reset_prefix_cache", read_reset),
    "kind of API": ("/v1/completions", read_kind_of_api),
    "gate": ("/v1/completions", read_gate),
    "local health": ("/health", read_local),
    "local completion": ("/v1/completions", read_local_completion),
}


async def outcome(reader: str, reply: Reply) -> tuple[str, object]:
    """How a read ends: in `line` (the error's) or `value`."""
    path, read = READERS[reader]
    async with FaultyServer({path: reply}) as server:
        try:
            async with asyncio.timeout(20):
                return "value", await read(server.url)
        except MooncakeError as error:
            return "line", str(error).replace(server.url, "URL")


@pytest.fixture(autouse=True)
def _small_key_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a bomb need not be of 512 MiB here."""
    monkeypatch.setattr(keys, "MAX_BYTES", 32 * MIB)


@pytest.fixture(autouse=True)
def _lmcache_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank is enough."""
    monkeypatch.setattr(lmcache_api, "MOST_RANKS", 1)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", REPLIES)
async def test_every_reply_on_every_path_ends_in_a_value_or_in_one_line(reader: str, kind: str) -> None:
    how, what = await outcome(reader, REPLIES[kind])
    if how == "line":
        assert isinstance(what, str)
        assert what.isprintable()
        assert len(what) < 500
    else:
        repr(what).encode()


@pytest.mark.parametrize("kind", [kind for kind in REPLIES if kind not in ("200 MB of metrics", "empty")])
async def test_no_broken_model_list_is_taken_for_one(kind: str) -> None:
    how, what = await outcome("models", REPLIES[kind])
    assert how == "line"
    assert str(what).startswith("URL/v1/models")


@pytest.mark.parametrize(
    "length", ["0", "-1", "4096.0", '"4096"', "true", "false", "1e30", "99999999999", "[]", "{}", "[[[1]]]", "1e9"]
)
async def test_a_context_that_can_be_none_is_said_and_nothing_is_measured(length: str) -> None:
    how, what = await outcome("models", of_json('{"data": [{"id": "m", "max_model_len": ' + length + "}]}"))
    assert how == "line"
    assert str(what).startswith("URL/v1/models: max_model_len is ")
    how, what = await outcome("tokens", of_json('{"tokens": [1, 2], "max_model_len": ' + length + "}"))
    assert how == "line"
    assert str(what).startswith("URL/tokenize: max_model_len is ")


@pytest.mark.parametrize("name", [3, 1.5, True, ["m"], {"a": 1}, "a\nb", "\x1b[2J", " ", "m" * 5000])
async def test_an_id_that_is_no_name_is_said_and_nothing_is_measured(name: object) -> None:
    how, what = await outcome("models", of_json(json.dumps({"data": [{"id": name}]})))
    assert how == "line"
    assert str(what).startswith("URL/v1/models: the id of ")


@pytest.mark.parametrize("entry", [3, None, "m", [], {}, {"id": None}])
async def test_cards_that_name_no_model_are_passed_over(entry: object) -> None:
    how, view = await outcome("models", of_json(json.dumps({"data": [entry, {"id": 7}, {"id": "m"}]})))
    assert how == "value"
    assert isinstance(view, StackView)
    assert view.model == "m"


@pytest.mark.parametrize("token", ["-1", "true", "1.5", "2147483648", "99999999999999999999"])
async def test_ids_of_tokens_that_can_be_none_are_said(token: str) -> None:
    how, what = await outcome("tokens", of_json('{"tokens": [1, ' + token + "]}"))
    assert how == "line"
    assert str(what).startswith("URL/tokenize: the id of a token is ")


@pytest.mark.parametrize("value", ["+Inf", "-Inf", "NaN", "1e400", "1e300", "x", ""])
async def test_a_counter_that_cannot_be_counted_with_is_left_out(value: str) -> None:
    body = f'vllm:a {value}\nprocess_start_time_seconds {value}\nvllm:b 2\nvllm:c{{x="{"y" * 9000}"}} 3\n'
    async with FaultyServer({"/metrics": text(body)}) as server, open_session() as session:
        (seen,) = await scrape(session, (Source(name="engine:0", url=f"{server.url}/metrics"),))
    assert seen.samples == {"vllm:b": 2}
    assert seen.started_s is None
    assert seen.error is None


# --- secrets and redirects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300])
async def test_no_redirect_is_followed_and_the_other_origin_hears_nothing(reader: str, status: int) -> None:
    path, _ = READERS[reader]
    tokens = of_json('{"tokens": [1, 2, 3], "max_model_len": 9, "data": [{"id": "evil"}], "version": "evil"}')
    everything = dict.fromkeys(("/steal", path), tokens)
    async with FaultyServer(everything) as other:
        for target in (f"{other.url}/steal", f"//127.0.0.1:{other.port}{path}"):
            how, what = await outcome(reader, Reply(status=status, headers=(("Location", target),)))
            assert "evil" not in repr(what)
            assert how == "value" or str(what).isprintable()
        assert other.received == []


async def test_lmcache_is_known_by_its_version() -> None:
    how, found = await outcome("LMCache", text('"0.5.6"'))
    assert how == "value"
    assert isinstance(found, tuple)
    assert len(found) == 1


async def test_an_answer_that_repeats_the_secrets_is_read_without_them() -> None:
    said = json.dumps({"error": {"message": "bad key sk-very-secret"}})
    escaped = '{"error": {"message": "bad \\u0073k-very-\\u0073ecret"}}'
    async with FaultyServer({"/a": of_json(said), "/b": of_json(escaped)}) as server:
        session = _redacting(server.url)
        plain = await send(session, "GET", f"{server.url}/a", timeout_s=5)
        hidden = await send(session, "GET", f"{server.url}/b", timeout_s=5)
    assert "sk-very-secret" not in plain.text
    assert "sk-very-secret" not in repr(plain)
    assert hidden.json() == {"error": {"message": "bad ***"}}
    assert {one.headers["authorization"] for one in server.received} == {"Bearer sk-very-secret"}


async def test_headers_of_an_answer_are_whole_texts_without_secrets() -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-Echo: sk-very-secret \xff\xfe\r\nContent-Length: 2\r\n\r\n{}"
    async with FaultyServer({"/a": Reply(raw=True, steps=(raw, Disconnect()))}) as server:
        reply = await send(_redacting(server.url), "GET", f"{server.url}/a", timeout_s=5)
    assert reply.headers["x-echo"].startswith("*** ")
    reply.headers["x-echo"].encode()


# --- the helper itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["", "identity", "gzip", "x-gzip", "GZIP", "deflate"])
async def test_an_answer_is_read_although_it_is_packed(coding: str) -> None:
    body = json.dumps({"a": "ä" * 100_000}, ensure_ascii=False).encode()
    sent = gzip.compress(body) if "gzip" in coding.lower() else zlib.compress(body) if coding == "deflate" else body
    async with FaultyServer({"/a": packed(sent, coding)}) as server, open_session() as session:
        reply = await send(session, "GET", f"{server.url}/a", timeout_s=5)
    assert reply.json() == {"a": "ä" * 100_000}
    assert server.received[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("size", [0, 1, 2**16 - 1, 2**16, 2**16 + 1, MIB])
async def test_the_limit_is_the_last_byte_that_is_taken(size: int) -> None:
    for reply in (Reply(steps=(b"x" * size,)), packed(gzip.compress(b"x" * size, 0))):
        async with FaultyServer({"/a": reply}) as server, open_session() as session:
            most = size + 200  # packing adds a few bytes, which count too
            assert len((await send(session, "GET", f"{server.url}/a", timeout_s=5, most_bytes=most)).text) == size
            if size > 1:
                with pytest.raises(NoReply, match="sends an answer larger than"):
                    await send(session, "GET", f"{server.url}/a", timeout_s=5, most_bytes=size - 1)


async def test_a_slow_drip_ends_with_the_time_for_the_whole_exchange() -> None:
    drip = Reply(headers=(JSON,), steps=(b"{", *(Pause(0.02), b" ") * 500, Hang()), chunked=True)
    async with FaultyServer({"/a": drip}) as server, open_session() as session:
        with pytest.raises(NoReply, match=r"does not answer within 0\.3 s") as raised:
            await send(session, "GET", f"{server.url}/a", timeout_s=0.3)
    assert raised.value.timed_out


def test_asking_now_is_limited_in_time_too() -> None:
    drip = Reply(headers=(JSON,), steps=(b"{", *(Pause(0.02), b" ") * 500, Hang()), chunked=True)
    with FaultyServer({"/a": drip}) as server:
        with pytest.raises(NoReply, match=r"does not answer within 0\.3 s"):
            send_now("GET", f"{server.url}/a", timeout_s=0.3)
        assert send_now("GET", f"{server.url}/v1/models", timeout_s=5).status == 200


async def test_of_a_refusal_the_beginning_is_read_however_long_or_badly_packed_it_is() -> None:
    long = Reply(status=500, steps=(b"no: " + b"x" * MIB,) * 3, chunked=True)
    odd = Reply(status=401, headers=(("Content-Encoding", "br"),), steps=(b"\x00\x01",))
    async with FaultyServer({"/a": long, "/b": odd}) as server, open_session() as session:
        with pytest.raises(NoReply):
            await send(session, "GET", "http://127.0.0.1:1/", timeout_s=5)
        reply = await send(session, "GET", f"{server.url}/a", timeout_s=5, most_bytes=10)
        assert (reply.status, reply.text[:5]) == (500, "no: x")
        assert len(reply.text) == 2**16
        assert (await send(session, "GET", f"{server.url}/b", timeout_s=5)).status == 401


async def test_lines_are_taken_as_they_come_wherever_they_are_cut() -> None:
    body = b"one\ntwo\n\nthr\xc3\xa9e"
    steps = tuple(part for place in range(len(body)) for part in (body[place : place + 1], Pause(0)))
    async with FaultyServer({"/a": Reply(steps=steps, chunked=True)}) as server, open_session() as session:
        lines: list[str] = []
        assert await each_line(session, f"{server.url}/a", lines.append, timeout_s=5, most_bytes=MIB) == 200
    assert lines == ["one", "two", "", "thrée"]


async def test_a_line_without_end_is_refused() -> None:
    async with FaultyServer({"/a": Reply(steps=(b"x" * MIB,) * 8, chunked=True)}) as server, open_session() as session:
        with pytest.raises(NoReply, match="a line of more than 64 KiB"):
            await each_line(session, f"{server.url}/a", lambda _: None, timeout_s=5, most_bytes=32 * MIB)


async def test_only_the_first_foreign_keys_are_kept_while_all_are_counted() -> None:
    listed = "".join(f"key-{number}\n" for number in range(50_000)) + "ours@run%1\n"
    async with FaultyServer({"/get_all_keys": text(listed)}) as server, open_session() as session:
        seen = await count_keys(session, Store(master_url=server.url), lambda key: key.endswith("@run%1"))
    assert (seen.own, seen.foreign) == (1, 50_000)
    assert seen.foreign_sample == tuple(f"key-{number}" for number in range(5))


@pytest.mark.parametrize("url", ["http://", "http://[::1", "nonsense", "http://host:99999999/", "ftp://127.0.0.1/"])
async def test_an_address_that_can_be_none_is_one_line(url: str) -> None:
    async with open_session() as session:
        with pytest.raises(BorderError) as raised:
            await send(session, "GET", url, timeout_s=5)
    assert str(raised.value).isprintable()
