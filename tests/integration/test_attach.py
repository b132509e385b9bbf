"""Attaching over real sockets: what is read from a good endpoint, and one clear line for each bad one."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.errors import EndpointError, MooncakeError, UsageError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.plan.secrets.credentials import api_key
from pytest_mooncake.records import KVGeometry, StackView
from pytest_mooncake.stack.attach import attach
from pytest_mooncake.stack.probe import printable
from pytest_mooncake.stack.simulated import SIMULATED_NOTE
from pytest_mooncake.stack.simulated.serving import serving
from tests.support.faulty_server import (
    MODEL,
    Disconnect,
    FaultyServer,
    Reply,
    error,
    garbage,
    hang_up,
    json_reply,
    limited,
    models,
    redirect,
    silent,
    text,
)

KEY = "sk-very-secret"
VLLM = text('# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{engine="0"} 1\n')
MASTER = text("master_key_count 0\n")


def plan_for(*urls: str, **fields: Any) -> StackPlan:
    return StackPlan.model_validate({"name": "attached", "kind": "attached", "urls": urls, **fields})


async def look(
    *urls: str, environ: Mapping[str, str] | None = None, timeout_s: float = 5.0, **fields: Any
) -> StackView:
    return await attach(plan_for(*urls, **fields), environ=environ or {}, progress=lambda _: None, timeout_s=timeout_s)


async def complaint(*urls: str, environ: Mapping[str, str] | None = None, timeout_s: float = 5.0, **fields: Any) -> str:
    """Return the one line that attaching ends with."""
    with pytest.raises(MooncakeError) as raised:
        await look(*urls, environ=environ, timeout_s=timeout_s, **fields)
    message = str(raised.value)
    assert raised.value.exit_code == 4
    assert message.isprintable()
    assert KEY not in message
    return message


async def complaint_about(routes: Mapping[str, Any], **fields: Any) -> str:
    async with FaultyServer(routes) as server:
        return (await complaint(server.url, **fields)).replace(server.url, "URL")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- what a good endpoint tells ---------------------------------------------------------------------------------------


async def test_the_only_model_is_taken_and_counters_are_found() -> None:
    lines: list[str] = []
    routes = {"/metrics": VLLM, "/version": json_reply({"version": "0.32.0"})}
    async with FaultyServer(routes) as server:
        view = await attach(plan_for(f"{server.url}/v1/"), environ={}, progress=lines.append)
    assert view.model == MODEL
    assert view.max_model_len == 32768
    assert view.engines[0].url == server.url
    assert view.engines[0].metrics_url == f"{server.url}/metrics"
    assert view.versions == {"engine-0": "0.32.0"}
    assert not view.provisioned
    assert not view.simulated
    assert view.kv is None
    assert view.store is None
    assert view.notes == ()
    assert lines == [f"asking {server.url} what it serves"]


@pytest.mark.parametrize(
    "metrics", [error(404), error(401), hang_up(), text("python_gc_objects 1\n"), redirect("http://x/")]
)
async def test_an_endpoint_without_counters_is_attached_and_the_reports_say_so(metrics: Reply) -> None:
    async with FaultyServer({"/metrics": metrics}) as server:
        view = await look(server.url)
    assert view.engines[0].metrics_url is None
    assert len(view.notes) == 1
    assert "--mooncake-metrics" in view.notes[0]


@pytest.mark.parametrize("version", [error(404), text("hello"), json_reply([1]), json_reply({"version": 3}), hang_up()])
async def test_a_version_that_cannot_be_read_is_not_told(version: Reply) -> None:
    async with FaultyServer({"/version": version}) as server:
        assert (await look(server.url)).versions == {}


async def test_a_named_model_is_looked_up_among_several() -> None:
    async with FaultyServer({"/v1/models": models("a", "b")}) as server:
        view = await look(server.url, model_name="b")
    assert view.model == "b"
    assert view.max_model_len is None
    assert view.details["models"] == ["a", "b"]


async def test_a_gateway_without_a_model_list_is_taken_at_its_word() -> None:
    routes = {"/v1/models": error(404), "/v1/completions": error(404), "/v1/chat/completions": error(400)}
    async with FaultyServer(routes) as server:
        view = await look(server.url, model_name="gpt")
        sent = [one.body for one in server.received if one.method == "POST"]
    assert view.model == "gpt"
    assert any("unchecked" in note for note in view.notes)
    assert sent == [b"{}", b"{}"]


@pytest.mark.parametrize("name", ["a\udcff", "a\nb", " "])
async def test_a_name_that_no_request_can_carry_is_not_taken_at_its_word(name: str) -> None:
    routes = {"/v1/models": error(404), "/v1/completions": error(400)}
    assert "--mooncake-model: the name is " in await complaint_about(routes, model_name=name)


async def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    async with FaultyServer({"/metrics": VLLM}) as server, FaultyServer({"/metrics": MASTER}) as master:
        view = await look(server.url, environ={"MY_KEY": KEY}, api_key_env="MY_KEY", master_url=master.url)
    assert {one.headers.get("authorization") for one in server.received} == {f"Bearer {KEY}"}
    assert {one.headers.get("authorization") for one in master.received} == {None}
    assert KEY not in repr(view)


async def test_counters_at_another_place_are_asked_for_without_the_key() -> None:
    async with FaultyServer() as server, FaultyServer({"/prom": VLLM}) as other:
        view = await look(
            server.url, environ={"MY_KEY": KEY}, api_key_env="MY_KEY", metrics_urls=(f"{other.url}/prom",)
        )
    assert view.engines[0].metrics_url == f"{other.url}/prom"
    assert "authorization" not in other.received[0].headers


async def test_without_a_key_none_is_sent() -> None:
    async with FaultyServer() as server:
        await look(server.url)
    assert all("authorization" not in one.headers for one in server.received)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with FaultyServer() as server:
        assert (await look(server.url)).model == MODEL


async def test_several_engines_serve_one_model_and_the_shortest_context_counts() -> None:
    async with FaultyServer() as one, FaultyServer({"/v1/models": models("x", MODEL, max_model_len=4096)}) as other:
        view = await look(one.url, other.url)
    assert [engine.url for engine in view.engines] == [one.url, other.url]
    assert view.max_model_len == 4096


async def test_the_store_is_known_where_the_master_shows_its_counters() -> None:
    async with FaultyServer() as server, FaultyServer({"/metrics": MASTER, "/metadata": error(404)}) as master:
        view = await look(server.url, master_url=f"{master.url}/metrics", metadata_url=f"{master.url}/metadata")
    assert view.store is not None
    assert view.store.master_url == master.url
    assert view.store.metadata_url == f"{master.url}/metadata"


async def test_a_simulated_endpoint_is_recognised_and_stays_marked() -> None:
    plan = StackPlan(name="s", kind="simulated")
    async with serving(plan) as simulated:
        view = await look(*simulated.engine_urls, master_url=simulated.master_url)
    assert view.simulated
    assert not view.provisioned
    assert SIMULATED_NOTE in view.notes
    assert view.kv == KVGeometry(bytes_per_token=512, chunk_tokens=256)
    assert view.max_model_len == 32768
    assert view.engines[0].metrics_url is not None


async def test_a_chunk_size_that_was_given_is_known_where_the_endpoint_does_not_tell() -> None:
    async with FaultyServer({"/v1/models": models("m")}) as server:
        assert chunk_tokens_of(await look(server.url)) is None
        assert chunk_tokens_of(await look(server.url, chunk_tokens=1024)) == 1024
        own = await look(server.url, connector={"kind": "mooncakestore"})
        assert own.details["connector"] == "mooncakestore"
    kv = {"bytes_per_token": 512, "chunk_tokens": 256}
    async with FaultyServer({"/v1/models": models("m", kv=kv)}) as server:
        assert chunk_tokens_of(await look(server.url, chunk_tokens=256)) == 256
        assert "its chunks hold 256 tokens; leave the option out" in await complaint(server.url, chunk_tokens=1024)


@pytest.mark.parametrize("kv", [5, {}, {"bytes_per_token": "512", "chunk_tokens": 256}, {"bytes_per_token": 0}])
async def test_a_geometry_that_makes_no_sense_is_no_geometry(kv: Any) -> None:
    async with FaultyServer({"/v1/models": models("m", kv=kv)}) as server:
        assert (await look(server.url)).kv is None


# --- bad input: one line each -----------------------------------------------------------------------------------------


async def test_nothing_listens_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert await complaint(url) == (
        f"{url}/v1/models refuses the connection: nothing listens there; is the server up, and the port right?"
    )


async def test_a_host_that_has_no_address() -> None:
    assert "host name that cannot be resolved" in await complaint("http://no-such-host.invalid:8000")


async def test_a_host_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: Any, **__: Any) -> None:
        raise OSError(113, "No route to host")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", unreachable)
    assert "cannot be reached: No route to host" in await complaint("http://127.0.0.1:9")


@pytest.mark.parametrize("reply", [garbage(), garbage(b"\x15\x03\x03\x00\x02\x02\x46"), garbage(b"+PONG\r\n")])
async def test_something_that_speaks_no_http(reply: Reply) -> None:
    message = await complaint_about({"/v1/models": reply})
    assert message == "URL/v1/models answers, but not in HTTP: is it https://, or the port of something else?"


async def test_a_connection_that_is_closed_at_once() -> None:
    message = await complaint_about({"/v1/models": hang_up()})
    assert message.startswith("URL/v1/models closes the connection without an answer: is it https://")


async def test_an_answer_that_breaks_off() -> None:
    broken = Reply(headers=(("Content-Type", "application/json"),), steps=(b'{"data', Disconnect()), chunked=True)
    assert "breaks its answer off in the middle" in await complaint_about({"/v1/models": broken})


@pytest.mark.parametrize("status", [401, 403])
async def test_a_missing_key_names_the_option(status: int) -> None:
    message = await complaint_about({"/v1/models": error(status, "who are you?")})
    assert f"refuses us ({status}" in message
    assert "name the variable that holds its key with --mooncake-api-key-env" in message
    assert message.endswith("; it says: who are you?")


async def test_a_wrong_key_names_the_variable_and_is_not_repeated_although_the_server_does() -> None:
    routes = {"/v1/models": error(401, f"bad key {KEY}")}
    message = await complaint_about(routes, environ={"MY_KEY": KEY}, api_key_env="MY_KEY")
    assert "is the key in $MY_KEY (--mooncake-api-key-env) the right one?" in message
    assert message.endswith("bad key ***")


async def test_a_variable_that_is_not_set() -> None:
    message = await complaint("http://127.0.0.1:1", api_key_env="MY_KEY")
    assert message.startswith("--mooncake-api-key-env MY_KEY: no such environment variable, or it is empty")


async def test_the_key_itself_in_place_of_its_variables_name_is_not_repeated() -> None:
    assert "(name not shown" in await complaint("http://127.0.0.1:1", api_key_env=KEY)


@pytest.mark.parametrize("value", ["two\nlines", "schlüssel", "a\x00b"])
def test_a_key_that_no_header_can_carry(value: str) -> None:
    with pytest.raises(EndpointError, match="no header can carry") as raised:
        api_key("MY_KEY", {"MY_KEY": value})
    assert value not in str(raised.value)


def test_white_space_around_a_key_is_not_part_of_it() -> None:
    assert api_key("MY_KEY", {"MY_KEY": f" {KEY}\n"}) == KEY


async def test_a_path_without_an_api_says_what_is_appended() -> None:
    message = await complaint_about({"/v1/models": error(404, "Not Found")})
    assert "URL/v1/models answers 404 Not Found" in message
    assert "`/v1` is appended to it by itself" in message
    assert "--mooncake-model" in message


async def test_a_named_model_does_not_hide_that_there_is_no_api() -> None:
    routes = {name: error(404) for name in ("/v1/models", "/v1/completions", "/v1/chat/completions")}
    message = await complaint_about(routes, model_name="m")
    assert "answers 404 Not Found" in message
    assert "/v1/completions and /v1/chat/completions: 404 too" in message


async def test_a_gateway_without_a_model_list_that_refuses_us() -> None:
    message = await complaint_about({"/v1/models": error(404), "/v1/completions": error(401)}, model_name="m")
    assert "/v1/completions refuses us (401 Unauthorized)" in message


async def test_a_server_error_shows_the_first_line_of_what_it_says_escaped_and_cut() -> None:
    body = "\n\n  \x1b[31mTraceback " + "x" * 500 + "\nsecond line"
    message = await complaint_about({"/v1/models": text(body, 500)})
    assert message.startswith("URL/v1/models answers 500 Internal Server Error; it says: \\x1b[31mTraceback xxx")
    assert message.endswith("…")
    assert "second line" not in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "engine is dead"}}, "; it says: engine is dead"),
        ({"detail": "nope"}, "; it says: nope"),
        ({"message": "nope"}, "; it says: nope"),
        ({"error": "nope"}, "; it says: nope"),
        ({"error": {"code": 5}}, '; it says: {"error": {"code": 5}}'),
    ],
)
async def test_an_error_body_in_json_shows_its_message(body: object, said: str) -> None:
    assert (await complaint_about({"/v1/models": json_reply(body, 503)})).endswith(said)


async def test_an_error_without_a_body_and_of_an_unknown_status() -> None:
    assert await complaint_about({"/v1/models": Reply(status=599)}) == "URL/v1/models answers 599"


async def test_a_rate_limit_tells_how_long_to_wait() -> None:
    message = await complaint_about({"/v1/models": limited(30)})
    assert "limits our rate (429 Too Many Requests, Retry-After 30)" in message
    assert "limits our rate (429 Too Many Requests):" in await complaint_about({"/v1/models": error(429)})


async def test_a_redirect_is_not_followed_and_shows_where_to_without_credentials() -> None:
    async with FaultyServer() as elsewhere:
        target = elsewhere.url.replace("//", "//user:pw@") + "/v1/models"
        message = await complaint_about({"/v1/models": redirect(target)})
        assert elsewhere.received == []
    assert f"redirects (307 Temporary Redirect) to {elsewhere.url.replace('//', '//***@')}/v1/models" in message
    assert "nowhere" in await complaint_about({"/v1/models": Reply(status=302)})


async def test_a_server_that_never_answers() -> None:
    message = await complaint_about({"/v1/models": silent()}, timeout_s=0.2)
    assert message.startswith("URL/v1/models does not answer within 0.2 s")


async def test_an_answer_without_end_is_cut_by_the_time_limit() -> None:
    endless = json_reply({"data": []})
    endless = Reply(headers=endless.headers, steps=(b"{", *(silent().steps)), chunked=True)
    assert "does not answer within 0.2 s" in await complaint_about({"/v1/models": endless}, timeout_s=0.2)


async def test_no_more_than_four_mebibytes_are_read() -> None:
    huge = Reply(steps=tuple(b"x" * 2**20 for _ in range(6)), chunked=True)
    message = await complaint_about({"/v1/models": huge})
    assert message == "URL/v1/models sends an answer larger than 4 MiB, which is not read: is the address right?"
    assert len(message) < 400


async def test_a_web_page_where_json_was_expected() -> None:
    message = await complaint_about({"/v1/models": text("<!doctype html>\n<html>", content_type="text/html")})
    assert message == (
        "URL/v1/models does not answer with an OpenAI-compatible model list but with text/html; "
        "it says: <!doctype html>; is the port right?"
    )


@pytest.mark.parametrize("body", [[], {}, {"data": 5}, "hi", None])
async def test_json_that_is_no_model_list(body: object) -> None:
    assert "no OpenAI-compatible model list" in await complaint_about({"/v1/models": json_reply(body)})


@pytest.mark.parametrize("data", [[], [5], [{}]])
async def test_an_endpoint_that_serves_nothing(data: object) -> None:
    assert "lists no model" in await complaint_about({"/v1/models": json_reply({"data": data})})


async def test_several_models_and_none_chosen() -> None:
    names = [f"model-{number}" for number in range(10)]
    message = await complaint_about({"/v1/models": models(*names)})
    assert "URL serves 10 models ('model-0', " in message
    assert "'model-7' and 2 more): choose one with --mooncake-model NAME" in message


async def test_a_model_that_is_not_there_suggests_the_nearest() -> None:
    routes = {"/v1/models": models("Qwen2.5-72B-Instruct", "other\x1b[2J")}
    message = await complaint_about(routes, model_name="Qwen2.5-72B")
    assert message == (
        "URL has no model 'Qwen2.5-72B'; nearest: 'Qwen2.5-72B-Instruct'; choose with --mooncake-model NAME"
    )
    far = await complaint_about(routes, model_name="zzz")
    assert "it serves: 'Qwen2.5-72B-Instruct', 'other\\\\x1b[2J'" in far


async def test_engines_that_serve_different_models() -> None:
    async with FaultyServer({"/v1/models": models("a")}) as one, FaultyServer({"/v1/models": models("b")}) as other:
        assert f"{other.url} has no model 'a'" in await complaint(one.url, other.url)


async def test_options_that_contradict_each_other() -> None:
    url = "http://127.0.0.1:1"
    assert "nothing to attach to" in await complaint()
    assert "is given twice" in await complaint(url, f"{url}/v1")
    two = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert "3 --mooncake-metrics for 2 --mooncake-url" in await complaint(*two, metrics_urls=(url, url, url))
    assert "no use without --mooncake-master" in await complaint(url, metadata_url=url)
    assert "names a store and no engine" in await complaint("mooncakestore://h:50051")


async def test_credentials_in_an_address_are_refused() -> None:
    with pytest.raises(UsageError, match="no credentials in an address") as raised:
        await look("http://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in str(raised.value)


async def test_counters_that_were_named_have_to_be_there() -> None:
    async with FaultyServer({"/other": text("up 1\n")}) as server:
        absent = await complaint(server.url, metrics_urls=(server.url,))
        other = await complaint(server.url, metrics_urls=(f"{server.url}/other",))
    assert "/metrics answers 404 Not Found: does --mooncake-metrics name an engine's metrics address?" in absent
    assert "shows no counters of vLLM" in other


async def test_a_master_that_is_none() -> None:
    async with FaultyServer() as server:
        url = f"http://127.0.0.1:{free_port()}"
        assert f"{url}/metrics refuses the connection" in await complaint(server.url, master_url=url)
        rpc = await complaint(server.url, master_url=server.url)
        async with FaultyServer({"/metrics": text("up 1\n")}) as other:
            none = await complaint(server.url, master_url=other.url)
        async with FaultyServer({"/metrics": MASTER}) as master:
            metadata = await complaint(server.url, master_url=master.url, metadata_url=url)
    assert "admin port (--metrics_port, 9003 by default), not its RPC port" in rpc
    assert "shows no counters of a Mooncake master" in none
    assert f"{url} refuses the connection" in metadata


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Return a server context with a certificate that nobody signed."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed: no certificate to test TLS with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_certificate_that_nobody_signed(untrusted: ssl.SSLContext) -> None:
    async with FaultyServer(tls=untrusted) as server:
        message = await complaint(server.url)
    assert "has a TLS certificate that is not trusted (self" in message
    assert "SSL_CERT_FILE" in message


async def test_https_towards_a_server_that_speaks_none() -> None:
    async with FaultyServer() as server:
        message = await complaint(server.url.replace("http:", "https:"))
        server.tls_reply = hang_up()
        reset = await complaint(server.url.replace("http:", "https:"))
    assert "does not speak TLS: is it http:// instead of https://" in message
    assert "closes the connection without an answer: is it http://" in reset


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_http_towards_a_server_that_speaks_tls(untrusted: ssl.SSLContext) -> None:
    async with FaultyServer(tls=untrusted) as server:
        message = await complaint(server.url.replace("https:", "http:"))
    assert "is it https://" in message


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_text_of_a_server_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\n"


def test_attaching_needs_no_simulated_stack_and_no_heavy_import(tmp_path: Path) -> None:
    code = "import sys, pytest_mooncake.stack.attach as a; print([m for m in ('scipy', 'numpy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_the_faulty_server_is_asked_with_the_client_the_product_uses() -> None:
    async with FaultyServer() as server, aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/nothing") as response:
            assert response.status == 404
        assert server.requests_to("/nothing")[0].method == "GET"
