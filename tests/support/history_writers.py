"""A writer of a history as a process of its own: `python -m … URL NAME COUNT [stop]`."""

from __future__ import annotations

import os
import signal
import sys

from pytest_mooncake.history import store
from pytest_mooncake.history.sql import rows
from pytest_mooncake.history.store import open_history
from tests.support.made_runs import made_run

EACH = 5
WRITERS = 8


def write(url: str, name: str, count: int) -> None:
    """Open the history and add runs, one transaction each."""
    with open_history(url) as history:
        for number in range(count):
            history.add(made_run(f"{name}-{number}"))


def write_and_stop_halfway(url: str, name: str) -> None:
    """Add one run, stand still within its transaction once it is inserted, and say so."""
    insert = rows.insert_run

    def insert_and_stop(*arguments: object) -> None:
        insert(*arguments)  # type: ignore[arg-type]
        sys.stdout.write("inserted\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGSTOP)

    vars(store)["insert_run"] = insert_and_stop
    write(url, name, 1)


if __name__ == "__main__":
    given_url, given_name, given_count = sys.argv[1:4]
    if sys.argv[4:] == ["stop"]:
        write_and_stop_halfway(given_url, given_name)
    else:
        write(given_url, given_name, int(given_count))
