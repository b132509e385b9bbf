"""Plain synchronous HTTP to a port on loopback, for probing a stack while it starts; no proxies, no retries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_mooncake.border.http import NoReply, send_now
from pytest_mooncake.border.values import finite

HOST = "127.0.0.1"
PROBE_S = 2.0


def get(port: int, path: str, timeout_s: float = PROBE_S) -> str | None:
    """The body of a 200 answer, or None for anything else, refused connections included."""
    try:
        reply = send_now("GET", f"http://{HOST}:{port}{path}", timeout_s=timeout_s)
    except NoReply:
        return None
    return reply.text if reply.status == 200 else None


def post(port: int, path: str, body: Mapping[str, Any], timeout_s: float) -> tuple[int | None, str]:
    """Status and body of the answer to a JSON request; status None and the reason where there was none."""
    url = f"http://{HOST}:{port}{path}"
    try:
        reply = send_now("POST", url, timeout_s=timeout_s, body=json.dumps(body).encode())
    except NoReply as problem:
        return None, f"it {problem.why}"
    return reply.status, reply.text


def sample(exposition: str, name: str) -> float | None:
    """The sum over all series called `name` in a Prometheus exposition, None where there is none that is a number."""
    lines = (line for line in exposition.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    values = [value for line in lines if (value := _number(line.rpartition(" ")[2])) is not None]
    return sum(values) if values else None


def _number(text: str) -> float | None:
    try:
        return finite(float(text))
    except ValueError:
        return None
