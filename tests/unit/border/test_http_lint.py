"""Nobody but the border and the measuring client asks a server: what ruff's banned imports cannot see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "pytest_mooncake"
METHODS = {"get", "post", "put", "patch", "delete", "head", "options", "request", "ws_connect"}
MODULES = {"http.client", "urllib.request", "requests", "httpx", "urllib3"}
ALLOWED = (
    "border/http.py",
    "load/",  # the measuring client, which stamps every read and has bounds of its own
    "stack/local/inside/",  # runs in the processes of the stack
    "stack/simulated/",  # servers
)


def violations(source: str) -> Iterator[str]:
    """What of a module asks a server on its own, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _name(node.func).rpartition(".")[2] in {"ClientSession", "urlopen"}:
            yield f"{node.lineno}: opens a session"
        elif isinstance(node, ast.AsyncWith):
            yield from (f"{node.lineno}: asks" for item in node.items if _is_request(item.context_expr))
        elif isinstance(node, ast.Await) and _is_request(node.value) and _is_session(node.value):
            yield f"{node.lineno}: asks"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"{node.lineno}: imports {name}" for name in _imported(node) if name in MODULES)


def _name(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _is_request(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS


def _is_session(node: ast.AST) -> bool:
    assert isinstance(node, ast.Call)
    return any(word in ast.unparse(node.func).lower() for word in ("session", "http"))


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    names = [alias.name for alias in node.names]
    return names if isinstance(node, ast.Import) else [node.module or "", *(f"{node.module}.{name}" for name in names)]


@pytest.mark.parametrize(
    "source",
    [
        "import aiohttp\naiohttp.ClientSession()",
        "from aiohttp import ClientSession as C\nfrom aiohttp import ClientSession\nClientSession(trust_env=False)",
        "async def f(session):\n    async with session.get('u') as r: ...",
        "async def f(self):\n    async with self.http.request('GET', 'u') as r: ...",
        "async def f(session):\n    return await session.post('u')",
        "import urllib.request",
        "from urllib import request",
        "from http.client import HTTPConnection",
        "import requests",
    ],
)
def test_every_way_to_ask_is_seen(source: str) -> None:
    assert list(violations(source))


@pytest.mark.parametrize(
    "source",
    [
        "async def f(prober):\n    return await prober.get('u')",
        "def f(values):\n    return values.get('a')",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import aiohttp\ndef f(s: aiohttp.ClientSession): ...",
        "import urllib.parse",
    ],
)
def test_what_asks_nobody_is_left_alone(source: str) -> None:
    assert not list(violations(source))


def test_only_the_border_and_the_measuring_client_ask_servers() -> None:
    found = {
        f"{name}:{what}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not (name := path.relative_to(PACKAGE).as_posix()).startswith(ALLOWED)
        for what in violations(path.read_text(encoding="utf-8"))
        if not name.startswith(PENDING)
    }
    assert not found, "ask through pytest_mooncake.border.http.send"


PENDING = ("cache/probes.py",)
"""Read through `cache.body.read_text`, which is bounded; goes as soon as its rewrite asks through `send`."""
