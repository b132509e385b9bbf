"""A store that engines are to join is looked for before the first of them starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_mooncake.errors import EndpointError
from pytest_mooncake.stack.local.components import RunningStore
from pytest_mooncake.stack.local.existing_store import require_store
from tests.support.standin import Server


@contextmanager
def serving(gets: dict[str, tuple[int, str]]) -> Iterator[int]:
    server = Server(0, {path: lambda answer=answer: answer for path, answer in gets.items()})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


METRICS = {"/metrics": (200, "master_key_count 8\n")}


def store(port: int, admin: int | None = None, metadata: int | None = None) -> RunningStore:
    """A store whose RPC port is any that listens."""
    return RunningStore(
        rpc_address=f"127.0.0.1:{port}",
        admin_url=f"http://127.0.0.1:{admin or port}",
        metadata_url=f"http://127.0.0.1:{metadata or port}/metadata",
    )


def test_a_store_with_master_counters_and_metadata_is_found() -> None:
    with serving(METRICS | {"/metadata": (400, "key is required")}) as port:
        require_store(store(port))


def test_an_rpc_port_where_nothing_listens_is_named_with_its_option() -> None:
    with pytest.raises(EndpointError, match=r"--mooncake-url mooncakestore://127\.0\.0\.1:1: .*RPC port") as caught:
        require_store(store(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gets", [{}, {"/metrics": (200, "vllm:prompt_tokens_total 1\n")}])
def test_an_admin_port_without_a_masters_counters_is_named(gets: dict[str, tuple[int, str]]) -> None:
    with serving(gets) as port, pytest.raises(EndpointError, match=r"name its admin port .* with --mooncake-master"):
        require_store(store(port))


def test_an_admin_port_or_metadata_server_that_is_not_there_is_named_with_its_option() -> None:
    with serving(METRICS) as port:
        with pytest.raises(EndpointError, match=r"http://127\.0\.0\.1:1/metrics .*--mooncake-master"):
            require_store(store(port, admin=1))
        with pytest.raises(EndpointError, match=r"http://127\.0\.0\.1:1/metadata .*--mooncake-metadata"):
            require_store(store(port, metadata=1))
