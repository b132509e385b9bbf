"""Plain synchronous HTTP to a port on loopback, for probing a stack while it starts; no proxies, no retries."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

HOST = "127.0.0.1"
PROBE_S = 2.0


def get(port: int, path: str, timeout_s: float = PROBE_S) -> str | None:
    """The body of a 200 answer, or None for anything else, refused connections included."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
        return body if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def post(port: int, path: str, body: Mapping[str, Any], timeout_s: float) -> tuple[int | None, str]:
    """Status and body of the answer to a JSON request; status None and the reason where there was none."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return None, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def sample(exposition: str, name: str) -> float | None:
    """The sum over all series called `name` in a Prometheus exposition, None where there is none."""
    values = [
        float(line.rsplit(" ", 1)[1]) for line in exposition.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
    ]
    return sum(values) if values else None
