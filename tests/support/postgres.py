"""PostgreSQL of the Debian package, started for a test in a folder of its own; as another user where we are root."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

WAIT_S = 60
OTHER_USER = "postgres"


@dataclass(frozen=True)
class Server:
    """A running server, on loopback and on a socket in its folder."""

    port: int
    sockets: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str:
        """The URL of a database that is empty."""
        import psycopg

        name = f"history_{next(self.numbers)}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="tester", autocommit=True, dbname="postgres"
        ) as own:
            own.execute(f"CREATE DATABASE {name}")
        return f"postgresql://tester@127.0.0.1:{self.port}/{name}"

    def url_with(self, *, user: str, password: str) -> str:
        """A URL that carries a password."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/postgres"


def _tool(name: str) -> str:
    """The newest installed version's tool: Debian does not put them into the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    tool = str(found[-1]) if found else shutil.which(name)
    assert tool, f"{name} is missing: apt-get install postgresql (make test-full does)"
    return tool


def _run(command: Sequence[str | Path], folder: Path) -> None:
    user = OTHER_USER if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} failed with {done.returncode}; see {folder}"


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server_in(folder: Path) -> Iterator[Server]:
    """Start a server below `folder`, and stop it."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mooncake-postgres-") as made:  # another user cannot enter pytest's folder
        home = Path(made)
        if os.geteuid() == 0:
            other = pwd.getpwnam(OTHER_USER)
            os.chown(home, other.pw_uid, other.pw_gid)
        data, log = home / "data", home / "log"
        _run([_tool("initdb"), "-D", data, "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8"], home)
        port = _free_port()
        options = f"-h 127.0.0.1 -p {port} -k {home} -c fsync=off -c max_connections=40"
        _run([_tool("pg_ctl"), "-D", data, "-l", log, "-w", "-t", str(WAIT_S), "-o", options, "start"], home)
        try:
            yield Server(port=port, sockets=home)
        finally:
            _run([_tool("pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop"], home)
            with contextlib.suppress(OSError):
                shutil.copy(log, folder / "postgres.log")
