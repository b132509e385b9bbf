"""What is said about ports that everybody on the network can reach."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_mooncake.stack.local.view import exposure, listening_everywhere
from pytest_mooncake.stack.process import Supervisor


def supervisor(**fields: Any) -> Supervisor:
    found = {"netns": None, "problem": None, "processes": lambda: (os.getpid(),)} | fields
    return cast(Supervisor, SimpleNamespace(**found))


@pytest.fixture
def everywhere() -> Iterator[int]:
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def test_only_ports_bound_to_no_address_are_exposed(everywhere: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as loopback:
        found = listening_everywhere([os.getpid()])
        assert everywhere in found
        assert loopback.getsockname()[1] not in found


def test_a_process_that_is_gone_exposes_nothing() -> None:
    assert listening_everywhere([2**22 + 1]) == ()


def test_one_sentence_names_the_ports_and_why_there_is_no_namespace(everywhere: int) -> None:
    (plain,) = exposure(supervisor())
    assert plain.startswith("Not in a network namespace: ports ")
    assert str(everywhere) in plain
    (denied,) = exposure(supervisor(problem="Operation not permitted"))
    assert denied.startswith("Not in a network namespace (Operation not permitted): ports ")


def test_in_a_namespace_or_without_listeners_there_is_nothing_to_say(everywhere: int) -> None:
    assert exposure(supervisor(netns="/proc/1/ns/net")) == ()
    assert exposure(supervisor(processes=lambda: ())) == ()
