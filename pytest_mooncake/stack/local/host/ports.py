"""Free ports, from below the range that outgoing connections are given theirs from."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

from pytest_mooncake.errors import StackError

__all__ = ["free_ports", "is_free"]

LOWEST, HIGHEST = 15000, 32000
"""Above Mooncake's own data ports (12300-14300), below Linux's ephemeral ports (32768 and up): a client's outgoing
connection must not take the port of an engine that needs 10 s until it listens."""
TRIES = 2000


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback, or of all interfaces."""
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(
    count: int, *, rng: random.Random | None = None, free: Callable[[int], bool] = is_free
) -> tuple[int, ...]:
    """`count` different free ports.

    Raises:
        StackError: Nearly all ports of the range are taken.
    """
    rng = rng or random.SystemRandom()
    found: dict[int, None] = {}
    for _ in range(TRIES):
        if len(found) == count:
            break
        port = rng.randrange(LOWEST, HIGHEST)
        if port not in found and free(port):
            found[port] = None
    if len(found) < count:
        raise StackError(f"only {len(found)} of {count} ports needed are free between {LOWEST} and {HIGHEST}")
    return tuple(found)
