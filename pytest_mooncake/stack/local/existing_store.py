"""Whether a store that engines are to join is there, said before the first engine is started."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from pytest_mooncake.border.http import NoReply, send_now
from pytest_mooncake.errors import EndpointError
from pytest_mooncake.stack.local.components import RunningStore

__all__ = ["require_store"]

PROBE_S = 5.0
MAX_BYTES = 16 * 2**20


def require_store(store: RunningStore) -> None:
    """Look for the master's RPC port, its counters and its metadata server.

    Raises:
        EndpointError: One of them does not answer as it should; the message says which option names it.
    """
    parts = urlsplit(f"//{store.rpc_address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), PROBE_S):
            pass
    except OSError as error:
        why = error.strerror or str(error)
        raise EndpointError(
            f"--mooncake-url mooncakestore://{store.rpc_address}: {why}; it takes the master's RPC port "
            "(--rpc_port, 50051 by default)"
        ) from None
    if "master_key_count" not in _get(f"{store.admin_url}/metrics", "--mooncake-master http://host:9003"):
        raise EndpointError(
            f"{store.admin_url}/metrics shows no counters of a Mooncake master; name its admin port "
            "(--metrics_port) with --mooncake-master"
        )
    _get(store.metadata_url, "--mooncake-metadata http://host:8080/metadata")


def _get(url: str, option: str) -> str:
    """The body of an answer, empty for a refusal: a metadata server answers 400 to a request without a key."""
    try:
        reply = send_now("GET", url, timeout_s=PROBE_S, most_bytes=MAX_BYTES)
    except NoReply as problem:
        raise EndpointError(f"{problem}; name the right address with {option}") from None
    return reply.text if reply.status == 200 else ""
