"""Free ports."""

from __future__ import annotations

import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import StackError
from pytest_mooncake.stack.local.host.ports import HIGHEST, LOWEST, free_ports, is_free


@given(st.integers(0, 40), st.integers())
def test_ports_differ_and_lie_in_the_range_that_nothing_else_draws_from(count: int, seed: int) -> None:
    ports = free_ports(count, rng=random.Random(seed), free=lambda _: True)
    assert len(set(ports)) == count
    assert all(LOWEST <= port < HIGHEST for port in ports)


def test_a_taken_port_is_passed_over() -> None:
    seen: list[int] = []

    def free(port: int) -> bool:
        seen.append(port)
        return len(seen) > 3

    assert free_ports(1, rng=random.Random(1), free=free) == (seen[3],)


def test_a_machine_without_free_ports_is_reported() -> None:
    with pytest.raises(StackError, match="only 0 of 3 ports"):
        free_ports(3, free=lambda _: False)


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_a_port_on_which_somebody_listens_is_not_free(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        assert not is_free(server.getsockname()[1])
