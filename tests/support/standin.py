"""Stands in for every program of a local stack, so that its assembly can be tested in seconds and made to fail.

Started as `standin.py master|node|engine ARGUMENTS` with the arguments of the real one. The master keeps the two
counters that prove a store; an engine stores and reads by telling the master so on its RPC port. `STANDIN` in an
engine's environment makes it fail: die, die-forked, die-serving, mute, deaf-store, refuse.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


class Handler(BaseHTTPRequestHandler):
    """Answers by the server's tables of GET and POST functions."""

    server: Server

    def do_GET(self) -> None:
        self._answer(self.server.gets, self.path)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(self.server.posts, self.path, body)

    def _answer(self, table: dict[str, Any], path: str, *arguments: Any) -> None:
        status, text = table[path](*arguments) if path in table else (404, "")
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server with tables."""

    daemon_threads = True

    def __init__(self, port: int, gets: dict[str, Any], posts: dict[str, Any] | None = None) -> None:
        super().__init__((HOST, port), Handler)
        self.gets, self.posts = gets, posts or {}


def flag(arguments: list[str], name: str) -> str:
    """The value of `-name=value`."""
    return next(argument.partition("=")[2] for argument in arguments if argument.startswith(f"-{name}="))


def master(arguments: list[str]) -> None:
    """Metrics on the admin port; `/store` and `/read` on the RPC port."""
    keys: set[str] = set()
    hits = 0

    def store(body: bytes) -> tuple[int, str]:
        keys.update(json.loads(body))
        return 200, ""

    def read(body: bytes) -> tuple[int, str]:
        nonlocal hits
        found = [key for key in json.loads(body) if key in keys]
        hits += len(found)
        return 200, str(len(found))

    def metrics() -> tuple[int, str]:
        return 200, f"master_key_count {len(keys)}\nmem_cache_hit_nums_ {hits}\n"

    rpc = Server(int(flag(arguments, "rpc_port")), {}, {"/store": store, "/read": read})
    threading.Thread(target=rpc.serve_forever, daemon=True).start()
    Server(int(flag(arguments, "metrics_port")), {"/metrics": metrics}).serve_forever()


def node(arguments: list[str]) -> None:
    """Metrics, and nothing in them."""
    Server(int(flag(arguments, "http_port")), {"/metrics": lambda: (200, "")}).serve_forever()


def settings() -> Any:
    """The engine's LMCache configuration."""
    import yaml

    return yaml.safe_load(Path(os.environ["LMCACHE_CONFIG_FILE"]).read_text())


def tell_master(what: str, keys: list[str]) -> int:
    """POST to the master that the engine's configuration names."""
    config = settings()
    address = config["extra_config"]["mooncake_master_server_addr"]
    request = urllib.request.Request(f"http://{address}/{what}", json.dumps(keys).encode())
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        return int(answer.read() or 0)


def engine(arguments: list[str]) -> None:
    """Health and completions; stores whole chunks, reads them back the second time."""
    fault = os.environ.get("STANDIN", "")
    forked = arguments[0].endswith(".serve")
    if forked:
        print("[launcher] everything is imported", flush=True)
    if fault == "die" or (fault == "die-forked" and forked):
        print("(EngineCore pid=1) started\nRuntimeError: no such instruction", flush=True)
        sys.exit(1)
    if fault == "refuse":
        print("vllm: error: unrecognized arguments: --nonsense", flush=True)
        sys.exit(2)

    def complete(body: bytes) -> tuple[int, str]:
        if fault == "die-serving":
            print("RuntimeError: EngineCore died", flush=True)
            os._exit(1)
        if fault == "mute":
            return 500, '{"error": "EngineCore encountered an issue"}'
        prompt = json.loads(body)["prompt"]
        size = settings()["chunk_size"]
        chunks = [str(hash(tuple(prompt[: end * size]))) for end in range(1, len(prompt) // size + 1)]
        if fault != "deaf-store" and "--kv-transfer-config" in arguments:
            tell_master("read", chunks)
            tell_master("store", chunks)
        return 200, json.dumps({"usage": {"prompt_tokens": len(prompt)}})

    port = int(arguments[arguments.index("--port") + 1])
    time.sleep(float(os.environ.get("STANDIN_DELAY_S", "0")))
    Server(port, {"/health": lambda: (200, "")}, {"/v1/completions": complete}).serve_forever()


if __name__ == "__main__":
    {"master": master, "node": node, "engine": engine}[sys.argv[1]](sys.argv[2:])
